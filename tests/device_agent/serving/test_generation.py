"""A generation's life: requests inside, retired, empty."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support import onnx_models
from tests.support.serving_door import serving


def test_the_last_request_out_closes_the_door(tmp_path: Path) -> None:
    """Retired with two inside: nobody enters, and the second to leave says it is empty."""
    generation = serving(tmp_path).load("team/linear", onnx_models.linear(1.0))
    empty: list[bool] = []
    assert generation.enter()
    assert generation.enter()
    generation.retire(lambda: empty.append(True))
    assert not generation.enter()
    generation.leave()
    assert empty == []
    generation.leave()
    assert empty == [True]


def test_an_idle_generation_is_empty_at_once(tmp_path: Path) -> None:
    """Retired with nobody inside, it says so immediately."""
    generation = serving(tmp_path).load("team/linear", onnx_models.linear(1.0))
    empty: list[bool] = []
    generation.retire(lambda: empty.append(True))
    assert empty == [True]


def test_of_many_threads_one_tells_that_it_is_empty(tmp_path: Path) -> None:
    """Requests enter and leave while it is retired: it is told once, when nobody is inside."""
    generation = serving(tmp_path).load("team/linear", onnx_models.linear(1.0))
    empty: list[int] = []
    started = threading.Barrier(5)

    def work() -> None:
        started.wait()
        while generation.enter():
            generation.leave()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    generation.retire(lambda: empty.append(generation.in_flight))
    for thread in threads:
        thread.join()
    assert len(empty) == 1
    assert generation.in_flight == 0
