"""Inputs, outputs and operator sets, as the onnx package states them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from edge_sdk.formats import ModelFacts, TensorFact, open_model
from tests.support.onnx_models import finish, save, value
from tests.support.wire_bytes import message, number, onnx_model


def facts_of(tmp_path: Path, content: bytes) -> ModelFacts:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    facts = open_model(path).facts
    assert facts is not None
    return facts


def output_fact(tmp_path: Path, output: Any) -> TensorFact:
    (fact,) = facts_of(tmp_path, finish([], [], [output]).SerializeToString()).outputs
    return fact


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [([], ()), ([2, 3], (2, 3)), (["batch", 3], (-1, 3)), ([None, 0], (-1, 0)), ([-5], (-1,))],
)
def test_dimensions_are_sizes_or_dynamic(tmp_path: Path, shape: Any, wanted: Any) -> None:
    """A name, nothing or a negative size is -1; a scalar has no dimensions."""
    fact = output_fact(tmp_path, value("y", TensorProto.FLOAT, shape))
    assert (fact.name, fact.shape, fact.rank_known) == ("y", wanted, True)


def test_an_unknown_rank_is_told_from_a_scalar(tmp_path: Path) -> None:
    """Without a shape the model does not say how many dimensions there are."""
    fact = output_fact(tmp_path, helper.make_tensor_value_info("y", TensorProto.INT8, None))
    assert (fact.dtype, fact.shape, fact.rank_known) == ("int8", (), False)


@pytest.mark.parametrize(
    ("number_", "name"),
    [(1, "float32"), (8, "string"), (9, "bool"), (16, "bfloat16"), (0, "undefined"), (99, "undefined")],
)  # fmt: skip
def test_types_are_spelled_as_numpy_does(tmp_path: Path, number_: int, name: str) -> None:
    """What is not known is undefined."""
    output = message(12, message(1, b"y"), message(2, message(1, number(1, number_), message(2))))
    (fact,) = facts_of(tmp_path, onnx_model(output)).outputs
    assert (fact.dtype, fact.shape) == (name, ())


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    """Sequences, maps, optionals and sparse tensors, however deep they nest."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    sequence = helper.make_sequence_type_proto(tensor)
    for type_, wanted in [
        (sequence, "sequence"),
        (helper.make_optional_type_proto(sequence), "optional"),
        (helper.make_map_type_proto(TensorProto.INT64, tensor), "map"),
        (helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]), "sparse"),
    ]:
        fact = output_fact(tmp_path, helper.make_value_info("y", type_))
        assert (fact.dtype, fact.rank_known) == (wanted, False)


def test_a_type_nested_very_deep_costs_nothing(tmp_path: Path) -> None:
    """A sequence of sequences of ... is not followed: its outermost kind is its kind."""
    nested = message(1)
    for _turn in range(5000):
        nested = message(4, message(1, nested))
    (fact,) = facts_of(tmp_path, onnx_model(message(12, message(2, nested)))).outputs
    assert fact.dtype == "sequence"


def test_absurdly_many_dimensions_are_no_shape(tmp_path: Path) -> None:
    """More than 255 are taken for none."""
    shape = message(2, message(1, number(1, 1)) * 300)
    output = message(12, message(1, b"y"), message(2, message(1, number(1, 1), shape)))
    (fact,) = facts_of(tmp_path, onnx_model(output)).outputs
    assert (fact.shape, fact.rank_known) == ((), False)


def test_a_value_without_anything_is_undefined(tmp_path: Path) -> None:
    """All fields of a ValueInfoProto are optional."""
    (fact,) = facts_of(tmp_path, onnx_model(message(12))).outputs
    assert fact == TensorFact(name="", dtype="undefined", shape=(), rank_known=False)


def test_facts_survive_saving(tmp_path: Path) -> None:
    """What was built is what is read."""
    model = finish(
        [], [value("x", TensorProto.INT64, ["n", 2])], [value("y", TensorProto.BOOL, [1])]
    )
    facts = open_model(save(model, tmp_path / "m")).facts
    assert facts is not None
    assert facts.inputs == (TensorFact(name="x", dtype="int64", shape=(-1, 2)),)
    assert facts.outputs == (TensorFact(name="y", dtype="bool", shape=(1,)),)
    assert (facts.ir_version, facts.opsets) == (10, {"": 21})
