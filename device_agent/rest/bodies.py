"""Requests and answers of the protocol's REST form: JSON, with raw tensors behind it where the
binary data extension says so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edge_sdk.base import FormatError, UsageError
from edge_sdk.client.wire_tensors import DTYPES, decode_texts, encode_array, encode_texts
from edge_sdk.protos import inference_v2_pb2 as pb

_BINARY = "binary_data"
_BINARY_BYTES = "binary_data_size"
_BINARY_OUTPUT = "binary_data_output"
_REGION = "shared_memory_region"
_KINDS = {"b": "truth values", "i": "integers", "u": "integers", "f": "numbers"}
_ALLOWED: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float}),
}

Value = bool | int | float | str
Parameters = dict[str, Value]


class Input(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: Any = msgspec.UNSET


class Output(msgspec.Struct):
    name: str
    parameters: Parameters = {}


class InferBody(msgspec.Struct):
    inputs: list[Input]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[Output] = []


class Wanted(msgspec.Struct, frozen=True):
    """Which outputs travel as bytes behind the JSON: all but or none but the named."""

    all: bool
    named: Mapping[str, bool]

    def binary(self, name: str) -> bool:
        return self.named.get(name, self.all)


def read_json(data: bytes, kind: Any) -> Any:
    """Raises: UsageError."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the body is not what was expected: {error}") from None


def read_request(
    body: bytes, header_bytes: int | None, *, model: str, version: str
) -> tuple[pb.ModelInferRequest, Wanted]:
    """``header_bytes``: of JSON at the beginning of the body, None: all of it.

    Raises: UsageError.
    """
    if header_bytes is not None and not 0 < header_bytes <= len(body):
        raise UsageError(f"the JSON of {header_bytes} bytes is not in a body of {len(body)}")
    given: InferBody = read_json(body if header_bytes is None else body[:header_bytes], InferBody)
    rest = memoryview(body)[len(body) if header_bytes is None else header_bytes :]
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=given.id)
    by_default = bool(given.parameters.pop(_BINARY_OUTPUT, False))
    _set(request.parameters, given.parameters)
    for one in given.inputs:
        tensor = request.inputs.add(name=one.name, datatype=one.datatype)
        try:
            tensor.shape.extend(one.shape)
        except (ValueError, OverflowError):
            raise UsageError(f"input {one.name!r}: no such shape {one.shape}") from None
        size_bytes = one.parameters.pop(_BINARY_BYTES, None)
        _set(tensor.parameters, one.parameters)
        if _REGION in one.parameters:
            continue
        if size_bytes is None:
            request.raw_input_contents.append(_from_json(one))
            continue
        if not isinstance(size_bytes, int) or not 0 <= size_bytes <= len(rest):
            raise UsageError(
                f"input {one.name!r}: {_BINARY_BYTES} is {size_bytes!r}, {len(rest)} bytes are left"
            )
        request.raw_input_contents.append(bytes(rest[:size_bytes]))
        rest = rest[size_bytes:]
    if rest:
        raise UsageError(f"{len(rest)} bytes of the body belong to no input")
    named = {}
    for wished in given.outputs:
        if _BINARY in wished.parameters:
            named[wished.name] = bool(wished.parameters.pop(_BINARY))
        _set(request.outputs.add(name=wished.name).parameters, wished.parameters)
    return request, Wanted(by_default, named)


def write_answer(answer: pb.ModelInferResponse, wanted: Wanted) -> tuple[bytes, list[bytes]]:
    """The JSON, and the tensors that come behind it in this order."""
    binary: list[bytes] = []
    outputs = []
    for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        written: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if not raw and 0 not in tensor.shape:
            pass  # it lies in shared memory
        elif wanted.binary(tensor.name) or tensor.datatype == "BF16":
            written["parameters"] = {_BINARY_BYTES: len(raw)}
            binary.append(raw)
        else:
            written["data"] = to_json(tensor.datatype, raw)
        outputs.append(written)
    document = {
        "model_name": answer.model_name,
        "model_version": answer.model_version,
        **({"id": answer.id} if answer.id else {}),
        "outputs": outputs,
    }
    return msgspec.json.encode(document), binary


def to_json(datatype: str, raw: bytes) -> list[Any]:
    """The elements in row-major order. A number that JSON cannot write becomes null."""
    if datatype == "BYTES":
        return [one.decode("utf-8", "replace") for one in decode_texts(raw)]
    elements: list[Any] = np.frombuffer(raw, np.dtype(DTYPES[datatype]).newbyteorder("<")).tolist()
    return elements


def _from_json(given: Input) -> bytes:
    """The raw bytes of a tensor that came as numbers or texts, nested or flat."""
    where = f"input {given.name!r}"
    if given.data is msgspec.UNSET:
        raise UsageError(f"{where} has neither data, {_BINARY_BYTES} nor {_REGION}")
    if given.datatype not in DTYPES or given.datatype == "BF16":
        raise UsageError(f"{where}: {given.datatype} does not travel as JSON")
    flat = _flat(given.data, where)
    if given.datatype == "BYTES":
        if not all(isinstance(one, str) for one in flat):
            raise UsageError(f"{where}: the elements of {given.datatype} are texts")
        return encode_texts(flat)
    kind = np.dtype(DTYPES[given.datatype])
    return encode_array(_numbers(flat, kind, where))


def _flat(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise UsageError(f"{where}: data is no list")
    flat: list[Any] = data
    while flat and isinstance(flat[0], list):
        if set(map(type, flat)) != {list}:
            raise UsageError(f"{where}: data is nested unevenly")
        flat = list(itertools.chain.from_iterable(flat))
    return flat


def _numbers(flat: Sequence[Any], kind: np.dtype[Any], where: str) -> Any:
    if not set(map(type, flat)) <= _ALLOWED[kind.kind]:
        raise UsageError(f"{where}: the elements of {kind.name} are {_KINDS[kind.kind]}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, kind)
    except (OverflowError, ValueError):
        raise UsageError(f"{where}: a value does not fit into {kind.name}") from None


def _set(parameters: Any, given: Mapping[str, Value]) -> None:
    for name, value in given.items():
        parameter: Any = parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, str):
            parameter.string_param = value
        elif isinstance(value, float):
            parameter.double_param = value
        elif -(1 << 63) <= value < 1 << 63:
            parameter.int64_param = value
        else:
            try:
                parameter.uint64_param = value
            except ValueError:
                raise UsageError(f"parameter {name!r}: {value} is no number of 64 bits") from None


def header_length(text: str) -> int | None:
    """Raises: FormatError."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise FormatError(f"Inference-Header-Content-Length {text[:40]!r} is no number")
    return int(text)


def plain(message: Any) -> dict[str, Any]:
    """A message as the protocol's JSON: names as they are, numbers of 64 bits as numbers, and
    what is zero or empty as well; only messages that are not there are left out."""
    return {
        field.name: _plain_value(getattr(message, field.name), field)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _plain_value(value: Any, field: Any) -> Any:
    if hasattr(value, "ListFields"):
        return plain(value)
    if hasattr(value, "items"):
        return {key: _plain_value(one, field) for key, one in value.items()}
    if hasattr(value, "extend"):
        return [_plain_value(one, field) for one in value]
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value
