"""The journal: what is about to be done, durable before it is done. Append-only.

A record is its length (4 bytes, little-endian), the CRC-32 of its JSON (4 bytes) and the
JSON. A torn last record is cut off when the journal is opened. The same records are the
device's numbered events: what was entered is what is reported.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import msgspec

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import ResourceError

_HEAD = struct.Struct("<II")
_RECORD_BYTES_MAX = 1 << 20
_COMPACT_BYTES = 4 << 20
_EVENTS_KEPT = 512  # for the local event stream; unacknowledged ones are kept beyond that
_UNACKNOWLEDGED_MAX = 20_000


class Entered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An update entered a state (or something worth an event happened in it).

    ``fallback`` and ``spare`` are the active and the previous artifact from before the
    switch: where a rollback leads.
    """

    number: int
    at_ms: int
    model: str
    version: str
    variant: str
    artifact: str
    rollout: str
    attempt: int
    kind: str
    state: str
    event: str
    reason: str = ""
    message: str = ""
    facts: dict[str, str] = {}
    fallback: str = ""
    spare: str = ""
    passing: tuple[str, ...] = ()  # artifacts on the way there: the hub of a plan in two steps


class Refused(Entered, frozen=True, kw_only=True, tag=True):
    """Something was not believed: an event of the device, of no update. Its fields that speak of
    one are empty."""


class Judged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A verdict of trial or probation: blocks the artifact here up to this attempt."""

    model: str
    artifact: str
    attempt: int
    reason: str
    message: str


class Forgotten(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The model is no longer assigned: its update and verdicts are over."""

    model: str


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The distributor keeps every event up to this number."""

    number: int


class Numbered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Left by compaction: numbers go on from here, whatever was dropped."""

    number: int


Record = Entered | Refused | Judged | Forgotten | Acknowledged | Numbered


class Journal:
    """Opened by the updater alone."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        self._files = files
        self._path = path
        self.number = 0
        self.acknowledged = 0
        self.damaged_bytes = 0  # cut off the tail on opening
        self._events: list[Entered] = []
        self._latest: dict[str, Entered] = {}
        self._verdicts: dict[tuple[str, str], Judged] = {}
        self._size = 0
        self._open()

    # -- reading -------------------------------------------------------------------------

    def latest(self) -> dict[str, Entered]:
        """For each model, the last state that an update of it entered."""
        return dict(self._latest)

    def events(self, after: int = 0) -> list[Entered]:
        return [event for event in self._events if event.number > after]

    def outcomes(self, model: str) -> dict[tuple[str, int, str], str]:
        """How each order for a model ended last: by artifact, attempt and rollout."""
        return {
            (event.artifact, event.attempt, event.rollout): event.state
            for event in self._events
            if event.model == model and event.kind == "update"
        }

    def verdict(self, model: str, artifact: str, attempt: int) -> Judged | None:
        """The remembered verdict that still blocks; a higher attempt lifts it."""
        judged = self._verdicts.get((model, artifact))
        return judged if judged is not None and attempt <= judged.attempt else None

    def spoken_against(self, model: str) -> list[str]:
        """Every artifact of a model that there is a verdict on, the newest verdict last."""
        return [artifact for name, artifact in self._verdicts if name == model]

    # -- writing -------------------------------------------------------------------------

    def append(self, *records: Record) -> None:
        """Durable when this returns. Raises: ResourceError (disk full), OSError."""
        data = b"".join(map(_frame, records))
        try:
            durable.append(self._files, self._path, data)
        except OSError as error:
            # What was half-written must not stand before the next record.
            self._files.truncate(self._path, self._size)
            raise ResourceError(f"the journal {self._path} cannot be written: {error}") from None
        self._size += len(data)
        for record in records:
            self._take(record)
        if self._size > _COMPACT_BYTES:
            with contextlib.suppress(OSError):  # the disk is full: the records stand, though
                self.compact()

    def compact(self) -> None:
        """Writes anew what still matters, as a whole file."""
        kept = self._kept()
        data = b"".join(map(_frame, kept))
        durable.write_whole(self._files, self._path, data)
        self._size = len(data)
        self._events = [record for record in kept if isinstance(record, Entered)]

    def _kept(self) -> list[Record]:
        events = self._events[-_UNACKNOWLEDGED_MAX:]
        first = max(0, len(events) - _EVENTS_KEPT)
        recent = [
            event
            for place, event in enumerate(events)
            if place >= first or event.number > self.acknowledged
        ]
        numbers = {event.number for event in recent}
        states = [event for event in self._latest.values() if event.number not in numbers]
        gone = {event.model for event in recent} - {*self._latest, ""}
        entered = sorted([*states, *recent], key=lambda event: event.number)
        return [
            Acknowledged(number=self.acknowledged),
            *self._verdicts.values(),
            *entered,
            *(Forgotten(model=model) for model in sorted(gone)),
            Numbered(number=self.number),
        ]

    def _open(self) -> None:
        try:
            data = self._files.read(self._path)
        except FileNotFoundError:
            return
        for record, end in read_records(data):
            self._take(record)
            self._size = end
        self.damaged_bytes = len(data) - self._size
        if self.damaged_bytes:
            # Kept for whoever wonders; the next record must follow a whole one.
            aside = self._path.with_name(self._path.name + ".damaged")
            durable.write_whole(self._files, aside, data[self._size :])
            durable.write_whole(self._files, self._path, data[: self._size])

    def _take(self, record: Record) -> None:
        if isinstance(record, Entered):
            self.number = max(self.number, record.number)
            self._events.append(record)
            if not isinstance(record, Refused):
                self._latest[record.model] = record
        elif isinstance(record, Judged):
            self._verdicts.pop((record.model, record.artifact), None)  # the newest comes last
            self._verdicts[record.model, record.artifact] = record
        elif isinstance(record, Forgotten):
            self._latest.pop(record.model, None)
            self._verdicts = {
                key: verdict for key, verdict in self._verdicts.items() if key[0] != record.model
            }
        elif isinstance(record, Acknowledged):
            self.acknowledged = max(self.acknowledged, record.number)
        else:
            self.number = max(self.number, record.number)


def read_records(data: bytes) -> Iterator[tuple[Record, int]]:
    """The whole records from the start, each with the offset of its end; stops at damage."""
    position = 0
    while position + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + length
        if length > _RECORD_BYTES_MAX or end > len(data):
            return
        payload = data[position + _HEAD.size : end]
        if zlib.crc32(payload) != check:
            return
        try:
            record = cast(Record, msgspec.json.decode(payload, type=Record))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        yield record, end
        position = end


def _frame(record: Record) -> bytes:
    payload = msgspec.json.encode(record)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def encode_records(records: Sequence[Record]) -> bytes:
    """What a journal of these records is, byte for byte."""
    return b"".join(map(_frame, records))
