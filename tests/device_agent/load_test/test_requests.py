"""Inputs from a signature or a file, and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.load_test.requests import file_requests, right_among, seeded_requests
from edge_sdk.base import EdgeError, FormatError, NotFoundError, UsageError
from edge_sdk.manifest import TensorSpec

X = TensorSpec(name="x", dtype="float32", shape=(-1, 4))
FIXED = TensorSpec(name="x", dtype="float32", shape=(1, 4))


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_seeded_requests_differ_and_can_be_had_again() -> None:
    """The same seed gives the same requests, none of them twice."""
    one, again = (seeded_requests([X], seed=5) for _ in range(2))
    assert all(
        np.array_equal(a.inputs["x"], b.inputs["x"]) for a, b in zip(one, again, strict=True)
    )
    assert len({request.inputs["x"].tobytes() for request in one}) == len(one)
    assert seeded_requests([X], seed=5, batch=3)[0].inputs["x"].shape == (3, 4)


def test_a_fixed_first_dimension_takes_no_batch() -> None:
    """Rows cannot be added to a model that takes one."""
    with pytest.raises(UsageError, match="no batch fits"):
        seeded_requests([FIXED], seed=0, batch=2)


def test_samples_that_would_fill_the_memory_are_refused() -> None:
    """Before any of them is made."""
    with pytest.raises(UsageError, match="smaller batch="):
        seeded_requests([X], seed=0, batch=10**9)


@pytest.mark.parametrize(("spec", "shape"), [(X, (6, 4)), (X, (6, 1, 4)), (FIXED, (6, 1, 4))])
def test_samples_of_a_file(tmp_path: Path, spec: TensorSpec, shape: tuple[int, ...]) -> None:
    """Samples lie along a free first dimension, or along one more."""
    values = np.arange(24, dtype=np.float32).reshape(shape)
    path = npz(tmp_path / "a.npz", x=values, labels=np.arange(6))
    found = file_requests(path, [spec], labelled=True)
    assert [one.inputs["x"].shape for one in found] == [(1, 4)] * 6
    assert [one.inputs["x"][0, 0] for one in found] == [0, 4, 8, 12, 16, 20]
    assert [one.labels.tolist() for one in found] == [[0], [1], [2], [3], [4], [5]]


def test_batches_of_a_file(tmp_path: Path) -> None:
    """Rows are put together in order; what does not fill a batch is left out."""
    path = npz(tmp_path / "a.npz", x=np.arange(20, dtype=np.float32).reshape(5, 4))
    found = file_requests(path, [X], batch=2)
    assert [one.inputs["x"].shape for one in found] == [(2, 4), (2, 4)]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.zeros((2, 4)), "labels": np.zeros(2)}, "has inputs ['y']"),
        ({"x": np.zeros((2, 4))}, "has no array 'labels'"),
        ({"x": np.zeros((2, 4)), "labels": np.zeros(3)}, "different numbers"),
        ({"x": np.zeros((0, 4)), "labels": np.zeros(0)}, "or none"),
        ({"x": np.zeros(4), "labels": np.zeros(1)}, "one dimension more"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    """What does not fit the model is said with both sides."""
    with pytest.raises(UsageError) as refused:
        file_requests(npz(tmp_path / "a.npz", **arrays), [X], labelled=True)
    assert words in refused.value.message


def test_files_that_are_none(tmp_path: Path) -> None:
    """Text, a pickle, one bare array and nothing at all are errors of ours."""
    (tmp_path / "text").write_text("not an archive")
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], object))
    np.save(tmp_path / "bare.npy", np.zeros(3))
    for name in ("text", "pickle.npz", "bare.npy"):
        with pytest.raises(FormatError):
            file_requests(tmp_path / name, [X])
    with pytest.raises(NotFoundError):
        file_requests(tmp_path / "missing.npz", [X])


def test_top_k() -> None:
    """A label counts when it is among the k highest scores of its row."""
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    assert right_among(scores, np.array([1, 2]), top_k=1) == 0.5
    assert right_among(scores, np.array([1, 2]), top_k=2) == 1.0
    assert right_among(scores, np.array([0, 1]), top_k=9) == 1.0
    assert right_among(scores[0], np.array([1]), top_k=1) == 1.0
    with pytest.raises(EdgeError):
        right_among(np.zeros((3, 5)), np.array([0, 1]), top_k=1)
