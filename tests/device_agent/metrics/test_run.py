"""The metrics process's work, in a thread."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import urllib.request

import pytest

from device_agent.config import AgentConfig
from device_agent.metrics import check_metrics, needed, run_metrics
from device_agent.metrics.run import scraped
from edge_sdk.base import ConflictError, RefusedError, UsageError
from tests.support.processes import wait_for
from tests.support.used_page import used_words


def config(address: str) -> AgentConfig:
    return AgentConfig(state_dir="/nowhere", device="kiosk-7", metrics_address=address)


def text_at(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_it_is_scraped_until_it_is_closed() -> None:
    """Each scrape reads the page as it is then; closed, the address is free again."""
    words = used_words()
    with scraped("127.0.0.1:0", words) as port:
        assert "edge_inference_starts_total 1.0" in text_at(port)
        words[1] = 5
        assert "edge_inference_starts_total 5.0" in text_at(port)
    with scraped(f"127.0.0.1:{port}", words):
        pass


def test_it_runs_until_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At low priority, from start to the word to end."""
    nice: list[int] = []
    monkeypatch.setattr(os, "nice", nice.append)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    over = threading.Event()
    worker = threading.Thread(
        target=run_metrics, args=(config(f"127.0.0.1:{port}"), used_words(), over)
    )
    worker.start()
    try:

        def answers() -> str | None:
            try:
                return text_at(port)
            except OSError:
                return None

        assert "edge_model_info" in wait_for(answers, "the server")
    finally:
        over.set()
        worker.join(20)
    assert not worker.is_alive()
    assert nice == [10]


def test_a_taken_address_is_a_conflict() -> None:
    """Where somebody else listens, the error names the address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConflictError, match=address), scraped(address, used_words()):
            pass


def test_a_missing_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal says what to install; without the setting nothing is needed."""
    monkeypatch.setattr(needed.importlib.util, "find_spec", lambda _name: None)
    check_metrics(config(""))
    with pytest.raises(RefusedError, match=r"edge-model-sdk\[metrics\]"):
        check_metrics(config("127.0.0.1:9100"))

    def parent_missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(needed.importlib.util, "find_spec", parent_missing)
    with pytest.raises(RefusedError, match=r"edge-model-sdk\[otel\]"):
        check_metrics(dataclasses.replace(config(""), otlp_endpoint="http://127.0.0.1:4318"))


@pytest.mark.parametrize("address", ["unix:/run/metrics.sock", "9100", "127.0.0.1:port"])
def test_an_address_that_cannot_be_scraped(address: str) -> None:
    """Only HOST:PORT can be collected from."""
    with pytest.raises(UsageError):
        config(address).check()
