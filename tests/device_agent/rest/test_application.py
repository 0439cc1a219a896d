"""The REST form over its real server, against what a real Triton answered."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.access import AppTokens, Guard
from device_agent.rest.run import BODY_BYTES_MAX, RestServer
from tests.support.rest_requests import REQUESTS, REST_ANSWERS, Rest, ask, infer, x
from tests.support.triton_calls import unspaced
from tests.support.triton_twin import triton_twin

RECORDED: dict[str, dict[str, Any]] = json.loads(REST_ANSWERS.read_text())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    inference = f"unix:{folder}/inference.sock"
    with (
        triton_twin(folder, prefix="edge-record-", address=inference),
        RestServer("127.0.0.1:0", inference) as server,
    ):
        yield server.address


def ours(address: str, one: Rest) -> dict[str, Any]:
    return ask(address, one, version="1.0.0", other="9.0.0")


def test_over_tcp_a_token_is_shown(tmp_path: Path) -> None:
    """Every path asks for an app with the role infer, before it reads a body or says what there
    is; a socket asks for none."""
    inference = f"unix:{tmp_path}/inference.sock"
    tokens = AppTokens(tmp_path)
    infers, watches = tokens.add("camera", ["infer"]), tokens.add("wall", ["observe"])
    with (
        triton_twin(tmp_path, prefix="edge-token-", address=inference),
        RestServer("127.0.0.1:0", inference, guard=Guard(tokens=tokens)) as server,
    ):
        for path in ("/v2/health/live", "/v2/models/stats", "/v2/nothing", "/"):
            answers = [
                ask(server.address, Rest("GET", path), version="", other="", token=token)
                for token in ("", "edge-app.wrong", watches)
            ]
            assert [one["status"] for one in answers] == [401, 401, 403]
            assert "token of an app" in answers[0]["answer"]["error"]
        live = Rest("GET", "/v2/health/live")
        assert ask(server.address, live, version="", other="", token=infers)["status"] == 200
        connection = http.client.HTTPConnection(server.address, timeout=30)
        connection.request("GET", "/v2")
        assert connection.getresponse().headers["WWW-Authenticate"] == "Bearer"
        connection.close()


def test_every_request_was_recorded() -> None:
    """There is an answer of Triton's for each request, and no answer without one."""
    assert set(RECORDED) == set(REQUESTS)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_as_by_triton(address: str, name: str) -> None:
    """The same status, JSON and bytes; an error names the same things."""
    one, recorded = REQUESTS[name], RECORDED[name]
    told = ours(address, one)
    assert told["status"] == (one.status or recorded["status"]), told
    if recorded["status"] != 200:
        for answer in (told, recorded):
            for part in one.says:
                assert unspaced(part) in unspaced(answer["answer"]["error"])
        return
    if name == "index":
        for answer in (told, recorded):
            answer["answer"] = sorted((row["name"], row["state"]) for row in answer["answer"])
    assert told == recorded


def test_what_clients_read_of_models(address: str) -> None:
    """Statistics and the server's own description, with numbers as numbers."""
    ours(address, REQUESTS["infer"])
    for path in ("/v2/models/linear/stats", "/v2/models/linear/versions/1.0.0/stats"):
        (stats,) = ours(address, Rest("GET", path))["answer"]["model_stats"]
        assert stats["inference_count"] >= 1
        assert stats["inference_stats"]["success"]["ns"] > 0
    every = ours(address, Rest("GET", "/v2/models/stats"))["answer"]["model_stats"]
    assert {"linear", "named"} <= {one["name"] for one in every}
    server = ours(address, Rest("GET", "/v2"))["answer"]
    assert server["name"] == "edge-model-sdk"
    assert {"system_shared_memory", "binary_tensor_data"} <= set(server["extensions"])
    config = ours(address, Rest("GET", "/v2/models/batched/config"))["answer"]
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (8, [4])
    assert config["input"][0]["data_type"] == "TYPE_FP32"


