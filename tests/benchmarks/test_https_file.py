"""The plain way of delivery: real HTTPS, a real proof."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.https_file import HttpsServer, download_and_load, make_certificate
from demo import graph, mlp


def test_a_model_comes_over_https_is_proved_and_loaded(tmp_path: Path) -> None:
    """What arrives is the file that was asked for; a wrong digest is refused."""
    served = tmp_path / "served"
    served.mkdir()
    graph.write_model(mlp.fresh((4, 8, 2), seed=1), served / "m.onnx")
    data = (served / "m.onnx").read_bytes()
    certificate = tmp_path / "certificate.pem"
    make_certificate(certificate)
    assert certificate.stat().st_mode & 0o077 == 0
    sha256 = hashlib.sha256(data).hexdigest()
    with HttpsServer(served, certificate) as server:
        got = tmp_path / "got.onnx"
        downloaded = download_and_load(server.address, "m.onnx", sha256, certificate, got)
        assert got.read_bytes() == data
        assert 0 < downloaded.load_s < downloaded.seconds
        with pytest.raises(ValueError, match="not those that were asked for"):
            download_and_load(server.address, "m.onnx", "0" * 64, certificate, got)
