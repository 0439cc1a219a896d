"""A request of the fast lane as it comes again and again: read once, its answer laid out once."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from device_agent.serving.answer import Answer
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors.demanded import check_version
from device_agent.serving.doors.tensors import as_texts
from device_agent.serving.repeated import Repeated
from device_agent.serving.request import GivenTensor, Request
from device_agent.serving.sequences import Sequence as SequenceOf
from edge_sdk.base import UsageError
from edge_sdk.client.wire_tensors import decode_texts, encode_texts
from edge_sdk.engines.contract import STORAGE, Array
from edge_sdk.fastlane import Answer as AnswerPacket
from edge_sdk.fastlane import Infer, Place, aligned, encode

_NUMBER = struct.Struct("<I")
_NUMBER_AT = 4  # of the request, in the header of each packet


class Plan:
    """Tied to one slot: it looks into its memory, and must go before that does."""

    def __init__(self, packet: Infer, view: memoryview) -> None:
        """``view``: the slot. Raises: UsageError where an input is not in it, or no text."""
        check_version(packet.version)
        self.request = Request(
            model=packet.model,
            version=packet.version,
            inputs=[_tensor(place, view) for place in packet.inputs],
            wanted=packet.outputs,
            priority=packet.priority,
            sequence=_sequence(packet),
        )
        # Texts are read out of the slot at once: the next ones are other ones. And the next
        # request with these inputs may be of another sequence.
        texts = any(place.dtype == "string" for place in packet.inputs)
        self.lasts = not texts and not packet.sequence
        self.repeated: Repeated | None = None
        self._asked = 0  # the generation that was asked for it
        self._view = view
        self._generation = 0  # whose answer the rest is laid out for
        self._outputs: list[tuple[str, Array]] = []
        self._packet = bytearray()

    def again(self, number: int, answer: Answer) -> bytearray | None:
        """The answer packet to request ``number`` with the outputs in the slot, if they are laid
        out as in the answer before; else None."""
        if answer.generation != self._generation:
            return None
        outputs = answer.outputs
        if not answer.static and any(
            outputs[name].shape != place.shape for name, place in self._outputs
        ):
            return None
        for name, place in self._outputs:
            place[...] = outputs[name]
        return self.numbered(number)

    def numbered(self, number: int) -> bytearray:
        """The packet of the answer before as that to request ``number``."""
        _NUMBER.pack_into(self._packet, _NUMBER_AT, number)
        return self._packet

    def repeat(self, dispatcher: Dispatcher, answer: Answer) -> None:
        """Asks, once for each generation, for a shorter way for requests as this one."""
        if not self.lasts or not answer.static or self._asked == answer.generation:
            return
        if self.repeated is None and dispatcher.answers_alone(answer):
            self._asked = answer.generation
            self.repeated = dispatcher.repeated(self.request, answer, dict(self._outputs))

    def forget_repeated(self) -> None:
        """It is over: where the same generation answers alone again, it is asked again."""
        self.repeated = None
        self._asked = 0

    def close(self) -> None:
        """Before the slot goes."""
        if self.repeated is not None:
            self.repeated.close()
            self.repeated = None

    def keep(self, answer: Answer, places: Sequence[Place], packet: bytes) -> None:
        """Lays out the answers to come as this one."""
        if all(place.dtype != "string" for place in places):
            self._outputs = [(place.name, array_of(place, self._view)) for place in places]
            self._packet = bytearray(packet)
            self._generation = answer.generation


def array_of(place: Place, view: memoryview) -> Array:
    """A tensor's memory in the slot."""
    part = view[place.offset : place.offset + place.size_bytes]
    return np.frombuffer(part, STORAGE[place.dtype]).reshape(place.shape)


def _sequence(packet: Infer) -> SequenceOf | None:
    if not packet.sequence:
        return None
    return SequenceOf(id=packet.sequence, start=packet.sequence_start, end=packet.sequence_end)


def _tensor(place: Place, view: memoryview) -> GivenTensor:
    end = place.offset + place.size_bytes
    if end > len(view):
        raise UsageError(f"input {place.name!r} ends at byte {end} of a slot of {len(view)}")
    part: memoryview | Array = view[place.offset : end]
    if place.dtype == "string":
        part = as_texts(place.name, decode_texts(bytes(part)))
    elif place.dtype != "bool":  # there any byte may stand for true
        part = array_of(place, view)
    return GivenTensor(name=place.name, dtype=place.dtype, shape=place.shape, data=part)


def parts_of(answer: Answer) -> list[Array | bytes]:
    """What of each output goes into the slot."""
    return [
        encode_texts(array.ravel().tolist()) if answer.specs[name].dtype == "string" else array
        for name, array in answer.outputs.items()
    ]


def places_for(answer: Answer, parts: Sequence[Array | bytes]) -> list[Place]:
    """The outputs one after the other, from the slot's begin."""
    places, end = [], 0
    for (name, array), part in zip(answer.outputs.items(), parts, strict=True):
        place = Place(
            name=name,
            dtype=answer.specs[name].dtype,
            shape=array.shape,
            offset=aligned(end),
            size_bytes=len(part) if isinstance(part, bytes) else part.nbytes,
        )
        places.append(place)
        end = place.offset + place.size_bytes
    return places


def answer_packet(
    answer: Answer, places: Sequence[Place], *, new_slot_bytes: int, number: int
) -> bytes:
    return encode(
        AnswerPacket(
            version=answer.identity.version,
            outputs=tuple(places),
            new_slot_bytes=new_slot_bytes,
            request=number,
        )
    )