@pytest.mark.parametrize(
    ("data", "shape", "datatype", "says"),
    [
        ([1, 2], [2], "INT8", ""),
        ([1.5, 2], [2], "INT8", "integers"),
        ([300, 2], [2], "INT8", "does not fit into int8"),
        ([True, 1], [2], "INT8", "integers"),
        ([0, 1], [2], "BOOL", "truth values"),
        ([[True], False], [2], "BOOL", "unevenly"),
        (7, [1], "INT64", "no list"),
        (["a", 1], [2], "BYTES", "texts"),
        ([1, 2], [2], "BF16", "does not travel as JSON"),
        ([1, 2], [2], "FP31", "does not travel as JSON"),
        ([1, 2], [1 << 70], "INT64", "shape"),
    ],
)
def test_values_that_fit(
    address: str, data: Any, shape: list[int], datatype: str, says: str
) -> None:
    """What is no element of the type is refused, not turned into one."""
    model = {"INT8": "small", "BOOL": "bool", "BYTES": "text"}.get(datatype, "long")
    told = ours(address, Rest(**infer(model, x(data, shape, datatype))))
    assert told["status"] == (400 if says else 200)
    assert says in told["answer"].get("error", "")


def test_numbers_that_json_cannot_write(address: str) -> None:
    """Not-a-number and the infinite come back as null; raw they come as they are."""
    values = np.array([np.nan, np.inf, 1, -np.inf], np.float32)
    given = {
        "name": "x",
        "datatype": "FP32",
        "shape": [1, 4],
        "parameters": {"binary_data_size": 16},
    }
    told = ours(address, Rest(**infer("named", given, raw=values.tobytes())))
    assert told["answer"]["outputs"][0]["data"] == [None, None, 1.0, None]


@pytest.mark.parametrize(
    ("body", "length", "says"),
    [
        *((b"{}", "3", "not in a body"), (b"{}", "0", "not in a body"), (b"{}", "-1", "no number")),
        *((b"{}", "9" * 30, "no number"), (b'{"inputs":[]}tail', "13", "belong to no input")),
        (b"[" * 5000, "", "body"),
    ],
)
def test_bodies_that_are_none(address: str, body: bytes, length: str, says: str) -> None:
    """A length that lies, bytes that belong to nothing, JSON too deep: 400, and why."""
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {"Inference-Header-Content-Length": length} if length else {}
    connection.request("POST", "/v2/models/linear/infer", body, headers)
    answer = connection.getresponse()
    assert answer.status == 400
    assert says in json.loads(answer.read())["error"]
    connection.close()


def test_a_compressed_body_is_not_guessed_at(address: str) -> None:
    """415, before anything is read as JSON."""
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {"Content-Encoding": "gzip"}
    connection.request("POST", "/v2/models/linear/infer", gzip.compress(b"{}"), headers)
    assert connection.getresponse().status == 415
    connection.close()


def test_a_body_is_bounded(address: str) -> None:
    """One that says it is larger is refused before it is read."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.putrequest("POST", "/v2/models/linear/infer")
    connection.putheader("Content-Length", str(BODY_BYTES_MAX + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *(({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403)),
        *(({"Host": "evil.example:80"}, 403), ({"Host": "localhost:80"}, 200)),
        *(({"Host": "[::1]:80"}, 200), ({"Host": "[::1]"}, 200)),
    ],
)
def test_pages_of_a_browser_are_not_answered(
    address: str, headers: dict[str, str], status: int
) -> None:
    """Neither those of another origin, nor those whose name was made to lead here."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/v2/health/live", headers=headers)
    assert connection.getresponse().status == status
    connection.close()


def test_without_inference_it_says_so(tmp_path: Any) -> None:
    """While the other process is started again: 503."""
    with RestServer("127.0.0.1:0", f"unix:{tmp_path}/nobody.sock") as server:
        assert ours(server.address, REQUESTS["infer"])["status"] == 503
