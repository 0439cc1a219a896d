"""The anchor's files and addresses, without the anchor."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from benchmarks.runtime import triton


def peers(folder: Path) -> Path:
    """As install_peers.sh leaves it, with a server that ends at once."""
    server = folder / "triton" / "pytriton" / "tritonserver"
    (server / "bin").mkdir(parents=True)
    (server / "bin" / "tritonserver").write_text("#!/bin/sh\necho no models >&2\nexit 3\n")
    (server / "bin" / "tritonserver").chmod(0o755)
    (server / "backends" / "python").mkdir(parents=True)
    stub = server / "python_backend_stubs" / "3.11"
    stub.mkdir(parents=True)
    (stub / "triton_python_backend_stub").write_bytes(b"stub")
    (folder / "stub" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    (folder / "stub" / "pyvenv.cfg").write_text("home = /opt/python/bin\nversion = 3.11\n")
    return folder


def test_it_is_installed_when_server_and_stub_are(tmp_path: Path) -> None:
    """Half an installation is none: the rows then say that they were not measured."""
    assert not triton.is_installed(tmp_path)
    assert triton.is_installed(peers(tmp_path))


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The end of its log is in the error, and its models' files are where it looks for them."""
    made = peers(tmp_path / "peers")
    model = triton.onnx_model("small", tmp_path / "a.onnx", [1, 64], [1, 10], made)
    with (
        pytest.raises(RuntimeError, match="no models"),
        triton.serve(tmp_path / "run", [model], peers=made),
    ):
        raise AssertionError("it is not ready")
    config = (tmp_path / "run" / "repository" / "small" / "config.pbtxt").read_text()
    assert config.startswith('name: "small"\nbackend: "python"\n')
    code = (tmp_path / "run" / "repository" / "small" / "1" / "model.py").read_text()
    assert str(made / "stub") in code
    assert (tmp_path / "run" / "backends" / "python" / "triton_python_backend_stub").is_file()


def test_an_anchor_that_does_not_start_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows beside it are measured all the same, and why it is missing is told."""

    def fails(folder: Path, models: object) -> None:
        raise RuntimeError(f"no ports for {folder.name}")

    monkeypatch.setattr(triton, "serve", fails)
    with contextlib.ExitStack() as held:
        monkeypatch.setattr(triton, "is_installed", lambda: True)
        assert triton.offered(held, tmp_path / "triton", []) is None
        assert "no ports for triton" in capsys.readouterr().err
        monkeypatch.setattr(triton, "is_installed", lambda: False)
        assert triton.offered(held, tmp_path / "triton", []) is None
