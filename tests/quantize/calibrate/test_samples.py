"""Calibration samples are read whole, checked, and cut into batches of a fixed size."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import FormatError, NotFoundError, UsageError
from quantize.calibrate import Samples, read_samples
from quantize.graph import InputFact

X = InputFact(name="x", dtype="float32", shape=(-1, 4))
FIXED = InputFact(name="x", dtype="float32", shape=(8, 4))
IDS = InputFact(name="ids", dtype="int64", shape=(-1, -1))


def npz(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "c.npz"
    np.savez(path, **arrays)
    return path


def rows(count: int, dtype: str = "f") -> np.ndarray:
    return np.arange(count * 4).reshape(count, 4).astype(dtype)


def test_samples_come_in_order(tmp_path: Path) -> None:
    """All samples are used once, in the file's order; the last batch may be shorter."""
    samples = read_samples(npz(tmp_path, x=rows(10), y=rows(3)), [X], 4)
    batches = [batch["x"] for batch in samples.batches()]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert np.array_equal(np.concatenate(batches), rows(10))
    assert (samples.count, samples.left_out) == (10, 0)


def test_fixed_batches_are_whole(tmp_path: Path) -> None:
    """A model with a fixed batch is run at that batch, and what fills none is left out."""
    samples = read_samples(npz(tmp_path, x=rows(19)), [FIXED], 32)
    assert [len(batch["x"]) for batch in samples.batches()] == [8, 8]
    assert (samples.batch, samples.count, samples.left_out) == (8, 16, 3)


def test_several_inputs(tmp_path: Path) -> None:
    """Each batch holds every input of the model, and only those."""
    path = npz(tmp_path, x=rows(5), ids=np.ones((5, 3), "i8"), other=rows(2))
    (batch,) = read_samples(path, [X, IDS], 8).batches()
    assert {name: array.shape for name, array in batch.items()} == {"x": (5, 4), "ids": (5, 3)}


def test_numbers_take_the_type_of_the_input(tmp_path: Path) -> None:
    """Samples saved in double precision are given to the model in its own."""
    samples = read_samples(npz(tmp_path, x=rows(3, "f8")), [X], 8)
    assert samples.arrays["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "inputs", "says"),
    [
        ({"y": rows(3)}, [X], "lacks the model's input 'x'; it has 'y'"),
        ({}, [X], "it has nothing"),
        ({"x": rows(3)[0]}, [X], "shape"),
        ({"x": rows(4).reshape(8, 2)}, [X], "shape"),
        ({"x": np.float32(3)}, [InputFact(name="x", dtype="float32", shape=())], "shape"),
        ({"x": rows(0)}, [X], "0 samples"),
        ({"x": rows(7)}, [FIXED], "takes 8 at once"),
        ({"ids": rows(3)}, [IDS], "float32; the model takes int64"),
        ({"x": rows(3), "ids": np.ones((4, 2), "i8")}, [X, IDS], "different numbers"),
        ({"x": np.array([["a"] * 4])}, [X], "takes float32"),
        (
            {"x": rows(8), "z": rows(8)},
            [FIXED, InputFact(name="z", dtype="float32", shape=(4, 4))],
            "different fixed batches",
        ),
    ],
)
def test_samples_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, Any], inputs: list[InputFact], says: str
) -> None:
    """Samples that are not the model's are wrong usage, and the difference is told."""
    with pytest.raises(UsageError, match=says):
        read_samples(npz(tmp_path, **arrays), inputs, 8)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(tmp_path: Path, number: float) -> None:
    """NaN or infinity would make every range useless, and is refused."""
    samples = rows(3)
    samples[1, 2] = number
    with pytest.raises(FormatError, match="NaN or infinite"):
        read_samples(npz(tmp_path, x=samples), [X], 8)


def single_array() -> bytes:
    out = io.BytesIO()
    np.save(out, rows(3))
    return out.getvalue()


def pickled() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.array([object()], dtype=object))
    return out.getvalue()


def zip_of_text() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", "no array")
    return out.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY", single_array(), pickled(), zip_of_text()]
)
def test_files_that_are_no_samples(tmp_path: Path, data: bytes) -> None:
    """Anything but an NPZ of plain numbers is a FormatError; a pickle in it is never run."""
    path = tmp_path / "c.npz"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"c\.npz"):
        read_samples(path, [X], 8)


def test_damaged_samples_are_refused(tmp_path: Path) -> None:
    """A changed byte within the numbers is found by the file's own check."""
    path = npz(tmp_path, x=rows(64))
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError):
        read_samples(path, [X], 8)


def test_missing_samples_are_told(tmp_path: Path) -> None:
    """No such file: said so."""
    with pytest.raises(NotFoundError):
        read_samples(tmp_path / "none.npz", [X], 8)


@given(st.integers(1, 40), st.integers(1, 12))
def test_batches_cover_all_samples(count: int, batch: int) -> None:
    """For any number of samples and batch, every sample comes exactly once."""
    samples = Samples(arrays={"x": rows(count)}, count=count, left_out=0, batch=batch, sha256="")
    batches = [one["x"] for one in samples.batches()]
    assert np.array_equal(np.concatenate(batches), rows(count))
    assert all(len(one) == batch for one in batches[:-1])
