"""What a caller of a model acts on beyond the families of ``edge_sdk.base``."""

from __future__ import annotations

from edge_sdk.base import NotFoundError, UsageError


class VersionNotActiveError(NotFoundError):
    """A version was demanded that is not the one that serves now (facts ``version``, ``active``).

    Another version never answers in its place.
    """


class SequenceNotStartedError(UsageError):
    """A request goes on with a sequence that has no state: it never started, or its state is
    gone (facts ``sequence``, ``why``; the latter empty where nothing is known of it).

    Begin again with a request that starts the sequence.
    """


class NotAnAgentError(UsageError):
    """What listens at the agent's address is something else (fact ``address``).

    Where it is inference, ``connect(inference=...)`` is what was meant.
    """
