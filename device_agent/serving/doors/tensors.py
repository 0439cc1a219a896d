"""Tensors between the messages of the Open Inference Protocol and arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from device_agent.serving.request import GivenTensor
from edge_sdk.base import NotFoundError, UsageError
from edge_sdk.client.wire_tensors import DATATYPES, DTYPES, decode_texts
from edge_sdk.engines.contract import STORAGE, Array
from edge_sdk.protos import inference_v2_pb2 as pb

# Where typed contents of each datatype lie; FP16 and BF16 have no field and come raw only.
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_SHARED_MEMORY = "shared_memory_region"


def given_tensors(request: pb.ModelInferRequest) -> list[GivenTensor]:
    """The inputs of a request: raw in order, or typed contents, never both.

    Raises: UsageError; NotFoundError (a shared memory region: none is known here).
    """
    raw = request.raw_input_contents
    if raw and any(tensor.HasField("contents") for tensor in request.inputs):
        raise UsageError("contents must not be given together with raw_input_contents")
    for tensor in request.inputs:
        if _SHARED_MEMORY in tensor.parameters:
            name = tensor.parameters[_SHARED_MEMORY].string_param
            raise NotFoundError(f"Unable to find shared memory region: {name!r}")
    if raw and len(raw) != len(request.inputs):
        raise UsageError(
            f"expected {len(request.inputs)} raw_input_contents, one for each input, got {len(raw)}"
        )
    if raw:
        return [_from_raw(tensor, data) for tensor, data in zip(request.inputs, raw, strict=True)]
    return [_from_contents(tensor) for tensor in request.inputs]


def _from_raw(tensor: pb.ModelInferRequest.InferInputTensor, data: bytes) -> GivenTensor:
    dtype = _dtype(tensor)
    return GivenTensor(
        name=tensor.name,
        dtype=dtype,
        shape=tuple(tensor.shape),
        data=as_texts(tensor.name, decode_texts(data)) if dtype == "string" else data,
    )


def _from_contents(tensor: pb.ModelInferRequest.InferInputTensor) -> GivenTensor:
    dtype = _dtype(tensor)
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise UsageError(
            f"input {tensor.name!r} is {tensor.datatype}, which travels in raw_input_contents only"
        )
    values = getattr(tensor.contents, field)
    if dtype == "string":
        data = as_texts(tensor.name, values)
    else:
        data = _numbers(tensor.name, values, dtype)
    return GivenTensor(name=tensor.name, dtype=dtype, shape=tuple(tensor.shape), data=data)


def _dtype(tensor: pb.ModelInferRequest.InferInputTensor) -> str:
    if tensor.datatype not in DTYPES:
        raise UsageError(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}; known are {sorted(DTYPES)}"
        )
    return DTYPES[tensor.datatype]


def _numbers(name: str, values: Sequence[float], dtype: str) -> Array:
    kind = STORAGE[dtype]
    wide = np.array(values, dtype=f"{kind.kind}8" if kind.kind in "iu" else kind)
    if kind.kind in "iu" and len(values):
        limits = np.iinfo(kind)
        if wide.min() < limits.min or wide.max() > limits.max:  # astype would wrap around
            raise UsageError(f"input {name!r} has a value outside of {dtype}")
    return wide.astype(kind)


def as_texts(name: str, elements: Sequence[bytes]) -> Array:
    """Elements of a tensor of text. Raises: UsageError where one is not UTF-8."""
    texts = np.empty(len(elements), object)
    try:
        texts[:] = [element.decode() for element in elements]
    except UnicodeDecodeError:
        raise UsageError(f"input {name!r} has an element that is not UTF-8") from None
    return texts


def datatype(dtype: str) -> str:
    """The protocol's name of a type of a signature."""
    return DATATYPES[dtype]
