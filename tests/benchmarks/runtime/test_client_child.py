"""The client: when a request counts from, and what counts as a wrong answer."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from benchmarks.runtime import client_child
from benchmarks.runtime.clients import Log, answered, merged


class Never:
    """Nobody asks to stop."""

    asked = False


def job(**more: Any) -> dict[str, Any]:
    return {"begin_s": time.monotonic(), "for_s": 0.05, **more}


def test_waiting_behind_a_slow_request_counts() -> None:
    """With a rate, latency is from when a request was due: one pause of 30 ms is seen by all
    that were due meanwhile, as it would be by an application that does not stop."""
    slow = iter([0.03, *[0.0] * 100])

    def ask() -> tuple[str, Any]:
        time.sleep(next(slow))
        return "1.0.0", np.zeros(1)

    told = client_child.work(ask, job(rate=200.0), {}, Never())
    assert len(told["latencies_us"]) == 10
    assert told["latencies_us"][0] >= 30_000
    assert told["latencies_us"][1] >= 20_000
    assert told["sent_s"] == [round(number / 200, 6) for number in range(10)]


def test_an_answer_of_another_version_is_an_error() -> None:
    """The value must be that of the version which the answer names."""
    expected = {"1.0.0": np.zeros(2), "2.0.0": np.ones(2)}
    assert client_child.judge("2.0.0", np.ones(2), expected) == ""
    assert "2.0.0" in client_child.judge("2.0.0", np.zeros(2), expected)
    assert "'3.0.0'" in client_child.judge("3.0.0", np.ones(2), expected)


def test_a_failed_request_is_counted_and_the_next_one_goes_on() -> None:
    """Whatever a request ends with, the client lives on and says what it was."""
    fails = itertools.chain([True], itertools.repeat(False))

    def ask() -> tuple[str, Any]:
        if next(fails):
            raise OSError("gone")
        return "1.0.0", np.zeros(1)

    told = client_child.work(ask, job(for_s=0.01), {}, Never())
    assert (told["failed"], told["errors"]) == (1, ["OSError: gone"])
    assert told["versions"][""] == 1
    assert len(told["latencies_us"]) > 1


def test_logs_of_several_clients_are_one() -> None:
    """Latencies in milliseconds, right answers counted, a window cut out by when it was due."""
    one = Log(
        sent_s=(0.0, 1.0, 2.0),
        latencies_us=(1000.0, 2000.0, 3000.0),
        versions={},
        failed=1,
        errors=("x",),
    )
    assert merged([one, one]) == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    assert answered([one, one]) == 4
    assert one.between_ms(1.0, 2.0) == [2.0]
