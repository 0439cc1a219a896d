"""A caller's trace goes on with its request."""

from __future__ import annotations

import io
from typing import Any

import pytest

from device_agent.rest.application import Application
from edge_sdk.protos import inference_v2_pb2 as pb

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}'


class Channel:
    """Answers every call, and keeps the headers that came with it."""

    def __init__(self) -> None:
        self.metadata: list[Any] = []

    def unary_unary(self, *_: Any, **__: Any) -> Any:
        def call(_request: Any, *, timeout: float, metadata: Any) -> pb.ModelInferResponse:
            assert timeout > 0
            self.metadata.append(list(metadata))
            return pb.ModelInferResponse(model_name="a/b", model_version="1.0.0")

        return call


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ({"HTTP_TRACEPARENT": TRACEPARENT}, [("traceparent", TRACEPARENT)]),
        (
            {"HTTP_TRACEPARENT": "cc" + TRACEPARENT[2:] + "-\xe9"},
            [("traceparent", "cc" + TRACEPARENT[2:])],
        ),
        ({"HTTP_TRACEPARENT": "\xe9"}, []),
        ({}, []),
    ],
    ids=["traced", "later version", "nonsense", "none"],
)
def test_the_trace_is_handed_on(header: dict[str, str], sent: list[tuple[str, str]]) -> None:
    """A header of the standard reaches the inference process; anything else does not."""
    channel = Channel()
    application = Application(channel, "127.0.0.1:1")  # type: ignore[arg-type]
    environ = {
        **{"PATH_INFO": "/v2/models/a/b/infer", "REQUEST_METHOD": "POST"},
        **{"wsgi.input": io.BytesIO(BODY), **header},
    }
    said: list[str] = []
    list(application(environ, lambda status, _headers: said.append(status)))
    assert (said, channel.metadata) == (["200 OK"], [sent])
