"""Answers of the Open Inference Protocol, written as bytes.

What repeats from one answer to the next (names, types, shapes) is encoded once; protocol
buffers may be put together from pieces, so an answer is that beginning and its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from device_agent.serving.doors.regions import bytes_of
from device_agent.serving.generation import Identity
from edge_sdk.base import Digest
from edge_sdk.engines.contract import Array, Shape
from edge_sdk.protos import inference_v2_pb2 as pb

_KNOWN_MAX = 512
_ID = bytes([3 << 3 | 2])  # ModelInferResponse.id
_RAW = bytes([6 << 3 | 2])  # ModelInferResponse.raw_output_contents
_INFER_RESPONSE = bytes([2 << 3 | 2])  # ModelStreamInferResponse.infer_response
_FINAL = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()


class Output(NamedTuple):
    """One tensor of an answer. ``content``: its bytes; empty where it lies in shared memory."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes | Array


class AnswerWriter:
    """Remembers beginnings; any thread may ask."""

    def __init__(self) -> None:
        self._known: dict[object, bytes] = {}

    def answer(self, identity: Identity, request_id: str, outputs: Sequence[Output]) -> bytes:
        """A ModelInferResponse; tensors are copied once, into it."""
        pieces: list[bytes | Array] = [self._beginning(identity, outputs)]
        if request_id:
            encoded = request_id.encode()
            pieces.append(_ID + varint(len(encoded)) + encoded)
        for output in outputs:
            pieces += [_RAW + varint(bytes_of(output.content)), output.content]
        return b"".join(pieces)  # type: ignore[arg-type]  # arrays are buffers

    def _beginning(self, identity: Identity, outputs: Sequence[Output]) -> bytes:
        key = (
            *(identity.model, identity.version),
            *[(output.name, output.datatype, output.shape) for output in outputs],
        )
        known = self._known.get(key)
        if known is None:
            known = pb.ModelInferResponse(
                model_name=identity.model,
                model_version=identity.version,
                outputs=[
                    pb.ModelInferResponse.InferOutputTensor(
                        name=output.name, datatype=output.datatype, shape=output.shape
                    )
                    for output in outputs
                ],
            ).SerializeToString()
            if len(self._known) >= _KNOWN_MAX:
                self._known = {}
            self._known[key] = known
        return known


class Told:
    """The last answer to a kind of request: what stands before each of its tensors."""

    __slots__ = ("_artifact", "_before", "_shapes")

    def __init__(
        self, artifact: Digest | None, shapes: Sequence[Shape], before: Sequence[bytes]
    ) -> None:
        self._artifact = artifact
        self._shapes = shapes
        self._before = before

    @classmethod
    def of(cls, written: bytes, identity: Identity, outputs: Sequence[Output]) -> Told:
        """Of an answer that ``AnswerWriter`` has written."""
        sizes = [bytes_of(output.content) for output in outputs]
        if any(isinstance(output.content, bytes) for output in outputs) or not outputs:
            return NOT_TOLD
        before, end = [], len(written)
        for position, size_bytes in reversed(list(enumerate(sizes))):
            mark = _RAW + varint(size_bytes)
            end -= size_bytes
            begin = end - len(mark) if position else 0
            before.append(written[begin:end])
            end = begin
        return cls(identity.artifact, [output.shape for output in outputs], before[::-1])

    def again(self, identity: Identity, arrays: Sequence[Array]) -> bytes | None:
        """The answer with other numbers; None where more than numbers has changed."""
        if identity.artifact is not self._artifact:
            return None
        pieces: list[bytes | Array] = []
        for before, shape, array in zip(self._before, self._shapes, arrays, strict=True):
            if array.shape != shape or not array.flags.c_contiguous:
                return None
            pieces += (before, array)
        return b"".join(pieces)  # type: ignore[arg-type]  # arrays are buffers


NOT_TOLD = Told(None, (), ())


def in_stream(answer: bytes) -> bytes:
    """A ModelStreamInferResponse with a final answer inside."""
    return b"".join([_INFER_RESPONSE, varint(len(_FINAL) + len(answer)), _FINAL, answer])


def varint(number: int) -> bytes:
    """As protocol buffers write a length."""
    if number < 0x80:
        return bytes((number,))
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
