"""The agent's settings as a value."""

from __future__ import annotations

import dataclasses

import pytest

from device_agent.config import (
    AgentConfig,
    CacheConfig,
    ModelConfig,
    ProbationConfig,
    check_address,
    check_endpoint,
    from_json,
    to_json,
)
from edge_sdk.base import FormatError, UsageError

CONFIG = AgentConfig(
    state_dir="/var/lib/x",
    device="kiosk-7",
    labels={"site": "oslo"},
    caches={"team/digits": CacheConfig(memory_bytes=1 << 20)},
    models={"team/digits": ModelConfig(batch_max=8, states={"h": "h_next"})},
)


def test_it_travels_as_json() -> None:
    """What one process writes, the other reads."""
    assert from_json(to_json(CONFIG)) == CONFIG
    with pytest.raises(FormatError):
        from_json("{")


def test_default_addresses_lie_in_the_state_folder() -> None:
    """Unix sockets by default, others when asked."""
    assert CONFIG.agent_uri == "unix:/var/lib/x/agent.sock"
    assert CONFIG.inference_uri == "unix:/var/lib/x/inference.sock"
    tcp = dataclasses.replace(CONFIG, local_address="127.0.0.1:1", inference_address="[::1]:2")
    assert (tcp.agent_uri, tcp.inference_uri) == ("127.0.0.1:1", "[::1]:2")
    tcp.check()


@pytest.mark.parametrize(
    "uri", ["unix:", "nothing", ":5", "host:", "host:99999", "unix:" + "x" * 101]
)
def test_addresses_that_cannot_work(uri: str) -> None:
    """Each is a UsageError; a path too long says what to do."""
    with pytest.raises(UsageError) as wrong:
        check_address(uri)
    if len(uri) > 100:
        assert "--state" in wrong.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"device": "No Name"},
        {"labels": {"Bad Key": "x"}},
        {"shared_memory_prefix": "a/b"},
        {"rest_address": "nothing"},
        {"memory_bytes": -1},
        {"caches": {"team/digits": CacheConfig(memory_bytes=-1)}},
        {"caches": {"team/digits": CacheConfig(file_bytes=1000)}},
        {"caches": {"digits": CacheConfig()}},
        {"models": {"digits": ModelConfig()}},
        {"models": {"team/digits": ModelConfig(batch_max=0)}},
        {"models": {"team/digits": ModelConfig(threads=-1)}},
        {"models": {"team/digits": ModelConfig(states_idle_s=0)}},
        {"models": {"team/digits": ModelConfig(states={"h": "y", "c": "y"})}},
        {"models": {"team/digits": ModelConfig(states_start={"h": (1, 4)})}},
        {"probation": ProbationConfig(share=0.0)},
        {"probation": ProbationConfig(share=1.5)},
        {"probation": ProbationConfig(agree_min=1.0)},
        {"check_in_s": 0},
        {"retry_cap_s": float("nan")},
        {"decoder_memory_bytes": 5},
        {"state_dir": "/" + "x" * 120},
    ],
)
def test_settings_that_cannot_work(change: dict[str, object]) -> None:
    """Found before anything starts."""
    CONFIG.check()
    with pytest.raises((UsageError, FormatError)):
        dataclasses.replace(CONFIG, **change).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:4318", "127.0.0.1:4318"),
        ("https://traces.example/v1/traces", "traces.example:443"),
        ("http://[::1]:4318/", "[::1]:4318"),
        ("http://localhost", "localhost:80"),
    ],
)
def test_where_a_collector_is(url: str, address: str) -> None:
    """The address that a URL of a collector leads to, with the scheme's own port."""
    assert check_endpoint(url) == address


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "grpc://host:1", "http://", "http://h:x", ""])
def test_what_is_no_url_of_a_collector(url: str) -> None:
    """Another scheme, or no host, is wrong usage."""
    with pytest.raises(UsageError):
        check_endpoint(url)
