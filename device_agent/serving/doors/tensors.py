"""Tensors between the messages of the Open Inference Protocol and arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from device_agent.serving.doors.demanded import parameter_value
from device_agent.serving.doors.regions import RegionPart, Use
from device_agent.serving.request import GivenTensor
from edge_sdk.base import UsageError
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
_REGION = "shared_memory_region"
_REGION_BYTES = "shared_memory_byte_size"
_REGION_OFFSET = "shared_memory_offset"


def given_tensors(request: pb.ModelInferRequest, use: Use) -> list[GivenTensor]:
    """The inputs of a request: raw in order, skipping those in shared memory, or typed contents,
    never both.

    Raises: UsageError; NotFoundError (a shared memory region).
    """
    raw = request.raw_input_contents
    given = []
    taken = 0
    for tensor in request.inputs:
        part = region_part(tensor.name, tensor.parameters, use) if tensor.parameters else None
        if part is not None:
            given.append(_from_region(tensor, part))
        elif not raw:
            given.append(_from_contents(tensor))
        elif tensor.HasField("contents"):
            raise UsageError(
                f"contents of {tensor.name!r} must not be given together with raw_input_contents"
            )
        else:
            if taken < len(raw):
                given.append(_from_raw(tensor, raw[taken]))
            taken += 1
    if raw and taken != len(raw):
        raise UsageError(
            f"expected {taken} raw_input_contents, one for each input that is not in shared "
            f"memory, got {len(raw)}"
        )
    return given


def region_part(
    name: str, parameters: Mapping[str, pb.InferParameter], use: Use
) -> RegionPart | None:
    """Where a tensor lies in shared memory; None: it does not.

    Raises: UsageError; NotFoundError (no such region).
    """
    if _REGION not in parameters:
        return None
    where = f" for tensor {name!r}"
    region = parameter_value(parameters[_REGION], _REGION, ("string_param",), where)
    if _REGION_BYTES not in parameters:
        raise UsageError(
            f"{_REGION_BYTES!r} must be specified along with {_REGION!r} parameter{where}"
        )
    integer = ("int64_param",)
    size_bytes = parameter_value(parameters[_REGION_BYTES], _REGION_BYTES, integer, where)
    offset: int | str | bool = 0
    if _REGION_OFFSET in parameters:
        offset = parameter_value(parameters[_REGION_OFFSET], _REGION_OFFSET, integer, where)
    return use.part(str(region), int(offset), int(size_bytes))


def _from_region(tensor: pb.ModelInferRequest.InferInputTensor, part: RegionPart) -> GivenTensor:
    if tensor.HasField("contents"):
        raise UsageError(
            f"unexpected 'content' provided when using shared memory for input {tensor.name!r}"
        )
    if tensor.datatype == "BYTES":
        return _from_raw(tensor, part.read())
    shape = tuple(tensor.shape)
    return GivenTensor(name=tensor.name, dtype=_dtype(tensor), shape=shape, data=part)


def _from_raw(tensor: pb.ModelInferRequest.InferInputTensor, data: bytes) -> GivenTensor:
    dtype = _dtype(tensor)
    return GivenTensor(
        name=tensor.name,
        dtype=dtype,
        shape=tuple(tensor.shape),
        data=_texts(tensor.name, data) if dtype == "string" else data,
    )


def _texts(name: str, data: bytes) -> Array:
    try:
        elements = decode_texts(data)
    except UsageError as error:
        raise UsageError(f"input {name!r}: {error.message}") from None
    return as_texts(name, elements)


def _from_contents(tensor: pb.ModelInferRequest.InferInputTensor) -> GivenTensor:
    dtype = _dtype(tensor)
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise UsageError(
            f"input {tensor.name!r} is {tensor.datatype}, which travels in raw_input_contents only"
        )
    if not tensor.HasField("contents"):
        raise UsageError(f"unable to find data for input tensor {tensor.name!r} in request")
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
