"""The names that certificates carry: one URI, and nothing else, says who somebody is."""

from __future__ import annotations

from typing import Literal

from edge_sdk.base import FormatError, check_segment

Kind = Literal["device", "operator"]
KINDS: tuple[Kind, ...] = ("device", "operator")

_PREFIX = "spiffe://edge/"


def spiffe_id(kind: Kind, name: str) -> str:
    """Raises: FormatError (no name)."""
    return f"{_PREFIX}{kind}/{check_segment(name, kind)}"


def parse_spiffe_id(uri: str) -> tuple[Kind, str]:
    """Raises: FormatError."""
    said, _, name = uri.removeprefix(_PREFIX).partition("/")
    kind = next((one for one in KINDS if one == said), None)
    if kind is None or not uri.startswith(_PREFIX):
        raise FormatError(f"{uri[:120]!r} names neither a device nor an operator")
    return kind, check_segment(name, kind)
