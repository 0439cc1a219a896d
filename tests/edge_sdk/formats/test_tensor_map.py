"""The values of a tensor map."""

from __future__ import annotations

import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from edge_sdk.formats.tensor_map import (
    DTYPE_BITS,
    ModelFacts,
    TensorFact,
    TensorMap,
    TensorRange,
    arrange,
    packed_bytes,
)


def tensor(name: str, offset: int, length: int, file: str = "m") -> TensorRange:
    return TensorRange(
        name=name, dtype="uint8", shape=(length,), file=file, offset=offset, length=length
    )


def test_dtypes_are_spelled_as_numpy_spells_them() -> None:
    """Every name is a type of NumPy or ml_dtypes, and whole-byte types have its width."""
    for name, bits in DTYPE_BITS.items():
        dtype = np.dtype(name if name in np.sctypeDict else getattr(ml_dtypes, name))
        assert dtype.name == name
        assert bits == dtype.itemsize * 8 or bits < 8


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("float32", (2, 3), 24),
        ("float32", (), 4),
        ("float32", (0, 9), 0),
        ("int4", (3,), 2),
        ("uint2", (5,), 2),
        ("float6_e2m3fn", (3,), 3),
        ("complex128", (1,), 16),
    ],
)
def test_small_types_are_packed(dtype: str, shape: tuple[int, ...], size: int) -> None:
    """Elements below eight bits share bytes; the last byte may be partly used."""
    assert packed_bytes(dtype, shape) == size


def test_tensors_are_sorted_without_overlap() -> None:
    """By file, then offset; of tensors that share bytes the first and longest stays."""
    arranged = arrange(
        [
            tensor("c", 8, 8),
            tensor("other", 0, 4, file="a"),
            tensor("short", 0, 4),
            tensor("long", 0, 8),
            tensor("overlaps", 6, 4),
            tensor("empty", 20, 0),
        ]
    )
    assert [(one.file, one.name) for one in arranged] == [("a", "other"), ("m", "long"), ("m", "c")]


def test_tensors_of_one_name_are_numbered() -> None:
    """Names are unique in a map, also where a model uses one twice or such a number itself."""
    arranged = arrange(
        [tensor("w", 0, 1), tensor("w#2", 1, 1), tensor("w", 2, 1), tensor("w", 3, 1)]
    )
    assert [one.name for one in arranged] == ["w", "w#2", "w#3", "w#4"]


def test_a_map_survives_pickling() -> None:
    """Maps travel to the worker processes that build deltas."""
    facts = ModelFacts(
        inputs=(TensorFact(name="x", dtype="float32", shape=(-1, 4)),), opsets={"": 21}
    )
    whole = TensorMap(
        format="onnx", path=Path("m"), size_bytes=9, tensors=(tensor("w", 0, 4),), facts=facts
    )
    assert pickle.loads(pickle.dumps(whole)) == whole
