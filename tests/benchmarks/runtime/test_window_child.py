"""Batching as it is set by hand: every row is answered once, by its own answer."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from benchmarks.runtime.window_child import Window


class Doubling:
    """A session that answers twice what it gets, and keeps the sizes of its runs."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, inputs: dict[str, Any], _outputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": 2 * inputs["x"]}

    def bind(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
        session = self

        class Bound:
            def run(self) -> None:
                session.batches.append(len(inputs["x"]))
                np.copyto(outputs["y"], 2 * inputs["x"])

        return Bound()


def answers(window: Window, count: int) -> list[float]:
    made: dict[int, float] = {}

    def ask(number: int) -> None:
        made[number] = float(window.infer(np.full((1, 3), number, np.float32))[0, 0])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    return [made[number] for number in range(count)]


def test_a_full_batch_runs_at_once_as_one() -> None:
    """Eight that come together are one run, long before the window ends."""
    session = Doubling()
    assert answers(Window(session, 60.0, 8, 2), 8) == [2.0 * number for number in range(8)]
    assert session.batches == [8]


def test_nobody_waits_for_ever_and_no_batch_is_too_large() -> None:
    """What does not fit a batch leads the next one."""
    session = Doubling()
    assert answers(Window(session, 0.01, 4, 1), 30) == [2.0 * number for number in range(30)]
    assert sum(session.batches) == 30
    assert max(session.batches) <= 4
