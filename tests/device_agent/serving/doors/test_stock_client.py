"""Every call of the stock Triton client that we claim, against what a real Triton answered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.triton_calls import (
    ANSWERS,
    Peer,
    observe,
    peer,
    unspaced,
)
from tests.support.triton_cases import CASES
from tests.support.triton_twin import triton_twin

RECORDED: dict[str, dict[str, Any]] = json.loads(ANSWERS.read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    prefix = f"edge-test-{os.getpid()}-"
    with (
        triton_twin(tmp_path_factory.mktemp("models"), prefix=prefix) as address,
        peer(address, version="1.0.0", other="9.0.0", prefix=prefix) as to,
    ):
        yield to


def test_every_call_was_recorded() -> None:
    """There is an answer of Triton's for each call, and no answer without a call."""
    assert set(RECORDED) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_stock_client_is_answered_as_by_triton(server: Peer, name: str) -> None:
    """The same status, the same payload, and a message that says the same key things."""
    told = observe(CASES[name], server)
    assert told["status"] == RECORDED[name]["status"], told
    assert told.get("answer") == RECORDED[name].get("answer")
    for one in (told, RECORDED[name]):
        for part in CASES[name].says:
            assert unspaced(part) in unspaced(str(one["message"]))
