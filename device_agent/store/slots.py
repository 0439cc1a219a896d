"""Slots: one small file per model that names what serves, switched by rename.

The inference process starts from these files alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.errors import StateError
from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import Digest, EdgeError, ModelName

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What serves for one model.

    ``previous`` is the artifact to fall back to (None: there is none). While
    ``on_probation``, a start of inference must not take the candidate up by itself: it may
    be the reason of the restart.
    """

    model: str
    active: Digest
    previous: Digest | None = None
    on_probation: bool = False

    @property
    def starts_with(self) -> Digest | None:
        """What inference serves after a start; None: nothing, until the updater says so."""
        return self.previous if self.on_probation else self.active


class _SlotFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """As written. Unknown keys of a newer release are passed over."""

    format: int
    model: str
    active: str
    previous: str | None = None
    on_probation: bool = False


class Slots:
    """The folder ``slots/<namespace>/<name>``."""

    def __init__(self, files: FileSystem, folder: Path) -> None:
        self._files = files
        self._folder = folder

    def path(self, model: str) -> Path:
        """Raises: FormatError where ``model`` is no model name."""
        name = ModelName.parse(model)
        return self._folder / name.namespace / name.name

    def all(self) -> tuple[Slot, ...]:
        """Sorted by model. A file that cannot be read is no slot: see ``all_or_none``."""
        return tuple(slot for slot in map(self._read, self._paths()) if slot is not None)

    def all_or_none(self) -> tuple[Slot, ...] | None:
        """Every slot, from one reading of each; None where one of them cannot be read."""
        slots = [self._read(path) for path in self._paths()]
        whole = tuple(slot for slot in slots if slot is not None)
        return whole if len(whole) == len(slots) else None

    def get(self, model: str) -> Slot | None:
        path = self.path(model)
        return self._read(path) if self._files.exists(path) else None

    def put(self, slot: Slot) -> None:
        """The switch: durable when this returns. Read back, so that success is a fact."""
        path = self.path(slot.model)
        durable.make_folder(self._files, path.parent)
        document = _SlotFile(
            format=_FORMAT,
            model=slot.model,
            active=str(slot.active),
            previous=None if slot.previous is None else str(slot.previous),
            on_probation=slot.on_probation,
        )
        durable.write_whole(self._files, path, msgspec.json.encode(document))
        if self._read(path) != slot:
            raise StateError(f"the slot {path} does not read back as it was written")

    def remove(self, model: str) -> None:
        durable.remove(self._files, self.path(model))

    def _paths(self) -> list[Path]:
        return [
            self._folder / namespace / name
            for namespace in self._files.names(self._folder)
            for name in self._files.names(self._folder / namespace)
            if not name.startswith(".")
        ]

    def _read(self, path: Path) -> Slot | None:
        try:
            document = msgspec.json.decode(self._files.read(path), type=_SlotFile)
            slot = Slot(
                model=document.model,
                active=Digest.parse(document.active),
                previous=None if document.previous is None else Digest.parse(document.previous),
                on_probation=document.on_probation,
            )
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, EdgeError):
            return None
        return slot if slot.model == f"{path.parent.name}/{path.name}" else None
