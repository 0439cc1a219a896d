"""The committed lists: exports of every room, and the numbers of every field on the wire.

``make exports`` writes them again. A field that was renumbered or lost is refused even then.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from tests.support.source_tree import ROOT, rooms

FOLDER = Path(__file__).parent
EXPORTS = FOLDER / "exports.json"
WIRE = FOLDER / "wire.json"

Exports = dict[str, list[str]]
Wire = dict[str, Any]


def current_exports() -> Exports:
    """``__all__`` of every room; a room without one exports nothing."""
    return {room: sorted(getattr(importlib.import_module(room), "__all__", [])) for room in rooms()}


def proto_files() -> list[FileDescriptor]:
    """The loaded descriptors of protos/*.proto."""
    names = sorted(path.stem for path in (ROOT / "protos").glob("*.proto"))
    return [importlib.import_module(f"edge_sdk.protos.{name}_pb2").DESCRIPTOR for name in names]


def current_wire() -> Wire:
    """Fields by message, values by enum, methods by service: what a peer relies on."""
    wire: Wire = {"messages": {}, "enums": {}, "services": {}}
    for file in proto_files():
        for message in file.message_types_by_name.values():
            _add_message(wire, message)
        for enum in file.enum_types_by_name.values():
            wire["enums"][enum.full_name] = {one.name: one.number for one in enum.values}
        for service in file.services_by_name.values():
            wire["services"][service.full_name] = {
                one.name: f"{_stream(one.client_streaming)}{one.input_type.full_name} -> "
                f"{_stream(one.server_streaming)}{one.output_type.full_name}"
                for one in service.methods
            }
    return wire


def _stream(streams: bool) -> str:
    return "stream " if streams else ""


def _add_message(wire: Wire, message: Descriptor) -> None:
    wire["messages"][message.full_name] = {
        str(field.number): f"{'repeated ' if field.is_repeated else ''}{_type(field)} {field.name}"
        for field in sorted(message.fields, key=lambda one: one.number)
    }
    for nested in message.nested_types:
        _add_message(wire, nested)
    for enum in message.enum_types:
        wire["enums"][enum.full_name] = {one.name: one.number for one in enum.values}


def _type(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return str(field.message_type.full_name)
    if field.enum_type is not None:
        return str(field.enum_type.full_name)
    types = {
        getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
        for name in dir(FieldDescriptor)
        if name.startswith("TYPE_")
    }
    return types[field.type]


def broken_promises(before: Wire, now: Wire) -> list[str]:
    """What a peer that was built with ``before`` would no longer find in ``now``."""
    problems = []
    for kind in ("messages", "enums", "services"):
        for owner, entries in before[kind].items():
            found = now[kind].get(owner, {})
            problems += [
                f"{owner}: {key} was {value!r}, is {found.get(key)!r}"
                for key, value in entries.items()
                if found.get(key) != value
            ]
    return problems


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def main() -> int:
    wire = current_wire()
    problems = broken_promises(read(WIRE), wire) if WIRE.exists() else []
    if problems:
        print("\n".join(problems), file=sys.stderr)
        print("fields are never renumbered or taken away: reserve them", file=sys.stderr)
        return 1
    for path, content in ((WIRE, wire), (EXPORTS, current_exports())):
        path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
