"""Requests that belong to a trace of their caller's, by the header ``traceparent``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from device_agent.statistics_page import TraceWriter

Act = TypeVar("Act", bound=Callable[..., Any])

_HEADER = "traceparent"


def followed(act: Act, tracer: TraceWriter | None) -> Act:
    """``act(request, context, ...)``, its statistics told of the caller's trace; as it is where
    nothing is traced."""
    if tracer is None:
        return act

    def with_caller(request: Any, context: Any, *rest: Any) -> Any:
        headers = (pair for pair in context.invocation_metadata() if pair[0] == _HEADER)
        _, traceparent = next(headers, ("", ""))
        with tracer.caller(traceparent):
            return act(request, context, *rest)

    return with_caller  # type: ignore[return-value]
