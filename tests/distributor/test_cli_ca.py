"""``edge-distributor ca``: authorities are shown, added and retired, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from distributor.cli import cli
from distributor.identity import IdentityFolder, make_authority
from distributor.identity.authority import key_pem
from edge_sdk.base import EdgeError, NotFoundError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    IdentityFolder(tmp_path).create()
    return tmp_path


def _ca(data: Path, *arguments: str) -> dict[str, object]:
    run = CliRunner().invoke(
        cli, ["ca", arguments[0], "--data", str(data), "--json", *arguments[1:]]
    )
    if isinstance(run.exception, EdgeError):
        raise run.exception
    assert run.exit_code == 0, run.output
    found: dict[str, object] = json.loads(run.stdout)
    return found


def test_one_after_the_other(data: Path, tmp_path: Path) -> None:
    """One is added, one is given, the oldest is retired."""
    (first,) = _ca(data, "show")["authorities"]  # type: ignore[misc]
    second = _ca(data, "add")["fingerprint"]
    given = make_authority()
    (tmp_path / "c.pem").write_bytes(given.certificate)
    (tmp_path / "k.pem").write_bytes(key_pem(given.key))
    files = ["--certificate", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem")]
    assert _ca(data, "add", *files)["fingerprint"] == given.fingerprint
    assert _ca(data, "retire", first["fingerprint"][:12])["retired"] == first["fingerprint"]
    shown = _ca(data, "show")["authorities"]
    assert [one["fingerprint"] for one in shown] == [second, given.fingerprint]  # type: ignore[attr-defined]
    table = CliRunner().invoke(cli, ["ca", "show", "--data", str(data)]).stdout
    assert "listeners" in table
    assert "signs" in table
    assert "PRIVATE" not in table


def test_what_cannot_be(data: Path, tmp_path: Path) -> None:
    """No distributor there, half a pair of files, or a file that is none: named at once."""
    with pytest.raises(NotFoundError, match="init"):
        _ca(tmp_path / "nowhere", "add")
    for wrong in (["--certificate", "c.pem"], ["--certificate", "no.pem", "--key", "no.pem"]):
        with pytest.raises(EdgeError):
            _ca(data, "add", *wrong)
    with pytest.raises(NotFoundError):
        _ca(data, "retire", "ffff")
