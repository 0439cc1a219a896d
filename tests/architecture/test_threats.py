"""The threat model and the tests of its attacks name each other."""

from __future__ import annotations

import re

from tests.support.source_tree import ROOT

ATTACKS = ROOT / "tests" / "attacks"
PAGE = "docs/security.md"
_PLAYS = re.compile(
    r"from tests\.(attacks\.conftest|support\.attacked_device) import|@pytest\.mark\.attacks"
)


def named() -> set[str]:
    return set(re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py)`", (ROOT / PAGE).read_text("utf-8")))


def test_every_named_test_exists() -> None:
    """Whoever reads that something is tested can look at the test."""
    found = {name: ATTACKS / name if "/" not in name else ROOT / name for name in named()}
    assert found
    assert [name for name, path in found.items() if not path.is_file()] == []


def test_every_attack_on_trust_is_in_the_table() -> None:
    """An attack that is played is an attack that is told."""
    played = {
        path.name for path in ATTACKS.glob("test_*.py") if _PLAYS.search(path.read_text("utf-8"))
    }
    assert len(played) > 12
    assert played - named() == set()


def test_every_attack_has_its_control() -> None:
    """A test that passes because the attack was none is found by its control."""
    without = [
        path.name
        for path in ATTACKS.glob("test_*.py")
        if _PLAYS.search(path.read_text("utf-8"))
        and "\ndef test_control" not in path.read_text("utf-8")
    ]
    assert without == []


def test_every_control_is_used() -> None:
    """And each takes out something that a test names."""
    text = "".join(path.read_text("utf-8") for path in ATTACKS.glob("test_*.py"))
    seams = (ROOT / "tests/support/controls/sitecustomize.py").read_text("utf-8")
    table = seams[seams.index("CONTROLS: dict") :]
    names = re.findall(r'^    "([\w ]+)": \(', table, re.MULTILINE)
    assert names
    assert [name for name in names if not re.search(rf'["\',]{name}["\',]', text)] == []
