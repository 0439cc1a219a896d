"""Operators that need a library are found wherever they stand, and damage is an error of ours."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import FormatError
from edge_sdk.formats.custom_operators import ort_operators, tflite_models, tflite_operators
from edge_sdk.formats.model_file import ModelFile
from tests.support.onnx_models import ort_model
from tests.support.tflite_models import Code, Shape, Weights, add_model


def opened(data: bytes) -> ModelFile:
    return ModelFile(path=Path("model"), data=data, size_bytes=len(data))  # type: ignore[arg-type]


def with_codes(*codes: Code) -> bytes:
    return add_model([Weights("w", np.ones((1, 4), np.float32))], shape=Shape(codes=codes))


@pytest.fixture(scope="module")
def ort(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return ort_model(tmp_path_factory.mktemp("ort"))


TFLITE = with_codes(Code("MyOp"))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (Code("MyOp"), ["MyOp"]),
        (Code("FlexAdd"), ["FlexAdd"]),
        (Code("MyOp", builtin=0), ["MyOp"]),  # written before the schema had the newer field
        (Code("MyOp", old=0), ["MyOp"]),
        (Code("MyOp", builtin=150), ["MyOp"]),  # an older runtime knows the older field alone
        (Code(None), [""]),
        (Code("Mfcc"), []),
        (Code("TFLite_Detection_PostProcess"), []),
        (Code("ADD", builtin=0, old=0), []),  # the name of a builtin operator means nothing
    ],
)
def test_custom_operators_of_tflite(code: Code, names: list[str]) -> None:
    """Those marked as custom in either field that says so, but for the ones that LiteRT has."""
    assert tflite_operators(opened(with_codes(code))) == names


def test_each_operator_once_in_their_order() -> None:
    """However often a model names it."""
    codes = [Code("b"), Code("a"), Code("b")]
    assert tflite_operators(opened(with_codes(*codes))) == ["b", "a"]


def test_where_models_could_begin() -> None:
    """Every place but the file's own begin; what begins before the file is none."""
    assert [*tflite_models(opened(TFLITE))] == []
    assert [*tflite_models(opened(TFLITE + TFLITE))] == [len(TFLITE)]
    assert [*tflite_models(opened(b"xTFL3TFL3"))] == [1]


def test_operators_of_ort_models(ort: bytes) -> None:
    """In whatever branch, their domains imported or not."""
    gelus = {("com.microsoft", "Gelu"), ("com.microsoft", "QuickGelu")}
    assert ort_operators(opened(ort)) == {("", "If"), *gelus}
    assert ort_operators(opened(deep(3, "acme.ops"))) == {("", ""), ("acme.ops", "Op")}


def test_an_ort_file_without_a_model_is_damaged() -> None:
    """Nothing to look at is no reason to believe."""
    builder = flatbuffers.Builder(64)
    builder.StartObject(4)
    builder.Finish(builder.EndObject(), b"ORTM")
    with pytest.raises(FormatError, match="without a model"):
        ort_operators(opened(bytes(builder.Output())))


def deep(levels: int, domain: str = "") -> bytes:
    """An .ort model with a graph in two attributes of a node, of a graph that stands so itself;
    the last has an operator of ``domain``."""
    builder = flatbuffers.Builder(256)

    def vector(*targets: int) -> int:
        builder.StartVector(4, len(targets), 4)
        for target in targets:
            builder.PrependUOffsetTRelative(target)
        return builder.EndVector()

    def table(slot: int, target: int | None) -> int:
        builder.StartObject(13)
        if target is not None:
            builder.PrependUOffsetTRelativeSlot(slot, target, 0)
        return builder.EndObject()

    name = builder.CreateString(domain)
    operator = builder.CreateString("Op")
    builder.StartObject(13)
    builder.PrependUOffsetTRelativeSlot(2, name, 0)
    builder.PrependUOffsetTRelativeSlot(5, operator, 0)
    graph = table(2, vector(builder.EndObject()))
    for _ in range(levels):
        attributes = vector(table(7, graph), table(12, vector(graph)))
        graph = table(2, vector(table(10, attributes)))
    builder.Finish(table(1, table(7, graph)), b"ORTM")
    return bytes(builder.Output())


def test_little_that_becomes_much_is_refused() -> None:
    """Graphs that stand in each other twice at each level double what is looked at."""
    assert ort_operators(opened(deep(4))) == {("", ""), ("", "Op")}
    with pytest.raises(FormatError, match="more tables than any model"):
        ort_operators(opened(deep(40)), visits=1000)


def test_damage_of_tflite_is_an_error_of_ours() -> None:
    """Cut anywhere, or with any byte changed, there is an answer or FormatError."""
    for end in range(0, len(TFLITE), 3):
        _answers(tflite_operators, TFLITE[:end])


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_changed_bytes_are_answers_or_errors(ort: bytes, data: st.DataObject) -> None:
    """Of both formats, some bytes changed at a time."""
    reader, whole = data.draw(st.sampled_from([(tflite_operators, TFLITE), (ort_operators, ort)]))
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(changed)))
    _answers(reader, bytes(changed[:end] if data.draw(st.booleans()) else changed))


@given(st.binary(max_size=300), st.sampled_from([tflite_operators, ort_operators]))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_answers_or_errors(data: bytes, reader: object) -> None:
    """Whatever stands behind the identifier."""
    _answers(reader, b"\x10\0\0\0ORTM" + data)


def _answers(reader: object, data: bytes) -> None:
    with suppress(FormatError):
        assert isinstance(reader(opened(data)), (list, set))  # type: ignore[operator]
