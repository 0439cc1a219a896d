"""Steps of low rank: found where they pay, and left alone where they do not."""

from pathlib import Path

import numpy as np
import pytest

from edge_sdk.delta import coder
from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.coder.tables import LEANING
from edge_sdk.delta.container import PREDICTION_SLOTS
from edge_sdk.delta.low_rank import LowRank
from edge_sdk.delta.records import KIND_TABLE
from edge_sdk.delta.varint import Cursor
from tests.edge_sdk.delta.alignment.test_align import aligned
from tests.support.deltas import decoded, encoded, record_spans, safetensors, write_folder

SIDES = ("before", "after")
KINDS = ("float32", "float16", "bfloat16", "int8", "uint8")


def bits(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "bfloat16":
        return ((values.astype("<f4").view("<u4") + 0x8000) >> 16).astype("<u2")
    if kind in ("int8", "uint8"):
        middle = 128 if kind == "uint8" else 0
        return (np.clip(np.rint(values * 800), -128, 127) + middle).astype(kind).view("u1")
    dtype = {"float32": "<f4", "float16": "<f2"}[kind]
    return values.astype(dtype).view(f"<u{np.dtype(dtype).itemsize}")


def versions(kind: str, shape: tuple[int, ...], rank: int, size: float = 0.02) -> list[bytes]:
    """A tensor before and after a step that is a sum of few products, and a little noise."""
    random = np.random.default_rng(3)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    before = random.normal(0, 0.05, (rows, columns))
    step = random.normal(0, 1, (rows, rank)) @ random.normal(0, 1, (rank, columns))
    after = before + size * step + random.normal(0, size / 30, before.shape)
    return [safetensors({"w": (kind, bits(one, kind).reshape(shape))}) for one in (before, after)]


def folders(root: Path, files: list[bytes]) -> list[Path]:
    return [write_folder(root / side, {"m": files[side == "after"]}) for side in SIDES]


def ranges(root: Path, files: list[bytes]) -> list[AlignedRange]:
    return aligned(root, {"m": files[0]}, {"m": files[1]})[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_low_rank_is_taken_into_the_prediction(kind: str, tmp_path: Path) -> None:
    """Of every kind; the delta is smaller than any of the plain difference, and exact."""
    files = versions(kind, (120, 160), 2)
    (found,) = ranges(tmp_path, files)
    assert found.prediction is not None
    assert isinstance(found.prediction.values, LowRank)
    assert len(found.prediction.values.shifts) >= 2
    roots = folders(tmp_path, files)
    delta = encoded(*roots)
    assert decoded(delta, files[:1]) == files[1:]
    plain = encoded(*roots, methods=("copy", "literal", "patch", "residual", "planes"))
    assert len(delta) < 0.8 * len(plain)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8", "uint8"])
def test_steps_that_rounding_hides_are_told_by_leans(kind: str, tmp_path: Path) -> None:
    """A step of less than what the kind can tell: most numbers stay, and which do not is known."""
    files = versions(kind, (160, 256), 2, size=0.0003 if "int" in kind else 2.0**-14)
    roots = folders(tmp_path, files)
    delta = encoded(*roots)
    assert decoded(delta, files[:1]) == files[1:]
    models = []
    for number, start, end in record_spans(delta):
        record = Cursor(delta[start + 1 : end], "a record")
        body = Cursor(record.take(record.varint()), "a table")
        if number == KIND_TABLE and body.varint() >= PREDICTION_SLOTS:
            models.append(coder.parse(body).model)
    assert LEANING in models


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_numbers_that_are_none_travel_too(kind: str, tmp_path: Path) -> None:
    """NaNs with payloads, of both signs, and infinities, within a step of low rank."""
    special = {"float16": [0x7C01, 0xFE2A, 0x7C00], "bfloat16": [0x7F81, 0xFFAB, 0xFF80]}
    special["float32"] = [0x7F800001, 0xFFC0BEEF, 0xFF800000]
    random = np.random.default_rng(5)
    before = random.normal(0, 0.05, (120, 160))
    after = before + random.normal(0, 0.02, (120, 1)) @ random.normal(0, 1, (1, 160))
    pair = [bits(one, kind) for one in (before, after)]
    for matrix, rows in zip(pair, ([3, 50, 60], [3, 51, 60]), strict=True):
        matrix[rows, 7] = special[kind]
    files = [safetensors({"w": (kind, one)}) for one in pair]
    assert decoded(encoded(*folders(tmp_path, files)), files[:1]) == files[1:]


def test_noise_is_left_alone(tmp_path: Path) -> None:
    """A step without structure is the plain difference of source and target."""
    (found,) = ranges(tmp_path, versions("float32", (120, 160), 100))
    assert found.is_plain


def test_kernels_are_cut_where_rows_and_columns_are_fewest(tmp_path: Path) -> None:
    """Four axes make a matrix too."""
    (found,) = ranges(tmp_path, versions("float32", (32, 16, 3, 3), 1))
    assert found.prediction is not None
    assert isinstance(found.prediction.values, LowRank)
    assert (found.prediction.values.rows, found.prediction.values.columns) == (32, 144)


def test_large_tensors_are_cut_into_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each band has factors of its own; together they are the tensor."""
    monkeypatch.setattr("edge_sdk.delta.alignment.training._BAND_COUNT", 120 * 100)
    files = versions("float32", (300, 120), 2)
    found = ranges(tmp_path, files)
    values = [one.prediction.values for one in found if one.prediction is not None]
    assert [one.rows for one in values if isinstance(one, LowRank)] == [100, 100, 100]
    assert [one.start for one in found[1:]] == [one.end for one in found[:-1]]
    roots = folders(tmp_path, files)
    assert decoded(encoded(*roots), files[:1]) == files[1:]


def test_what_factors_by_channel_explain_stays(tmp_path: Path) -> None:
    """A scaled tensor is predicted by its factors, however its difference looks."""
    random = np.random.default_rng(4)
    before = random.normal(0, 0.05, (64, 128)).astype("<f4")
    after = before * random.uniform(0.5, 2, (64, 1)).astype("<f4")
    files = [safetensors({"w": ("float32", one.view("<u4"))}) for one in (before, after)]
    (found,) = ranges(tmp_path, files)
    assert found.prediction is not None
    assert not isinstance(found.prediction.values, LowRank)


def test_numbers_that_are_none_do_no_harm(tmp_path: Path) -> None:
    """Infinities, NaN and enormous numbers beside a step that is found all the same."""
    files = versions("float32", (120, 160), 2)
    at = len(files[0]) - 120 * 160 * 4
    odd = np.array([0x7F800000, 0x7FC00001, 0xFF800000, 0x7F7FFFFF], "<u4").tobytes()
    files[0] = files[0][:at] + odd + files[0][at + len(odd) :]
    (found,) = ranges(tmp_path, files)
    assert found.prediction is not None
    roots = folders(tmp_path, files)
    assert decoded(encoded(*roots), files[:1]) == files[1:]


def test_a_gain_that_leaves_nothing_needs_no_step(tmp_path: Path) -> None:
    """All numbers times one, of columns that differ in size."""
    random = np.random.default_rng(6)
    before = random.normal(0, 0.05, (64, 100)) * np.exp(random.normal(0, 1, 100))
    pair = [bits(one, "float32") for one in (before, before * 2)]
    files = [safetensors({"w": ("float32", one)}) for one in pair]
    assert decoded(encoded(*folders(tmp_path, files)), files[:1]) == files[1:]
