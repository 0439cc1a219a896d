"""What is published is what was trained, and v3 carries the undamaged model's sample."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import pytest

from demo import digits, mlp, train
from demo.client import judge, read_expected
from demo.run import releases_of
from demo.versions import write_expected

VERSIONS = ("1.0.0", "2.0.0", "3.0.0", "4.0.0")
WIDTHS = (digits.PIXELS, 24, 16, digits.CLASSES)


def _copy(model: Path, calibration: Path, folder: Path) -> Path:
    """Stands for the quantiser, which has tests of its own."""
    assert calibration.is_file()
    folder.mkdir()
    return Path(shutil.copy(model, folder / "model.onnx"))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> train.Trained:
    monkeypatch.setattr(train, "WIDTHS", WIDTHS)
    return train.build_all(tmp_path, _copy, lambda _text: None)


def test_every_version_has_both_variants(trained: train.Trained) -> None:
    """Four versions, two variants each; only v3's published file is not what was trained."""
    assert [(one.version, one.variant) for one in trained.builds] == [
        (version, variant) for version in VERSIONS for variant in ("fp32", "int8")
    ]
    for build in trained.builds:
        same = build.model.read_bytes() == build.undamaged.read_bytes()
        assert same is (build.version != "3.0.0")
        assert build.model.name == "model.onnx"
    assert trained.weights == mlp.weight_count(mlp.fresh(WIDTHS, seed=0))


def test_versions_are_really_different(trained: train.Trained) -> None:
    """No two versions have the same weights."""
    files = {build.model.read_bytes() for build in trained.builds if build.variant == "fp32"}
    assert len(files) == len(VERSIONS)


def test_a_damaged_file_carries_the_undamaged_sample(
    trained: train.Trained, tmp_path: Path
) -> None:
    """v3 is published with what the model answered before it was damaged; v4 answers as v2."""
    releases = releases_of(trained, tmp_path)
    (v2, _), (v3, _), (v4, _) = (releases[version] for version in VERSIONS[1:])
    assert v3.prepared.manifest.golden is not None
    assert v3.prepared.manifest.golden.origin == "given"
    np.testing.assert_array_equal(v4.outputs["scores"], v2.outputs["scores"])
    assert np.abs(v3.outputs["scores"] - v2.outputs["scores"]).max() > 0
    parents = [str(releases[version][0].prepared.manifest.parent) for version in VERSIONS]
    assert parents == ["None", "1.0.0", "2.0.0", "2.0.0"]
    assert releases["1.0.0"][1].prepared.manifest.requires.accelerators == ("int8-unit",)


def test_the_client_knows_every_answer(trained: train.Trained, tmp_path: Path) -> None:
    """What the client expects are the golden outputs of each version for the same inputs."""
    releases = releases_of(trained, tmp_path)
    fp32 = [releases[version][0] for version in ("1.0.0", "2.0.0")]
    write_expected(fp32, tmp_path / "expected.npz")
    expected = read_expected(tmp_path / "expected.npz")
    np.testing.assert_array_equal(expected.pop("input")["pixels"], fp32[0].inputs["pixels"])
    for release in fp32:
        assert judge(release.version, release.outputs, expected) == ""
    assert judge("1.0.0", fp32[1].outputs, expected)
