"""Requests to the protocol's REST form, sent to a real Triton once and to ours in each test run."""

from __future__ import annotations

import base64
import http.client
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REST_ANSWERS = Path(__file__).with_name("rest_answers.json")
_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Rest:
    """``{version}`` and ``{other}`` in ``path`` become the peer's; ``says``: parts of an error."""

    method: str
    path: str
    body: Any = None
    raw: bytes = b""  # behind the body, which then has a length of its own
    says: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()  # of the answer, () for all that is not versions
    status: int = 0  # ours, where it says better than Triton's whose fault it is; 0: the same


def ask(address: str, one: Rest, *, version: str, other: str, token: str = "") -> dict[str, Any]:
    """Status, and the answer without what names the server's own versions."""
    document = one.body if isinstance(one.body, bytes) else json.dumps(one.body).encode()
    body = b"" if one.body is None else document + one.raw
    headers = {_LENGTH: str(len(document))} if one.raw else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        path = one.path.format(version=version, other=other)
        connection.request(one.method, path, body if one.method == "POST" else None, headers)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    head = int(answer.headers.get(_LENGTH, len(data)))
    told: Any = json.loads(data[:head]) if data[:head] else None
    if isinstance(told, dict):
        for name in ("model_version", "versions", "platform"):
            told.pop(name, None)
        if one.keep:
            told = {name: told.get(name) for name in one.keep}
    return {
        "status": answer.status,
        "answer": told,
        "binary": base64.b64encode(data[head:]).decode(),
    }


def x(data: Any, shape: list[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape, "data": data, **more}


def infer(model: str, *inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {name: more.pop(name) for name in ("raw", "says") if name in more}
    path = f"/v2/models/{model}/infer"
    return {"method": "POST", "path": path, "body": {"inputs": list(inputs), **more}, **given}


_FLOATS = struct.pack("<4f", 1, 2, 3, 4)
_BEHIND = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}
_ONES = x([1, 1, 1, 1], [1, 4])

REQUESTS: dict[str, Rest] = {
    "live": Rest("GET", "/v2/health/live"),
    "ready": Rest("GET", "/v2/health/ready"),
    "model ready": Rest("GET", "/v2/models/linear/ready"),
    "model ready, version": Rest("GET", "/v2/models/linear/versions/{version}/ready"),
    "model ready, unknown": Rest("GET", "/v2/models/unknown/ready"),
    "metadata": Rest("GET", "/v2/models/linear"),
    "metadata, version": Rest("GET", "/v2/models/linear/versions/{version}"),
    "metadata, unknown": Rest("GET", "/v2/models/unknown", says=("'unknown' is not found",)),
    "metadata, other version": Rest(
        "GET", "/v2/models/linear/versions/{other}", says=("version 9", "is not found")
    ),
    "configuration": Rest("GET", "/v2/models/linear/config", keep=("name", "max_batch_size")),
    "index": Rest("POST", "/v2/repository/index", {}),
    "load": Rest("POST", "/v2/repository/models/linear/load", {}),
    "load, unknown": Rest(
        "POST", "/v2/repository/models/unknown/load", {}, says=("failed to load 'unknown'",)
    ),
    "unload, unknown": Rest("POST", "/v2/repository/models/unknown/unload", {}),
    "infer": Rest(**infer("linear", x([1, 2, 3, 4], [1, 4]))),
    "infer nested": Rest(**infer("linear", x([[1, 2, 3, 4], [5, 6, 7, 8.5]], [2, 4]), id="r7")),
    "infer INT64": Rest(**infer("long", x([-1, 1 << 62], [2], "INT64"))),
    "infer INT8": Rest(**infer("small", x([-128, 127], [2], "INT8"))),
    "infer BOOL": Rest(**infer("bool", x([True, False], [2], "BOOL"))),
    "infer BYTES": Rest(**infer("text", x(["a", "grüß"], [2], "BYTES"))),
    "infer a named output": Rest(**infer("linear", _ONES, outputs=[{"name": "y"}])),
    "infer a version": Rest(
        "POST", "/v2/models/linear/versions/{version}/infer", {"inputs": [_ONES]}
    ),
    "infer, priority": Rest(**infer("linear", _ONES, parameters={"priority": 1, "timeout": 10**6})),
    "infer, classes": Rest(
        **infer(
            "named",
            x([1, 4, 2, 3], [1, 4]),
            outputs=[{"name": "y", "parameters": {"classification": 2}}],
        )
    ),
    "infer, raw behind": Rest(**infer("linear", _BEHIND, raw=_FLOATS)),
    "infer, raw back": Rest(
        **infer("linear", _ONES, outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    ),
    "infer, raw both ways": Rest(
        **infer("linear", _BEHIND, raw=_FLOATS, parameters={"binary_data_output": True})
    ),
    "infer, raw but for one": Rest(
        **infer(
            "linear",
            _ONES,
            parameters={"binary_data_output": True},
            outputs=[{"name": "y", "parameters": {"binary_data": False}}],
        )
    ),
    "infer, FP16 behind": Rest(
        **infer(
            "half",
            {"name": "x", "datatype": "FP16", "shape": [1], "parameters": {"binary_data_size": 2}},
            raw=struct.pack("<e", 1.5),
            parameters={"binary_data_output": True},
        )
    ),
    "infer, unknown": Rest(**infer("unknown", _ONES, says=("'unknown' is not found",))),
    "infer, no JSON": Rest("POST", "/v2/models/linear/infer", b"{", status=400),
    "infer, no inputs": Rest("POST", "/v2/models/linear/infer", {}, says=("inputs",), status=400),
    "infer, wrong shape": Rest(
        **infer("linear", x([1, 1], [1, 2]), says=("expected [-1,4], got [1,2]",))
    ),
    "infer, unknown output": Rest(**infer("linear", _ONES, outputs=[{"name": "q"}], says=("'q'",))),
    "infer, unknown input": Rest(**infer("linear", {**_ONES, "name": "z"}, says=("'z'",))),
    "infer, no data": Rest(
        **infer("linear", {"name": "x", "datatype": "FP32", "shape": [1, 4]}, says=())
    ),
    "infer, text for a number": Rest(**infer("linear", x(["a"] * 4, [1, 4])), status=400),
    "regions": Rest("GET", "/v2/systemsharedmemory/status"),
    "region, unknown": Rest("GET", "/v2/systemsharedmemory/region/q/status", says=("region: 'q'",)),
    "region, of nothing": Rest(
        "POST",
        "/v2/systemsharedmemory/region/q/register",
        {"key": "edge-record-none", "offset": 0, "byte_size": 8},
        says=("unable to open shared memory region",),
    ),
    "region unregistered": Rest("POST", "/v2/systemsharedmemory/region/q/unregister"),
    "no path": Rest("GET", "/v3"),
    "infer by GET": Rest("GET", "/v2/models/linear/infer"),
}
