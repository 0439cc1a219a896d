"""Targets are data files, checked when they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.base import FormatError, NotFoundError
from quantize.profiles import load_profile, profile_names
from quantize.profiles.profile import read_profile

FOLDER = Path(__file__).parents[3] / "quantize" / "profiles"


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_reads(name: str) -> None:
    """Each file of the folder is a profile that bears its file's name."""
    profile = load_profile(name)
    assert profile.name == name
    assert 0 < profile.opset_min <= profile.opset_max
    assert profile.calibration_batch > 0


def test_x86_reaches_the_oldest_devices() -> None:
    """x86 CPUs get unsigned activations and 7-bit weights, at versions that Python 3.10 loads."""
    profile = load_profile("onnx-cpu-x86")
    assert (profile.activations, profile.weights, profile.reduce_range) == ("uint8", "int8", True)
    assert (profile.ir_version_max, profile.opset_max) == (11, 23)


@pytest.mark.parametrize("name", ["", "none", "../profiles/onnx-cpu-x86", "onnx-cpu-x86.toml"])
def test_unknown_targets_are_told(name: str) -> None:
    """An unknown target is named, with those that exist; paths are no names."""
    with pytest.raises(NotFoundError, match=r"there are: .*onnx-cpu-x86"):
        load_profile(name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('weights = "int8"', 'weights = "int3"'), "weights"),
        (("per_channel = true", "per_channel = 1"), "per_channel"),
        (("opset_max = 23", ""), "opset_max"),
        (("opset_max = 23", "opset_max = 23\ntypo = 1"), "typo"),
        (('name = "onnx-cpu-x86"', 'name = "other"'), "calls itself"),
        (('name = "onnx-cpu-x86"', "name = "), "onnx-cpu-x86.toml"),
    ],
)
def test_damaged_profiles_are_refused(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """A profile with a wrong, missing or unknown field is refused, and the field is named."""
    text = (FOLDER / "onnx-cpu-x86.toml").read_text()
    assert change[0] in text
    path = tmp_path / "onnx-cpu-x86.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(FormatError, match=says):
        read_profile(path)
