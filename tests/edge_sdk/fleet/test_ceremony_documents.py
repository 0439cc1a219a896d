"""A ceremony's folder comes from other people: whatever is in it is shown, signed or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_sdk import trust
from edge_sdk.base import EdgeError, FormatError, NotFoundError, RefusedError
from edge_sdk.fleet import ceremony as ceremonies
from edge_sdk.fleet import cli_ceremony as commands
from edge_sdk.fleet.ceremony_checks import shown_key
from tests.support.artifacts import make_artifact
from tests.support.trust import SignedFleet, new_key

FLEET = SignedFleet()
FLEET.publish(make_artifact({"m.bin": b"x"}).document, floor="1.0.0")
NEXT_ROOT = trust.edited(trust.verify_root(FLEET.root, None), expires=FLEET.at + trust.LONG)
NEXT_TARGETS = trust.edited(FLEET.targets_of(), expires=FLEET.at + trust.LONG)
DRAFTED = {
    "before/1.root.json": FLEET.root,
    "before/1.targets.json": FLEET.files["1.targets.json"],
    "2.root.json": trust.sign(NEXT_ROOT, []),
    "2.targets.json": trust.sign(NEXT_TARGETS, []),
    "2.ns_team.json": FLEET.files["2.ns_team.json"],
}
DEEP = "[" * 5000 + "]" * 5000


class Keys:
    """Everybody's: whatever may be signed is."""

    def signers(self, role: str, key_ids: list[str]) -> list[Any]:
        every = [*FLEET.root_keys, FLEET.targets_key, *FLEET.publishers.values()]
        return [one for one in every if one.public_key.keyid in key_ids]

    def root(self) -> bytes | None:
        return FLEET.root


def go_through(folder: Path) -> None:
    """All that show, sign and submit do with it but for the network."""
    drafted = ceremonies.open_folder(folder)
    for document in drafted.documents.values():
        json.dumps(commands._keys_in(document))
    commands._state(drafted)
    commands._show(drafted)
    signed = drafted.signed_by(Keys())
    ceremonies.write(signed, folder, replace=True)
    signed.files()


def written(folder: Path, documents: dict[str, str]) -> Path:
    """Unsigned but for what a test put into them."""
    for name, text in documents.items():
        place = folder / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, "utf-8", "surrogatepass")
    return folder


