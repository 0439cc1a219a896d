"""The connection: what is safe is tried again with growing pauses, nothing else is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_sdk.base import BusyError, NotFoundError, UnavailableError
from edge_sdk.fleet.connection import Connection, Patience
from edge_sdk.rpc import Backoff, Credentials


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def connection(pauses: list[float]) -> Iterator[Connection]:
    patience = Patience(attempts=4, backoff=Backoff(base_s=1.0, cap_s=3.0))
    made = Connection(
        "127.0.0.1:9",
        Credentials(operator="ada"),
        patience=patience,
        sleep=pauses.append,
        chance=lambda: 1.0,
    )
    yield made
    made.close()


class Flaky:
    """Fails as often as told, then answers."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.left = failures
        self.error = error or UnavailableError("away")
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "done"


def test_repeats_until_it_answers(connection: Connection, pauses: list[float]) -> None:
    """Pauses double up to the cap, and the answer of the last attempt counts."""
    assert connection.repeat(Flaky(3)) == "done"
    assert pauses == [1.0, 2.0, 3.0]


def test_gives_up_after_the_last_attempt(connection: Connection, pauses: list[float]) -> None:
    """No pause follows the last attempt."""
    flaky = Flaky(9)
    with pytest.raises(UnavailableError):
        connection.repeat(flaky)
    assert (flaky.calls, len(pauses)) == (4, 3)


def test_a_busy_distributor_is_given_its_time(connection: Connection, pauses: list[float]) -> None:
    """What it asks for comes before the pause; where that is long, whoever waits hears at once."""
    assert connection.repeat(Flaky(2, BusyError("busy", retry_after_s="5"))) == "done"
    assert pauses == [6.0, 7.0]
    flaky = Flaky(1, BusyError("busy", retry_after_s="600"))
    with pytest.raises(BusyError):
        connection.repeat(flaky)
    assert (flaky.calls, len(pauses)) == (1, 2)


def test_refusal_is_not_repeated(connection: Connection, pauses: list[float]) -> None:
    """An answer that trying again cannot change is final."""
    flaky = Flaky(1, NotFoundError("no such thing"))
    with pytest.raises(NotFoundError):
        connection.repeat(flaky)
    assert (flaky.calls, pauses) == (1, [])


def test_once_is_once(connection: Connection) -> None:
    """What must not be repeated is not."""
    flaky = Flaky(1)
    with pytest.raises(UnavailableError):
        connection.once(flaky)
    assert flaky.calls == 1


def test_follow_begins_the_count_anew_with_each_message(
    connection: Connection, pauses: list[float]
) -> None:
    """A stream may break any number of times as long as it brings something in between."""
    opened = 0

    def stream() -> Iterator[int]:
        nonlocal opened
        opened += 1
        yield opened
        if opened < 8:
            raise UnavailableError("broken")

    assert list(connection.follow(stream)) == list(range(1, 9))
    assert pauses == [1.0] * 7


def test_follow_gives_up(connection: Connection, pauses: list[float]) -> None:
    """A stream that brings nothing is given up after the attempts, or when the caller says so."""

    def stream() -> Iterator[int]:
        raise UnavailableError("broken")
        yield 0

    with pytest.raises(UnavailableError):
        list(connection.follow(stream))
    assert len(pauses) == 3
    pauses.clear()
    with pytest.raises(UnavailableError):
        list(connection.follow(stream, give_up=lambda: True))
    assert pauses == []


def test_pauses_are_random_by_default() -> None:
    """Two clients do not come back in step."""
    drawn: list[float] = []
    made = Connection(
        "127.0.0.1:9", Credentials(), patience=Patience(attempts=9), sleep=drawn.append
    )
    with pytest.raises(UnavailableError):
        made.repeat(Flaky(99))
    made.close()
    assert len(set(drawn)) > 1
    assert all(0 <= pause < 5 for pause in drawn)
