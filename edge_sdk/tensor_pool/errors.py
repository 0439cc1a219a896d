"""Misuse of slabs: always a defect of ours, never of an input."""

from __future__ import annotations

from edge_sdk.base import EdgeError


class SlabError(EdgeError):
    """A slab was released twice, used after its release, or written to after its release."""
