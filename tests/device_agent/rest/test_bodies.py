"""Tensors through JSON and back are what they were."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from device_agent.rest.bodies import plain, read_request, to_json, write_answer
from edge_sdk.base import UsageError
from edge_sdk.client.wire_tensors import DATATYPES, encode_array
from edge_sdk.protos import inference_v2_pb2 as pb

kinds = st.sampled_from(
    [*("float32", "float64", "float16", "bool", "int8", "int64", "uint64", "uint8", "uint16")]
)
arrays = kinds.flatmap(
    lambda kind: hnp.arrays(
        np.dtype(kind),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False} if "float" in kind else None,
    )
)


@given(array=arrays, nested=st.booleans(), binary=st.booleans())
def test_a_tensor_is_what_it_was(array: Any, nested: bool, binary: bool) -> None:
    """Of each type, nested or flat, as JSON or behind it."""
    datatype = DATATYPES[str(array.dtype)]
    given_input: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": list(array.shape)}
    raw = encode_array(array)
    if binary:
        given_input["parameters"] = {"binary_data_size": len(raw)}
    else:
        given_input["data"] = (array if nested else array.ravel()).tolist()
    document = msgspec.json.encode(
        {"inputs": [given_input], "parameters": {"binary_data_output": binary}}
    )
    body = document + (raw if binary else b"")
    request, wanted = read_request(body, len(document), model="m", version="1.0.0")
    assert list(request.raw_input_contents) == [raw]
    assert not request.inputs[0].parameters
    answer = pb.ModelInferResponse(model_name="m", raw_output_contents=[raw])
    answer.outputs.add(name="y", datatype=datatype, shape=array.shape)
    head, behind = write_answer(answer, wanted)
    (told,) = msgspec.json.decode(head)["outputs"]
    if binary:
        assert (told["parameters"], behind) == ({"binary_data_size": len(raw)}, [raw])
    else:
        assert behind == []
        assert np.array(told["data"], array.dtype).tobytes() == array.tobytes()


@given(elements=st.lists(st.text(max_size=5), max_size=4))
def test_texts_are_what_they_were(elements: list[str]) -> None:
    """Any text that JSON carries."""
    document = msgspec.json.encode(
        {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [len(elements)], "data": elements}]}
    )
    request, _ = read_request(document, None, model="m", version="")
    assert to_json("BYTES", request.raw_input_contents[0]) == elements


@given(data=st.binary(max_size=60), length=st.none() | st.integers(-2, 70))
def test_any_bytes_are_read_or_refused(data: bytes, length: int | None) -> None:
    """Nothing but a refusal comes of a body that is none."""
    for body in (data, b'{"inputs":[' + data):
        with suppress(UsageError):
            read_request(body, length, model="m", version="")


def test_messages_as_json() -> None:
    """Numbers of 64 bits are numbers, names of constants names, maps and lists what they are."""
    config = pb.ModelConfig(name="m", parameters={"a": pb.ModelParameter(string_value="b")})
    config.input.add(name="x", data_type=pb.TYPE_FP32, dims=[-1, 4])
    config.dynamic_batching.priority_levels = 3
    told = plain(config)
    assert (told["name"], told["max_batch_size"], told["output"]) == ("m", 0, [])
    assert told["parameters"] == {"a": {"string_value": "b"}}
    assert told["input"][0]["data_type"] == "TYPE_FP32"
    assert told["input"][0]["dims"] == [-1, 4]
    assert told["dynamic_batching"]["priority_levels"] == 3
    assert "sequence_batching" not in told
