"""Tensors in objects of PyTorch: names, views of storages, and graphs that deceive."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.base import FormatError
from edge_sdk.formats import torch_tensors
from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.pickle_reader import Call, Dictionary, Global, Persistent, read_pickle
from edge_sdk.formats.torch_tensors import Found, find_tensors, tensor_range
from tests.support.torch_files import (
    Instance,
    Named,
    Parameter,
    Storage,
    Tensor,
    pickled,
    tensor_of,
)

W = np.arange(6, dtype=np.float32).reshape(2, 3)


def file_of(content: bytes) -> ModelFile:
    return ModelFile(path=Path("model"), data=content, size_bytes=len(content))


def found_in(value: object) -> Found:
    content, _ = pickled(value)
    file = file_of(content)
    root, _ = read_pickle(file, 0)
    return find_tensors(file, 0, root)


def names_in(value: object) -> list[str]:
    return [one.name for one in found_in(value).tensors]


def test_names_are_paths_of_keys() -> None:
    """Dicts, ordered dicts, lists and tuples."""
    value = {
        "state_dict": OrderedDict([("a.weight", tensor_of("0", W)), ("a.bias", tensor_of("1", W))]),
        "optimizer": {"state": {0: {"exp_avg": tensor_of("2", W)}}},
        "list": [1, tensor_of("3", W), (tensor_of("4", W),)],
    }
    assert names_in(value) == [
        "state_dict.a.weight",
        "state_dict.a.bias",
        "optimizer.state.0.exp_avg",
        "list.1",
        "list.2.0",
    ]


def test_a_module_has_the_names_of_its_state_dict() -> None:
    """What a whole pickled module keeps is named as the same module's state_dict names it."""

    def module(parameters: dict[str, Any], modules: dict[str, Any]) -> Instance:
        state = {
            "training": False,
            "_parameters": OrderedDict(parameters),
            "_buffers": OrderedDict(),
            "_modules": OrderedDict(modules),
        }
        return Instance(Named("my.net", "Net"), state)

    layer = module({"weight": Parameter(tensor_of("0", W))}, {})
    net = module({}, {"layers": module({}, {"0": layer})})
    assert names_in(net) == ["layers.0.weight"]
    assert names_in({"net": net}) == ["net.layers.0.weight"]


def test_a_tensor_of_a_subclass_is_found() -> None:
    """Whatever rebuilds it: the arguments of a tensor are known where they are nested."""
    inner = tensor_of("0", W)
    made = Named("torch._tensor", "_rebuild_from_type_v2")

    class Wrapped:
        def __reduce__(self) -> tuple[Any, ...]:
            return made, (Named("torch._utils", "f"), Named("m", "T"), inner.arguments, {})

    assert names_in({"w": Wrapped()}) == ["w"]


def test_the_type_that_a_tensor_states_is_its_type() -> None:
    """Untyped storages: the dtype is among the arguments."""
    storage = Persistent(("storage", Global("torch.storage", "UntypedStorage"), "0", "cpu", 24))
    arguments = (storage, 0, (2, 3), (3, 1), False, Call(None, ()), Global("torch", "float32"))
    (one,) = find_tensors(file_of(b""), 0, Dictionary([("w", Call(None, arguments))])).tensors
    assert (one.name, one.dtype) == ("w", "float32")


def ranged(tensor: Tensor, length: int) -> Any:
    (one,) = found_in([tensor]).tensors
    return tensor_range(file_of(b""), one, 100, length)


def test_views_are_ranges_of_their_storage() -> None:
    """A part of a storage; axes in another order; columns left out; one number repeated."""
    storage = Storage("0", np.arange(24, dtype=np.int8))
    plain = ranged(Tensor(storage, (2, 3), first=5), 24)
    assert (plain.offset, plain.length, plain.shape) == (105, 6, (2, 3))
    turned = ranged(Tensor(storage, (4, 6), strides=(1, 4)), 24)
    assert (turned.offset, turned.length, turned.shape) == (100, 24, (6, 4))
    flat = ranged(Tensor(storage, (4, 1, 6), strides=(6, 9, 1)), 24)
    assert flat.shape == (4, 1, 6)
    columns = ranged(Tensor(storage, (3, 2), strides=(6, 1)), 24)
    assert (columns.offset, columns.length, columns.shape) == (100, 14, (14,))
    repeated = ranged(Tensor(storage, (5,), first=3, strides=(0,)), 24)
    assert (repeated.offset, repeated.length, repeated.shape) == (103, 1, (1,))
    assert ranged(Tensor(storage, (0, 7)), 24) is None
    assert ranged(Tensor(storage, ()), 24).shape == ()


def test_a_tensor_outside_of_its_storage_is_refused() -> None:
    """The error names the tensor and where the storage lies."""
    storage = Storage("0", W)
    for bad in (
        Tensor(storage, (2, 3), first=1),
        Tensor(storage, (2, 3), strides=(4, 1)),
        Tensor(storage, (1 << 40, 1 << 40)),
    ):
        with pytest.raises(FormatError) as error:
            ranged(bad, 24)
        assert error.value.facts["offset"] == 100
        assert error.value.facts["tensor"] == "0"


def test_what_only_resembles_a_tensor_is_none() -> None:
    """Wrong counts, types, kinds of storage."""
    good = ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6)
    shape = (0, (2, 3), (3, 1), False)
    values = [
        (Persistent(good), -1, *shape[1:]),
        (Persistent(good), 0, (2, 3), (1,), False),
        (Persistent(good), 0, (2, True), (3, 1), False),
        (Persistent(good), 0, [2, 3], (3, 1), False),
        (Persistent(good), 0, (2,) * 65, (3,) * 65, False),
        (Persistent(("storage", Global("torch", "LaterStorage"), *good[2:])), *shape),
        (Persistent(("module", *good[1:])), *shape),
        (Persistent((*good[:4], "6")), *shape),
        (Persistent((good[0], "FloatStorage", *good[2:])), *shape),
        (Persistent(good[:3]), *shape),
        (Persistent(7), *shape),
        (good, *shape),
    ]
    assert not find_tensors(file_of(b""), 0, values).tensors
    assert find_tensors(file_of(b""), 0, [(Persistent(good), *shape)]).tensors


def test_views_of_the_legacy_format_begin_where_they_say() -> None:
    """A view of a storage adds where it begins."""
    known = ("storage", Global("torch", "FloatStorage"), "0", "cpu", 9, ("1", 4, 5))
    (one,) = find_tensors(file_of(b""), 0, [(Persistent(known), 2, (3,), (1,))]).tensors
    assert one.first == 6


def test_each_object_is_visited_once() -> None:
    """Cycles end, and shared parts are not multiplied."""
    cyclic: list[Any] = [Persistent(1)]
    shared: Any = (cyclic,)
    for _depth in range(100):
        shared = (shared, shared)
    cyclic += [shared, cyclic, tuple(Tensor(Storage("0", W), (2, 3)).arguments)]
    assert find_tensors(file_of(b""), 0, cyclic).tensors == []


def test_objects_too_deep_or_with_too_long_names_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Depth and the length of all names are bounded."""
    deep: list[Any] = []
    for _depth in range(500):
        deep = [deep]
    with pytest.raises(FormatError, match="deeper"):
        find_tensors(file_of(b""), 0, deep)
    monkeypatch.setattr(torch_tensors, "_NAMES_CHARS_MAX", 1000)
    many = {f"{number:0150}": tensor_of(str(number), W) for number in range(7)}
    with pytest.raises(FormatError, match="names longer"):
        found_in(many)
    assert len(names_in({key: many[key] for key in list(many)[:6]})) == 6
