"""Errors of the distributor: classes of their own only where the caller acts differently."""

from __future__ import annotations

from edge_sdk.base import RefusedError, UnavailableError
from edge_sdk.base import UnauthenticatedError as UnauthenticatedError  # noqa: PLC0414 - its place was here


class BeingBuiltError(UnavailableError):
    """The delta asked for is being built; the same call works after ``retry_after_s``."""


class BuildFailedError(RefusedError):
    """A delta could not be built; the message says why, and asking again at once is no help."""


class NoVariantFitsError(RefusedError):
    """No variant of the version fits the device; the message says what each one lacks."""