def originals() -> dict[str, str]:
    """What a drafter hands on, nothing of it signed yet."""
    found = {name: json.loads(data) for name, data in DRAFTED.items()}
    return {
        name: json.dumps(said if name.startswith("before") else {**said, "signatures": []})
        for name, said in found.items()
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


PLACES = [(name, path) for name in DRAFTED for path in places(json.loads(originals()[name]))]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=5)
    | st.sampled_from(["root", "ns_team", "team/*/*/*", "2030-01-01T00:00:00Z", "ed25519"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def go_on(folder: Path) -> None:
    with suppress(EdgeError):
        go_through(folder)


def test_as_it_was_drafted(tmp_path: Path) -> None:
    """What is not touched is signed and complete; the first half of a ceremony needs no folder
    of what was before."""
    go_through(written(tmp_path, originals()))
    (tmp_path / "before" / "1.root.json").unlink()
    (tmp_path / "before" / "1.targets.json").unlink()
    (tmp_path / "before").rmdir()
    assert ceremonies.open_folder(tmp_path).root_before is None
    with pytest.raises(NotFoundError, match="no folder"):
        ceremonies.open_folder(tmp_path / "none")


@given(where=st.sampled_from(PLACES), new=ANYTHING, added=st.booleans())
@example(where=("2.root.json", ("signed",)), new=0.5, added=True)
@example(where=("2.ns_team.json", ("signed", "targets")), new={"custom": 1}, added=False)
def test_any_value_anywhere(
    tmp_path_factory: pytest.TempPathFactory,
    where: tuple[str, tuple[Any, ...]],
    new: Any,
    added: bool,
) -> None:
    """Whatever stands in any place of any document, or is added there: it is shown and signed,
    or a typed error."""
    name, path = where
    documents = originals()
    said = json.loads(documents[name])
    there = said
    for one in path:
        there = there[one]
    if added and isinstance(there, dict):
        new = {**there, "x": new}
    elif added and isinstance(there, list):
        new = [*there, new]
    documents[name] = json.dumps(changed(said, path, new))
    go_on(written(tmp_path_factory.mktemp("c"), documents))


def _without_its_keys(said: dict[str, Any]) -> None:
    said["signed"]["keys"] = {}


def _role_without_name(said: dict[str, Any]) -> None:
    said["signed"]["delegations"]["roles"][0]["name"] = True


def _custom_that_is_none(said: dict[str, Any]) -> None:
    next(iter(said["signed"]["targets"].values()))["custom"] = 3


def _fraction(said: dict[str, Any]) -> None:
    said["signed"]["x"] = [0.5]


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("2.root.json", _without_its_keys, "names a key that it does not hold"),
        ("2.targets.json", _role_without_name, "a role without a name"),
        ("2.ns_team.json", _custom_that_is_none, "custom fields are none"),
        *((one, _fraction, "cannot be signed as it is") for one in DRAFTED),
    ],
)
def test_what_cannot_be_signed(
    tmp_path: Path, name: str, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    """It is said which document, and what is wrong with it."""
    documents = originals()
    said = json.loads(documents[name])
    change(said)
    written(tmp_path, {**documents, name: json.dumps(said)})
    with pytest.raises(FormatError, match=match):
        go_through(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "1" * 9999, DEEP, '{"signed": ' + DEEP + "}", "\ud800"])
@pytest.mark.parametrize("name", DRAFTED)
def test_no_document_at_all(tmp_path: Path, name: str, text: str) -> None:
    """Nothing, another thing, a number of thousands of digits, a tower of lists: FormatError."""
    written(tmp_path, {**originals(), name: text})
    with pytest.raises(FormatError):
        go_through(tmp_path)


@given(said=st.dictionaries(st.sampled_from(["keyid", "keytype", "scheme", "keyval"]), ANYTHING))
@example(said={"keyid": "a", "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": 0.5}})
@example(said={"keyid": "a", "keytype": "x", "scheme": "x", "keyval": {"public": "\ud800"}})
def test_any_public_key(tmp_path_factory: pytest.TempPathFactory, said: dict[str, Any]) -> None:
    """What somebody calls a public key can be shown, or is refused."""
    file = tmp_path_factory.mktemp("k") / "key.json"
    file.write_text(json.dumps(said))
    with suppress(EdgeError):
        shown_key(commands.read_public(file))


@pytest.mark.parametrize("text", ["", "[]", "7", DEEP])
def test_no_key_and_no_list_of_keys(tmp_path: Path, text: str) -> None:
    """Another thing than a key is a FormatError, and so is another than a list of them."""
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(FormatError):
        commands.read_public(tmp_path / "key.json")
    with pytest.raises(FormatError):
        trust.read_key_list(tmp_path / "key.json")


def test_nobody_is_asked_where_nothing_is_wanted(tmp_path: Path) -> None:
    """Whose signature is not wanted, or is there already, hears it before anything else."""
    drafted = ceremonies.open_folder(written(tmp_path, originals()))
    stranger = new_key().public_key
    with pytest.raises(RefusedError, match="none of these keys is wanted"):
        drafted.check_wanted(lambda _role: [stranger])
    publisher = FLEET.publishers["team"].public_key
    held = {"ns_team": [publisher]}
    drafted.check_wanted(lambda role: held.get(role, []))
    with pytest.raises(RefusedError, match="signed already"):
        drafted.signed_by(Keys()).check_wanted(lambda role: held.get(role, []))
