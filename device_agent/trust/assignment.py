"""Accepting assignment documents."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from device_agent.errors import StateError
from device_agent.store import Store
from device_agent.store.durable import write_whole
from edge_sdk.base import EdgeError, TrustError, Version
from edge_sdk.manifest import Assignment, decode_assignment


def accept(
    document: bytes,
    *,
    device: str,
    kept: bytes | None,
    floors: Mapping[str, Version],
    now_s: int,
) -> Assignment:
    """The assignment that ``document`` is, if this device may believe it.

    ``kept`` is the document accepted last, whose counter is the high-water mark; ``floors``
    the highest floor ever seen for each model.

    Raises: FormatError (not an assignment), TrustError (another device's, older than the one
    kept, the same number with other content, below a floor, a lower version without saying so,
    expired).
    """
    assignment = decode_assignment(document)
    if assignment.device != device:
        raise TrustError(f"an assignment for device {assignment.device!r} was sent to {device!r}")
    mark = decode_assignment(kept).counter if kept is not None else -1
    if assignment.counter < mark:
        raise TrustError(
            f"assignment {assignment.counter} is older than {mark}, which was accepted before",
            counter=assignment.counter,
            mark=mark,
        )
    if assignment.counter == mark and document != kept:
        raise TrustError(
            f"two different assignments have number {mark}; the first one stays", counter=mark
        )
    expires_s = assignment.expires_s
    if assignment.counter > mark and expires_s is not None and expires_s < now_s:
        raise TrustError(f"assignment {assignment.counter} has expired")
    for one in assignment.models:
        floor = floors.get(str(one.model))
        own = one.floor
        if own is not None and (floor is None or own > floor):
            floor = own
        if floor is not None and one.version < floor:
            raise TrustError(f"{one.model} {one.version} is below its floor {floor}")
    if kept is not None:
        _check_downgrades(assignment, decode_assignment(kept))
    return assignment


def _check_downgrades(assignment: Assignment, before: Assignment) -> None:
    """A lower version comes only where the assignment says from where it goes down."""
    versions = {one.model: one.version for one in before.models}
    for one in assignment.models:
        old = versions.get(one.model)
        if old is None or one.version >= old:
            continue
        if one.downgrade_from is None or one.downgrade_from < old:
            raise TrustError(
                f"{one.model} {one.version} is below {old}, which was assigned before, and the "
                "assignment does not say that it goes down from there"
            )


class AssignmentKeeper:
    """Keeps the newest accepted document and the floors, durably."""

    def __init__(self, store: Store, device: str) -> None:
        self._store = store
        self._device = device
        self._floors_path = store.root / "floors"
        self._kept = self._read_kept()
        self.current: Assignment | None = (
            None if self._kept is None else decode_assignment(self._kept)
        )
        if self.current is not None and self.current.device != device:
            raise StateError(
                f"{store.root} belongs to device {self.current.device!r}, not {device!r}: give "
                "its own name or another folder"
            )

    @property
    def counter(self) -> int:
        return 0 if self.current is None else self.current.counter

    def take(self, document: bytes, *, now_s: int) -> Assignment:
        """Accepts and keeps. Raises: as ``accept``."""
        floors = self._floors()
        assignment = accept(
            document, device=self._device, kept=self._kept, floors=floors, now_s=now_s
        )
        if document != self._kept:
            raised = {
                str(one.model): one.floor
                for one in assignment.models
                if one.floor is not None
                and (str(one.model) not in floors or one.floor > floors[str(one.model)])
            }
            if raised:
                marks = {model: str(floor) for model, floor in {**floors, **raised}.items()}
                data = msgspec.json.encode(marks, order="sorted")
                write_whole(self._store.files, self._floors_path, data)
            write_whole(self._store.files, self._store.assignment_path, document)
            self._kept = document
        self.current = assignment
        return assignment

    def _read_kept(self) -> bytes | None:
        path = self._store.assignment_path
        if not self._store.files.exists(path):
            return None
        document = self._store.files.read(path)
        try:
            decode_assignment(document)
        except EdgeError:
            # Rot. The distributor sends it again; what serves is named by slots, not by this.
            return None
        return document

    def _floors(self) -> dict[str, Version]:
        if not self._store.files.exists(self._floors_path):
            return {}
        try:
            marks = msgspec.json.decode(
                self._store.files.read(self._floors_path), type=dict[str, str]
            )
        except msgspec.DecodeError as error:
            raise StateError(f"{self._floors_path} is damaged: {error}") from None
        return {model: Version.parse(mark) for model, mark in marks.items()}
