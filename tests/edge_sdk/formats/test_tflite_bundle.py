"""TFLite models within other files: where they are found, and what only looks like one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.formats import flatbuffer
from tests.support.tensor_maps import contents, opened
from tests.support.tflite_models import INT8, Weights, add_model

W = np.arange(4, dtype=np.float32)
V = np.arange(7, dtype=np.int8)
ONE = add_model([Weights("w", W)])
TWO = add_model([Weights("v", V, INT8)])
APPENDED = add_model([Weights("v", V, INT8)], append=True)


@pytest.mark.parametrize("before", [b"x", b"firmware" * 99, b"...TFL3....TFL3"])
@pytest.mark.parametrize("second", [TWO, APPENDED])
def test_models_are_found_at_any_offset(tmp_path: Path, before: bytes, second: bytes) -> None:
    """Two models between other bytes, the second told by its number."""
    found = opened(tmp_path, before + ONE + b"between" + second + b"behind")
    assert (found.format, found.external_files, found.facts) == ("tflite_bundle", (), None)
    assert contents(found) == {"w": W.tobytes(), "model1/v": V.tobytes()}


@pytest.mark.parametrize("second", [TWO, APPENDED])
def test_models_behind_a_model_are_found(tmp_path: Path, second: bytes) -> None:
    """The file stays the model that it begins as, with that one's facts."""
    found = opened(tmp_path, ONE + b"odd" + second)
    assert found.format == "tflite"
    assert contents(found) == {"w": W.tobytes(), "model1/v": V.tobytes()}
    assert found.facts == opened(tmp_path, ONE).facts


def test_a_bundle_of_a_task_is_one(tmp_path: Path) -> None:
    """A ZIP file that stores its models; one that packs them shows nothing."""
    for way, names in ((zipfile.ZIP_STORED, {"w", "model1/v"}), (zipfile.ZIP_DEFLATED, set())):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", way) as archive:
            archive.writestr("one.tflite", ONE)
            archive.writestr("two.tflite", TWO)
        assert contents(opened(tmp_path, out.getvalue())).keys() - {""} == names


def test_damaged_models_within_are_passed_over(tmp_path: Path) -> None:
    """What is no model hides none that follows, and a file of nothing else is opaque."""
    damaged = bytearray(TWO)
    damaged[:4] = b"\xff" * 4
    assert opened(tmp_path, b"x" + damaged).format == "opaque"
    assert contents(opened(tmp_path, b"x" + damaged + ONE)) == {"w": W.tobytes()}
    assert contents(opened(tmp_path, ONE + damaged)) == {"w": W.tobytes()}


def test_a_model_that_is_cut_within_is_no_error(tmp_path: Path) -> None:
    """At every byte: ranges inside of the file, or none."""
    for length in range(len(ONE)):
        found = opened(tmp_path, b"x" + ONE[:length])
        assert found.format in ("tflite_bundle", "opaque")
        assert all(one.end <= 1 + length for one in found.tensors)


def test_external_buffers_of_models_within_are_left_out(tmp_path: Path) -> None:
    """Their names are of another folder than the bundle's."""
    (tmp_path / "weights").write_bytes(W.tobytes())
    outside = add_model([Weights("w", W, external=("weights", 0)), Weights("v", V, INT8)])
    found = opened(tmp_path, b"x" + outside)
    assert (contents(found), found.external_files) == ({"v": V.tobytes()}, ())


def test_what_looks_like_models_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries are charged, all together."""
    content = b"x" + b"\xff\xff\xff\xffTFL3" * 100 + ONE
    assert len(opened(tmp_path, content).tensors) == 1
    monkeypatch.setattr("edge_sdk.formats.tflite.VISITS_MAX", 50_000)
    assert opened(tmp_path, content).format == "opaque"
    assert flatbuffer.VISITS_MAX == 1_000_000
