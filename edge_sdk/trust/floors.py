"""The lowest version of each model that its publisher lets devices run, as signed metadata say it.

It stands beside the target that it came with. Of a namespace that is spread over bins a device
sees one bin, so there the namespace's own document repeats the floors of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tuf.api.metadata import Targets

from edge_sdk.base import FormatError, Version

_FIELD = "x-edge-floors"


def floors_in(documents: Iterable[Targets]) -> dict[str, Version]:
    """The highest of each model, by its name. Rubbish says nothing."""
    highest: dict[str, Version] = {}
    for model, text in (said for document in documents for said in _said(document)):
        try:
            floor = Version.parse(text)
        except (FormatError, TypeError):
            continue  # only its own publisher could have written that
        if model not in highest or floor > highest[model]:
            highest[model] = floor
    return highest


def repeat_floors(document: Targets, floors: Mapping[str, Version]) -> None:
    """A namespace's document says these from now on, beside what it said."""
    known = floors_in([document])
    raised = {
        model: str(max(floor, known.get(model, floor))) for model, floor in sorted(floors.items())
    }
    if raised:
        said = document.unrecognized_fields.get(_FIELD)
        kept = said if isinstance(said, dict) else {}
        document.unrecognized_fields[_FIELD] = {**kept, **raised}


def _said(document: Targets) -> Iterator[tuple[str, Any]]:
    for path, target in document.targets.items():
        custom = target.custom
        if isinstance(custom, dict) and "floor" in custom:
            yield path.rsplit("/", 2)[0], custom["floor"]
    repeated = document.unrecognized_fields.get(_FIELD)
    if isinstance(repeated, dict):
        yield from repeated.items()
