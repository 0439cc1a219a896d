"""A request over the fast lane as it is sent again and again: its packet, and where tensors lie.

Made once for a model and shapes in a slot; the next one like it only writes its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import FormatError, UsageError
from edge_sdk.client.result import Result
from edge_sdk.client.wire_tensors import decode_array
from edge_sdk.fastlane import Answer, Place, aligned, packets

Array = NDArray[Any]
_PLAIN = np.ndarray  # not a class of its own, which may mean something else by its parts
What = tuple[str, str, tuple[str, ...]]  # model, version or "", outputs or none
Key = tuple[What, tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneInput:
    """``dtype``: the signature's name; text as an object array."""

    name: str
    dtype: str
    array: Array


class LaneRequest:
    """Good as long as the slot is, for one connection."""

    __slots__ = (
        *("_inputs", "_outputs", "answer_bytes", "answer_tail", "deadline_s"),
        *("dtypes", "outputs_end", "packet", "priority", "shown", "version", "what"),
    )

    def __init__(
        self,
        what: What,
        packet: bytes,
        slot: memoryview,
        given: Sequence[LaneInput],
        places: Sequence[Place],
    ) -> None:
        """``packet``: names the ``places`` in ``slot`` for the inputs that are ``given``."""
        self.what = what
        self.packet = bytearray(packet)
        self.dtypes = tuple(one.dtype for one in given)
        # Name, shape and type as the app gives it, and the array in the slot that it goes to.
        self._inputs = tuple(
            (one.name, place.shape, one.array.dtype, view_of(slot, place, one.array.dtype))
            for one, place in zip(given, places, strict=True)
            if one.dtype != "string"
        )
        # The answer before: its bytes behind the header, and what they say.
        self.answer_tail = b""
        self.answer_bytes = 0
        self.version = ""
        self.deadline_s = math.nan  # what the packet says now; not a number: nothing
        self.priority = 0
        self.outputs_end = 0
        self._outputs: tuple[tuple[str, Array], ...] = ()
        self.shown: Result | None = None

    def fits(self, inputs: Mapping[str, Any]) -> bool:
        """Lays the inputs into the slot if they have the same names, shapes and types."""
        if len(inputs) != len(self._inputs):
            return False
        for name, shape, dtype, view in self._inputs:
            array = inputs.get(name)
            if type(array) is not _PLAIN or array.shape != shape or array.dtype != dtype:
                return False
            view[...] = array
        return True

    def lay(self, inputs: Mapping[str, Array]) -> None:
        """The same where they are known to fit."""
        for name, _, _, view in self._inputs:
            view[...] = inputs[name]

    def result(self) -> Result:
        """Copies of the outputs of the last answer."""
        outputs = {}
        for name, array in self._outputs:
            outputs[name] = array.copy()
        return Result(outputs, self.version)

    def arrays(self) -> dict[str, Array]:
        """The inputs in the slot."""
        return {name: view for name, _, _, view in self._inputs}

    def views(self) -> Result:
        """The outputs of the last answer in the slot; the same until they lie elsewhere."""
        if self.shown is None:
            for _, array in self._outputs:
                array.flags.writeable = False
            self.shown = Result(MappingProxyType(dict(self._outputs)), self.version)
        return self.shown

    def learn(self, answer: Answer, tail: bytes, slot: memoryview) -> None:
        """Raises: FormatError where an output does not lie in the slot."""
        outputs = []
        same = not answer.new_slot_bytes
        for place in answer.outputs:
            end = place.offset + place.size_bytes
            if end > len(slot):
                raise FormatError(f"output {place.name!r} ends beyond the slot")
            if place.dtype == "string":
                same = False
                outputs.append((place.name, _texts(place, bytes(slot[place.offset : end]))))
            else:
                outputs.append((place.name, view_of(slot, place, None)))
        self.version, self._outputs, self.shown = answer.version, tuple(outputs), None
        self.outputs_end = max((one.offset + one.size_bytes for one in answer.outputs), default=0)
        self.answer_tail = tail if same else b""
        self.answer_bytes = packets.ANSWER_TAIL_BEGIN + len(tail) if same else 0


def key_of(what: What, inputs: Mapping[str, Any]) -> Key | None:
    """What requests with equal packets have in common. None: an input is no plain array."""
    parts: list[object] = []
    for name, array in inputs.items():
        if type(array) is not _PLAIN:
            return None
        parts += (name, array.shape, array.dtype)
    return what, tuple(parts)


def _texts(place: Place, data: bytes) -> Array:
    """Raises: FormatError."""
    try:
        return decode_array("BYTES", place.shape, data)
    except UsageError as error:
        raise FormatError(f"output {place.name!r}: {error.message}") from None


def view_of(slot: memoryview, place: Place, dtype: Any) -> Array:
    """The array in the slot; bfloat16 as bit patterns unless ``dtype`` is such a type."""
    if place.dtype == "bfloat16":
        kind = np.dtype(np.uint16) if dtype is None else np.dtype(dtype)
    else:
        kind = np.dtype(place.dtype)
    view = slot[place.offset : place.offset + place.size_bytes]
    return np.frombuffer(view, kind).reshape(place.shape)


def places_of(
    inputs: Sequence[LaneInput], texts: Mapping[str, bytes], *, begin: int
) -> tuple[Place, ...]:
    """The inputs one after the other, from byte ``begin`` of the slot."""
    places: list[Place] = []
    end = begin
    for one in inputs:
        text = texts.get(one.name)
        places.append(
            Place(
                name=one.name,
                dtype=one.dtype,
                shape=one.array.shape,
                offset=aligned(end),
                size_bytes=one.array.nbytes if text is None else len(text),
            )
        )
        end = places[-1].offset + places[-1].size_bytes
    return tuple(places)
