"""Errors of the agent where its callers act differently from the shared families."""

from __future__ import annotations

from edge_sdk.base import FormatError, ProofError, RefusedError, UnavailableError


class StateError(FormatError):
    """The kept state cannot be read by this release; the message says what to do."""


class SourceRottenError(ProofError):
    """A held file no longer has its digest: it is put aside and never a source again."""


class CandidateRefusedError(RefusedError):
    """A candidate failed its trial or its probation on this device."""


class RolledBackByOperatorError(RefusedError):
    """The version serves no more because somebody on this device asked for the one before."""


class GroupFailedError(RefusedError):
    """Another model of the same group failed here: they switch together or not at all."""


class SupersededError(RefusedError):
    """A newer assignment wants something else; the work in progress was stopped."""


class InferenceGoneError(UnavailableError):
    """The inference process does not answer; it is being started again."""
