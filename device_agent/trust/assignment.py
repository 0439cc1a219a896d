"""Accepting assignment documents: the rules, each a function, and what is kept.

Signatures are the gate's (gate.py); here is what any assignment has to obey.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_agent.errors import StateError
from device_agent.store import Store
from device_agent.store.durable import make_folder, write_whole
from device_agent.trust.floors import Floors
from edge_sdk.base import Digest, EdgeError, TrustError, Version
from edge_sdk.manifest import AssignedModel, Assignment, decode_assignment

# Whoever steals the key that assigns could otherwise use up all numbers with one assignment.
COUNTER_STEP_MAX = 1 << 20


def check_device(assignment: Assignment, device: str) -> None:
    """Raises: TrustError."""
    if assignment.device != device:
        raise TrustError(
            f"an assignment for device {assignment.device!r} was sent to {device!r}",
            check="device",
        )


def check_counter(assignment: Assignment, document: bytes, kept: bytes | None) -> None:
    """Never back, never far ahead, and one number stands for one document.

    Raises: TrustError.
    """
    mark = decode_assignment(kept).counter if kept is not None else -1
    if assignment.counter < mark:
        raise TrustError(
            f"assignment {assignment.counter} is older than {mark}, which was accepted before",
            check="counter",
            counter=assignment.counter,
            mark=mark,
        )
    if assignment.counter > mark + COUNTER_STEP_MAX:
        raise TrustError(
            f"assignment {assignment.counter} is too far above {mark}: no honest number would "
            "be left in the end",
            check="counter",
            counter=assignment.counter,
            mark=mark,
        )
    if assignment.counter == mark and document != kept:
        raise TrustError(
            f"two different assignments have number {mark}; the first one stays",
            check="counter",
            counter=mark,
        )


def check_expiry(assignment: Assignment, document: bytes, kept: bytes | None, now_s: int) -> None:
    """One that was accepted stays: being off for two months is never fatal. Raises: TrustError."""
    if document != kept and assignment.expires_s is not None and assignment.expires_s < now_s:
        raise TrustError(f"assignment {assignment.counter} has expired", check="expiry")


def check_downgrade(assignment: Assignment, kept: bytes | None) -> None:
    """A lower version than the one accepted before only where it says so. Raises: TrustError."""
    models = decode_assignment(kept).models if kept is not None else ()
    before = {one.model: one.version for one in models}
    for one in assignment.models:
        highest = before.get(one.model)
        if highest is None or one.version >= highest:
            continue
        if one.downgrade_from is None or one.downgrade_from < highest:
            raise TrustError(
                f"{one.model} {one.version} is below {highest}, which was accepted before, and "
                "the assignment does not say that it goes down",
                check="downgrade",
            )


def check_floor(assigned: AssignedModel, floor: Version | None) -> None:
    """Raises: TrustError."""
    if floor is not None and assigned.version < floor:
        raise TrustError(
            f"{assigned.model} {assigned.version} is below its floor {floor}", check="floor"
        )


def accept(
    assignment: Assignment,
    document: bytes,
    *,
    device: str,
    kept: bytes | None,
    floors: Mapping[str, Version],
    now_s: int,
) -> None:
    """Every rule that the assignment, as ``document`` spells it, has to obey here.

    ``kept`` is the document accepted last, whose counter is the high-water mark; ``floors``
    the highest floor ever seen for each model.

    Raises: TrustError (another device's, older than the one kept, the same number with other
    content, going down without saying so, below a floor, expired).
    """
    check_device(assignment, device)
    check_counter(assignment, document, kept)
    check_expiry(assignment, document, kept, now_s)
    for one in assignment.models:
        check_floor(one, floors.get(str(one.model)))
        check_floor(one, one.floor)
    check_downgrade(assignment, kept)


class AssignmentKeeper:
    """Keeps the newest accepted document and the floors, durably, each twice."""

    def __init__(self, store: Store, device: str) -> None:
        self._store = store
        self.device = device
        self._copy_path = store.root / "trust" / "assignment"
        self.floors = Floors(store.files, (store.root / "floors", store.root / "trust" / "floors"))
        self.kept = self._read_kept()
        self.current: Assignment | None = (
            None if self.kept is None else decode_assignment(self.kept)
        )
        if self.current is not None and self.current.device != device:
            raise StateError(
                f"{store.root} belongs to device {self.current.device!r}, not {device!r}: give "
                "its own name or another folder"
            )

    @property
    def counter(self) -> int:
        return 0 if self.current is None else self.current.counter

    def artifacts(self) -> frozenset[Digest]:
        """Every artifact of the assignment in force."""
        models = self.current.models if self.current is not None else ()
        return frozenset(one.artifact for one in models)

    def allowed(self, model: str, version: Version) -> str:
        """``version`` as text, where somebody here may go back to it. Raises: TrustError."""
        floor = self.floors_or_none().get(model)
        if floor is not None and version < floor:
            raise TrustError(f"{model} {version} is below its floor {floor}", check="floor")
        return str(version)

    def floors_or_none(self) -> dict[str, Version]:
        """As kept; none where both copies rotted, since the metadata name them again."""
        try:
            return self.floors.read()
        except StateError:
            return {}

    def keep(self, document: bytes, assignment: Assignment, floors: Mapping[str, Version]) -> None:
        """Durably, the floors first. Raises: OSError."""
        files = self._store.files
        make_folder(files, self._copy_path.parent)
        self.floors.raise_to(floors)
        if document != self.kept:
            for path in (self._copy_path, self._store.assignment_path):
                write_whole(files, path, document)
            self.kept = document
        self.current = assignment

    def _read_kept(self) -> bytes | None:
        """The newest of the two copies that can be read; None where neither can.

        Rot: the distributor sends it again; what serves is named by slots, not by this.
        """
        newest: tuple[int, bytes] | None = None
        for path in (self._store.assignment_path, self._copy_path):
            try:
                document = self._store.files.read(path)
                counter = decode_assignment(document).counter
            except (OSError, EdgeError):
                continue
            if newest is None or counter > newest[0]:
                newest = (counter, document)
        return None if newest is None else newest[1]
