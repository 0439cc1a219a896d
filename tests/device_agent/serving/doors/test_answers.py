"""Answers put together from pieces are the messages that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from device_agent.serving.doors.answers import AnswerWriter, Output, Told, in_stream, varint
from device_agent.serving.generation import Identity
from edge_sdk.base import Digest
from edge_sdk.protos import inference_v2_pb2 as pb

IDENTITY = Identity(
    model="team/digits",
    artifact=Digest.of(b""),
    version="1.2.3",
    variant="fp32",
    engine="onnxruntime",
    entry="model.onnx",
)
WRITER = AnswerWriter()
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))


@given(given_arrays=st.lists(arrays, max_size=3), request_id=st.text(max_size=200))
def test_an_answer_reads_as_its_message(given_arrays: list[Any], request_id: str) -> None:
    """Names, shapes, id and bytes come back as they were, alone and inside a stream."""
    outputs = [
        Output(f"y{number}", "FP32", array.shape, array)
        for number, array in enumerate(given_arrays)
    ]
    written = WRITER.answer(IDENTITY, request_id, [*outputs, Output("there", "INT8", (4,), b"")])
    message = pb.ModelInferResponse.FromString(written)
    assert (message.model_name, message.model_version) == ("team/digits", "1.2.3")
    assert message.id == request_id
    assert [(one.name, one.datatype, tuple(one.shape)) for one in message.outputs] == [
        *[(one.name, one.datatype, one.shape) for one in outputs],
        ("there", "INT8", (4,)),
    ]
    assert list(message.raw_output_contents) == [*[one.tobytes() for one in given_arrays], b""]
    assert not message.parameters
    told = pb.ModelStreamInferResponse.FromString(in_stream(written))
    assert not told.error_message
    assert told.infer_response.parameters["triton_final_response"].bool_param
    told.infer_response.ClearField("parameters")
    assert told.infer_response == message


@given(given_arrays=st.lists(arrays, min_size=1, max_size=3), request_id=st.text(max_size=200))
def test_an_answer_told_again_is_the_same(given_arrays: list[Any], request_id: str) -> None:
    """With other numbers it is what the writer would have written; with another shape, of
    another artifact, or as texts, it is not told again."""
    outputs = [
        Output(f"y{number}", "FP32", array.shape, array)
        for number, array in enumerate(given_arrays)
    ]
    told = Told.of(WRITER.answer(IDENTITY, request_id, outputs), IDENTITY, outputs)
    others = [array + 1 for array in given_arrays]
    changed = [one._replace(content=other) for one, other in zip(outputs, others, strict=True)]
    assert told.again(IDENTITY, others) == WRITER.answer(IDENTITY, request_id, changed)
    assert told.again(replace(IDENTITY, artifact=Digest.of(b"other")), others) is None
    assert told.again(IDENTITY, [*others[:-1], others[-1][..., None]]) is None
    texts = [*outputs, Output("text", "BYTES", (0,), b"")]
    written = WRITER.answer(IDENTITY, request_id, texts)
    assert Told.of(written, IDENTITY, texts).again(IDENTITY, others) is None


def test_what_is_remembered_is_bounded() -> None:
    """Ever new shapes do not fill the memory, and answers stay right."""
    writer = AnswerWriter()
    for size in range(2000):
        output = Output("y", "INT8", (size,), bytes(size))
        message = pb.ModelInferResponse.FromString(writer.answer(IDENTITY, "", [output]))
        assert list(message.outputs[0].shape) == [size]
    assert len(writer._known) < 600


@given(st.integers(0, (1 << 63) - 1))
def test_lengths(number: int) -> None:
    """As protocol buffers write a number."""
    assert pb.StatisticDuration(count=number).SerializeToString() == (
        b"\x08" + varint(number) if number else b""
    )
