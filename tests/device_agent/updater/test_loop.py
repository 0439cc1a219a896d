"""The one thread of the updater."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from device_agent.updater.loop import Loop
from edge_sdk.base import UnavailableError, UsageError


@pytest.fixture
def loop() -> Iterator[Loop]:
    one = Loop()
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    yield one
    one.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_calls_run_on_one_thread_in_order(loop: Loop) -> None:
    """Whoever puts them."""
    seen: list[tuple[int, str]] = []
    for number in range(5):
        loop.put(lambda number=number: seen.append((number, threading.current_thread().name)))  # type: ignore[misc]
    loop.ask(lambda: None)
    assert [number for number, _ in seen] == list(range(5))
    assert len({name for _, name in seen}) == 1


def test_ask_gives_the_result_or_the_error(loop: Loop) -> None:
    """On the asking thread."""
    assert loop.ask(lambda: 7) == 7

    def fail() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError):
        loop.ask(fail)


def test_ask_does_not_wait_for_ever() -> None:
    """A loop that does not run is an UnavailableError."""
    with pytest.raises(UnavailableError):
        Loop().ask(lambda: None, timeout_s=0.05)


def test_timers_fire_in_their_order_and_can_be_cancelled(loop: Loop) -> None:
    """A cancelled one never does."""
    fired: list[str] = []
    done = threading.Event()

    def arm() -> None:
        loop.later(0.06, lambda: (fired.append("late"), done.set()))  # type: ignore[arg-type, return-value]
        loop.later(0.02, lambda: fired.append("early"))
        loop.later(0.03, lambda: fired.append("never")).cancel()

    loop.ask(arm)
    assert done.wait(10)
    assert fired == ["early", "late"]


def test_background_work_comes_back(loop: Loop) -> None:
    """Result or exception, handed over on the loop's thread."""
    got: list[tuple[object, object, str]] = []
    done = threading.Event()

    def take(result: object, error: object) -> None:
        got.append((result, error, threading.current_thread().name))
        if len(got) == 2:
            done.set()

    def slow() -> int:
        time.sleep(0.01)
        return 3

    loop.put(lambda: loop.background(slow, take))
    loop.put(lambda: loop.background(lambda: 1 // 0, take))
    assert done.wait(10)
    results = sorted((str(result), type(error).__name__) for result, error, _ in got)
    assert results == [("3", "NoneType"), ("None", "ZeroDivisionError")]
    assert len({name for _, _, name in got}) == 1
