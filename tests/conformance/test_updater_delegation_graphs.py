"""Which roles are asked for a target, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import Repository

# By name: (delegator, role[, options]) in order of appearance; the roles visited.
Edge = tuple[str, str] | tuple[str, str, dict[str, object]]
ONLY_PY: dict[str, object] = {"paths": ["*.py"]}
LAST: dict[str, object] = {"terminating": True}
GRAPHS: dict[str, tuple[Sequence[Edge], str]] = {
    "basic-delegation": ([("targets", "A")], "A"),
    "single-level-delegations": ([("targets", "A"), ("targets", "B")], "AB"),
    "two-level-delegations": ([("targets", "A"), ("targets", "B"), ("B", "C")], "ABC"),
    "two-level-test-DFS-order-of-traversal": (
        [("targets", "A"), ("targets", "B"), ("A", "C"), ("A", "D")],
        "ACDB",
    ),
    "three-level-delegation-test-DFS-order-of-traversal": (
        [("targets", "A"), ("targets", "B"), ("A", "C"), ("C", "D")],
        "ACDB",
    ),
    "two-level-terminating-ignores-all-but-roles-descendants": (
        [("targets", "A"), ("targets", "B"), ("A", "C", LAST), ("A", "D")],
        "AC",
    ),
    "three-level-terminating-ignores-all-but-roles-descendants": (
        [("targets", "A"), ("targets", "B"), ("A", "C", LAST), ("C", "D")],
        "ACD",
    ),
    "two-level-ignores-all-branches-not-matching-paths": (
        [("targets", "A", ONLY_PY), ("targets", "B"), ("A", "C")],
        "B",
    ),
    "three-level-ignores-all-branches-not-matching-paths": (
        [("targets", "A"), ("targets", "B"), ("A", "C", ONLY_PY), ("C", "D")],
        "AB",
    ),
    "cyclic-graph": (
        [("targets", "A"), ("targets", "B"), ("B", "C"), ("C", "D"), ("D", "B")],
        "ABCD",
    ),
    "two-roles-delegating-to-a-third": (
        [("targets", "A"), ("targets", "B"), ("B", "C"), ("A", "C")],
        "ACB",
    ),
    "two-roles-delegating-to-a-third-different-paths": (
        [("targets", "A"), ("targets", "B"), ("B", "C"), ("A", "C", ONLY_PY)],
        "ABC",
    ),
}


def build(repository: Repository, edges: Sequence[Edge]) -> None:
    """A role that two others delegate to has their two keys, and both sign it."""
    for edge in edges:
        by, role, *options = edge
        repository.delegate(by, role, **(options[0] if options else {}))  # type: ignore[arg-type]
    roles = dict.fromkeys(edge[1] for edge in edges)
    repository.release(*roles, "targets")


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_traversal(client: ClientRig, name: str) -> None:
    """Preorder, in order of appearance, each role once, none beyond a terminating one."""
    edges, visited = GRAPHS[name]
    build(client.repository, edges)
    assert client.download("missing") is None
    assert client.repository.asked[4:] == [f"1.{role}.json" for role in visited]


TREE: Sequence[Edge] = [
    ("targets", "A", {"paths": ["*.doc", "*.md"]}),
    ("targets", "B", {"paths": ["releases/*/*"]}),
    ("B", "C", {"paths": ["releases/x/*"]}),
    ("B", "D", {"paths": ["releases/y/*.zip"]}),
]
TARGETS = {
    "targetfile": "targets",
    "README.md": "A",
    "releases/x/x_v1": "C",
    "releases/y/y_v1.zip": "D",
    "releases/z/z_v1.zip": "D",
    "other/README.md": "A",
    "releases/x/deep/x_v1": "C",
    "releases/y/y_v1.tar": "D",
    "notes.txt": "A",
}


@pytest.mark.parametrize(
    ("path", "visited", "found"),
    [
        ("targetfile", "", True),
        ("README.md", "A", True),
        ("releases/x/x_v1", "BC", True),
        ("releases/y/y_v1.zip", "BD", True),
        ("releases/z/z_v1.zip", "B", False),  # not every role on the way delegates it
        ("other/README.md", "", False),  # a star never matches a slash
        ("releases/x/deep/x_v1", "", False),
        ("releases/y/y_v1.tar", "B", False),
        ("notes.txt", "", False),
    ],
)
def test_targetfile_search(client: ClientRig, path: str, visited: str, found: bool) -> None:
    """A target counts only where every delegation on the way has its path."""
    for target, role in TARGETS.items():
        if role != "targets" and role not in client.repository.roles:
            continue
        if role == "targets":
            client.repository.add(target, target.encode())
    for edge in TREE:
        by, role, *options = edge
        client.repository.delegate(by, role, **options[0])  # type: ignore[arg-type]
    for target, role in TARGETS.items():
        if role != "targets":
            client.repository.add(target, target.encode(), role)
    client.repository.release("A", "B", "C", "D", "targets")
    assert client.download(path) == (path.encode() if found else None)
    roles = [name for name in client.repository.asked[4:] if name.endswith(".json")]
    assert roles == [f"1.{role}.json" for role in visited]


def test_cached_role_is_verified_against_current_delegator(client: ClientRig) -> None:
    """Two roles delegate to a third, with different keys: whoever leads there must agree."""
    repository = client.repository
    repository.delegate("targets", "A", ["*.a"])
    repository.delegate("targets", "B", ["*.b"])
    repository.delegate("A", "C")
    only_a = list(repository.keys["C"])
    repository.delegate("B", "C")
    repository.keys["C"] = only_a
    for path in ("file.a", "file.b"):
        repository.add(path, path.encode(), "C")
    repository.release("C", "A", "B", "targets")
    assert client.download("file.a") == b"file.a"
    assert client.download("file.b") is None


def test_delegation_not_in_snapshot(client: ClientRig) -> None:
    """A role that the snapshot does not list is not asked for."""
    client.repository.delegate("targets", "A")
    client.repository.publish("A")
    del client.repository.roles["snapshot"].meta["A.json"]
    client.repository.release("targets")
    assert client.download("missing") is None
    assert "1.A.json" not in client.repository.asked


def test_hash_bins(client: ClientRig) -> None:
    """A target is looked for in its own bin, and in no other."""
    client.repository.delegate_bins("targets", "bin", 3)
    bins = client.repository.roles["targets"].delegations.succinct_roles
    role = bins.get_role_for_target("file.txt")
    client.repository.add("file.txt", b"content", role)
    client.repository.release(*bins.get_roles(), "targets")
    assert client.download("file.txt") == b"content"
    assert client.repository.asked[4] == f"1.{role}.json"
    assert len(client.repository.asked) == 6
