"""Sizes of rows and columns: told where they pay, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.explain import SIZES, explain
from edge_sdk.delta.low_rank import LowRank
from tests.edge_sdk.delta.alignment.test_align import aligned
from tests.edge_sdk.delta.alignment.test_training import bits, folders
from tests.support.deltas import decoded, encoded, safetensors

KINDS = ("float32", "float16", "bfloat16")
SHAPE = (120, 160)
PLAIN = ("copy", "literal", "patch", "residual", "planes")


def trained(seed: int, unevenness: float) -> np.ndarray:
    """A matrix of which rows and columns differ in size."""
    random = np.random.default_rng(seed)
    rows, columns = (np.exp(random.normal(0, unevenness, count)) for count in SHAPE)
    return random.normal(0, 0.05, SHAPE) * rows[:, None] * columns


def versions(kind: str, unevenness: float = 0.6, *, old: int = 1) -> list[bytes]:
    """Two networks that were trained apart."""
    both = (trained(old, unevenness), trained(2, unevenness))
    return [safetensors({"w": (kind, bits(one, kind))}) for one in both]


def ranges(root: Path, files: list[bytes]) -> list[AlignedRange]:
    return aligned(root, {"m": files[0]}, {"m": files[1]})[0]


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_of_rows_and_columns_are_told(kind: str, tmp_path: Path) -> None:
    """The delta is smaller than without, and exact; the prediction is no one of values."""
    files = versions(kind)
    (found,) = ranges(tmp_path, files)
    assert not found.is_predicted
    assert found.prediction is not None
    assert isinstance(found.prediction.values, LowRank)
    assert found.prediction.values.gain == 0
    roots = folders(tmp_path, files)
    delta = encoded(*roots)
    assert decoded(delta, files[:1]) == files[1:]
    assert len(delta) < 0.995 * len(encoded(*roots, methods=PLAIN))


def test_even_sizes_are_not_told(tmp_path: Path) -> None:
    """Rows and columns that differ by chance alone are worth no factors."""
    (found,) = ranges(tmp_path, versions("float32", 0.0))
    assert found.prediction is None
    assert not found.is_predicted


def test_a_related_source_predicts_more_than_sizes(tmp_path: Path) -> None:
    """A fine-tune keeps its source, however much its rows differ."""
    before = trained(1, 0.6)
    after = before * (1 + np.random.default_rng(3).normal(0, 1e-3, SHAPE))
    files = [safetensors({"w": ("float32", bits(one, "float32"))}) for one in (before, after)]
    (found,) = ranges(tmp_path, files)
    assert found.is_predicted


def test_numbers_that_are_none_or_zero_travel_too(tmp_path: Path) -> None:
    """NaNs with payloads, infinities, and a whole row and a whole column of zeros."""
    matrix = bits(trained(2, 0.6), "float32")
    matrix[4, :], matrix[:, 9] = 0, 0
    matrix[3, 5:8] = [0x7F800001, 0xFFC0BEEF, 0xFF800000]
    old = safetensors({"w": ("float32", bits(trained(1, 0.6), "float32"))})
    files = [old, safetensors({"w": ("float32", matrix)})]
    (found,) = ranges(tmp_path, files)
    assert found.prediction is not None
    assert decoded(encoded(*folders(tmp_path, files)), files[:1]) == files[1:]


def test_large_tensors_are_told_in_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each band of whole rows has factors of its own."""
    monkeypatch.setattr("edge_sdk.delta.alignment.magnitudes._BAND_COUNT", 50 * SHAPE[1])
    files = versions("float32")
    found = ranges(tmp_path, files)
    assert [one.end - one.start for one in found] == [50 * 640, 50 * 640, 20 * 640]
    assert decoded(encoded(*folders(tmp_path, files)), files[:1]) == files[1:]


def test_items_that_are_too_large_are_told_in_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix behind an axis of one, or of few experts, takes no more memory than another."""
    monkeypatch.setattr("edge_sdk.delta.alignment.magnitudes._BAND_COUNT", 50 * SHAPE[1])
    both = (trained(1, 0.6), trained(2, 0.6))
    for shape in ((1, *SHAPE), (2, SHAPE[0] // 2, SHAPE[1])):
        one, two = (bits(values.reshape(shape), "float32") for values in both)
        files = [safetensors({"w": ("float32", stored)}) for stored in (one, two)]
        found = ranges(tmp_path / str(shape[0]), files)
        assert [one.end - one.start for one in found] == [50 * 640, 50 * 640, 20 * 640]
        assert all(one.prediction is not None for one in found[:2])


def test_a_source_without_any_float_tells_nothing(tmp_path: Path) -> None:
    """The map stands on a number of the source that is finite."""
    target = versions("float32")[1]
    (found,) = aligned(tmp_path, {"m": b"\xff" * 4096}, {"m": target})[0]
    assert found.prediction is None


def test_a_person_is_told_that_only_sizes_are_known(tmp_path: Path) -> None:
    """``explain`` names no source for such a tensor, and counts nothing as missed."""
    roots = folders(tmp_path, versions("float32"))
    part = next(one for one in explain(*roots).parts if one.name == "w")
    assert list(part.predicted_from) == [SIZES]
    assert part.missed is None
