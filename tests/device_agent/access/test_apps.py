"""Apps have tokens, of which only the digest is kept."""

from __future__ import annotations

import itertools
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from device_agent.access import ROLES, AppTokens, own_token
from edge_sdk.base import ConflictError, FormatError, NotFoundError, TrustError, UsageError


class Clock:
    """Tells what it was set to."""

    now_s = 7.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path) -> AppTokens:
    """Looks at the files with every call."""
    return AppTokens(tmp_path, itertools.count(7).__next__)


def test_a_token_has_the_roles_it_was_given(tokens: AppTokens) -> None:
    """Those and no others; a token that nobody was given has none."""
    camera = tokens.add("camera", ["infer"])
    wall = tokens.add("wall", ["observe", "infer"])
    assert tokens.roles_of(camera) == {"infer"}
    assert tokens.roles_of(wall) == {"infer", "observe"}
    for wrong in ("", "edge-app.", camera[:-1], camera + "x", camera.upper(), "\udcff"):
        assert tokens.roles_of(wrong) == set()
    assert [(one.name, one.roles) for one in tokens.apps()] == [
        ("camera", ("infer",)),
        ("wall", ("infer", "observe")),
    ]


def test_the_file_does_not_have_it(tokens: AppTokens, tmp_path: Path) -> None:
    """Whoever reads the file cannot ask with it, and only the owner can read it."""
    token = tokens.add("camera", ["infer"])
    path = tmp_path / "apps.json"
    text = path.read_text()
    assert token not in text
    assert token.removeprefix("edge-app.") not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    digest = tokens.apps()[0].digest
    assert tokens.roles_of(digest) == set()


def test_others_changes_are_seen_in_time(tokens: AppTokens, tmp_path: Path, clock: Clock) -> None:
    """What another process adds counts at once, what it removes within 50 ms."""
    asked = AppTokens(tmp_path, clock)
    first = tokens.add("camera", ["infer"])
    assert asked.roles_of(first) == {"infer"}
    second = tokens.add("wall", ["observe"])
    assert asked.roles_of(second) == {"observe"}
    assert asked.roles_of("edge-app.nobodys") == set()
    assert asked.roles_of(first) == {"infer"}
    tokens.remove("camera")
    clock.now_s += 0.049
    assert asked.roles_of(first) == {"infer"}
    clock.now_s += 0.002
    assert (asked.roles_of(first), asked.roles_of(second)) == (set(), {"observe"})


def test_removed_is_out(tokens: AppTokens, tmp_path: Path, clock: Clock) -> None:
    """At once for whoever removes it; in other processes as soon as they look."""
    own = AppTokens(tmp_path, clock)
    mine = own.add("wall", ["infer"])
    assert own.roles_of(mine) == {"infer"}
    own.remove("wall")
    assert own.roles_of(mine) == set()
    asked = AppTokens(tmp_path, itertools.count(7).__next__)
    token = tokens.add("camera", ["infer"])
    assert asked.roles_of(token) == {"infer"}
    tokens.remove("camera")
    assert asked.roles_of(token) == set()
    with pytest.raises(NotFoundError):
        tokens.remove("camera")
    again = tokens.add("camera", ["control"])
    assert again != token
    assert (asked.roles_of(token), asked.roles_of(again)) == (set(), {"control"})


def test_names_and_roles_are_checked(tokens: AppTokens) -> None:
    """One app of a name, with a role that there is."""
    tokens.add("camera", ["infer"])
    with pytest.raises(ConflictError):
        tokens.add("camera", ["infer"])
    with pytest.raises(UsageError):
        tokens.add("other", [])
    with pytest.raises(UsageError):
        tokens.add("other", ["root"])  # type: ignore[list-item]
    with pytest.raises(FormatError):
        tokens.add("No Name", ["infer"])
    assert len(tokens.apps()) == 1


def test_two_who_add_at_once(tmp_path: Path) -> None:
    """Nobody's app is lost."""

    def add(number: int) -> str:
        return AppTokens(tmp_path).add(f"app-{number}", ["infer"])

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(add, range(24)))
    tokens = AppTokens(tmp_path)
    assert all(tokens.roles_of(token) == {"infer"} for token in made)


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b'{"format":2,"apps":[]}', b"\xff" * 100])
def test_a_damaged_file_admits_nobody(tokens: AppTokens, tmp_path: Path, damage: bytes) -> None:
    """It is an error for whoever changes it, and no way in for anybody."""
    token = tokens.add("camera", ["infer"])
    (tmp_path / "apps.json").write_bytes(damage)
    assert tokens.roles_of(token) == set()
    with pytest.raises(FormatError):
        tokens.add("other", ["infer"])


def test_a_file_that_others_may_write_admits_nobody(tokens: AppTokens, tmp_path: Path) -> None:
    """They could have added themselves."""
    token = tokens.add("camera", ["infer"])
    (tmp_path / "apps.json").chmod(0o660)
    assert tokens.roles_of(token) == set()
    with pytest.raises(TrustError, match="chmod 600"):
        tokens.apps()
    (tmp_path / "apps.json").chmod(0o600)
    assert tokens.roles_of(token) == {"infer"}


def test_the_agents_own(tokens: AppTokens, tmp_path: Path) -> None:
    """Its own commands have a token in a file of the owner's; it stays the same."""
    assert own_token(tmp_path) == ""
    token = own_token(tmp_path, make=True)
    assert token == own_token(tmp_path, make=True) == own_token(tmp_path)
    assert tokens.roles_of(token) == set(ROLES)
    assert stat.S_IMODE((tmp_path / "own.token").stat().st_mode) == 0o600
    (tmp_path / "own.token").unlink()
    assert tokens.roles_of(token) == set()


def test_an_empty_own_token_is_none(tokens: AppTokens, tmp_path: Path) -> None:
    """A file that was cut off gives nobody, least of all an empty token, a way in."""
    own_token(tmp_path, make=True)
    os.truncate(tmp_path / "own.token", 0)
    assert tokens.roles_of("") == set()
    assert len(own_token(tmp_path, make=True)) > 40
