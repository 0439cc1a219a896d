"""What a request demands beyond its tensors."""

from __future__ import annotations

from edge_sdk.base import EdgeError, UsageError, Version


def check_version(version: str) -> None:
    """Raises: UsageError where a demanded version is none, as the standard's servers do."""
    if not version:
        return
    try:
        Version.parse(version)
    except EdgeError as error:
        raise UsageError(error.message) from None
