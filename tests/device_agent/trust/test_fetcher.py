"""A file has a deadline, a pace and a largest size; whatever fails is an error of downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)

from device_agent.trust.fetcher import GuardedFetcher, Pace, from_source
from edge_sdk.base import NotFoundError, UnavailableError

URL = "metadata/2.targets.json"


class Clock:
    """Moves on by ``step_s`` whenever somebody looks."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def fetcher(
    open_url: Callable[[str], Iterator[bytes]], *, step_s: float = 0.0, size_max: int = 1 << 20
) -> GuardedFetcher:
    pace = Pace(deadline_s=100.0, bytes_per_s_min=50, grace_s=10.0)
    return GuardedFetcher(open_url, size_max=lambda name: size_max, pace=pace, clock=Clock(step_s))


def test_a_file_comes_whole() -> None:
    """In whatever pieces, also none."""
    assert fetcher(lambda url: iter([b"ab", b"", b"c"])).download_bytes(URL, 10) == b"abc"
    assert fetcher(lambda url: iter([])).download_bytes(URL, 10) == b""


@pytest.mark.parametrize("chunk", [b"x", b""])
def test_drips_are_too_slow(chunk: bytes) -> None:
    """One byte each second, or nothing at all each second: it ends soon after the grace."""
    taken = []

    def drip(url: str) -> Iterator[bytes]:
        for _ in range(10_000):
            taken.append(chunk)
            yield chunk

    with pytest.raises(SlowRetrievalError):
        fetcher(drip, step_s=1.0).download_bytes(URL, 1 << 20)
    assert len(taken) < 13


def test_a_pace_that_will_do_still_has_an_end() -> None:
    """No file takes longer than its deadline, however steadily it comes."""
    with pytest.raises(SlowRetrievalError, match="longer than 100 s"):
        fetcher(lambda url: iter([b"x" * 90] * 200), step_s=1.0).download_bytes(URL, 1 << 20)
    whole = fetcher(lambda url: iter([b"x" * 90] * 99), step_s=1.0).download_bytes(URL, 1 << 20)
    assert len(whole) == 99 * 90


def test_endless_data_end() -> None:
    """At the size that is expected, and at the role's largest, whatever was expected."""

    def endless(url: str) -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(DownloadLengthMismatchError):
        fetcher(endless).download_bytes(URL, 5000)
    with pytest.raises(DownloadLengthMismatchError, match="1048576"):
        fetcher(endless).download_bytes(URL, 1 << 50)


@pytest.mark.parametrize("step_s", [0.0, 1.0])
def test_a_transfer_that_is_given_up_ends_at_once(step_s: float) -> None:
    """Too long or too slow: whoever serves it is told before the error arrives."""
    ended = []

    def endless(url: str) -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.append(url)

    with pytest.raises(DownloadError) as failed:
        fetcher(endless, step_s=step_s).download_bytes(URL, 100)
    assert ended == [URL]
    assert failed.value.__traceback__ is not None


def test_errors_are_wrapped_while_the_file_is_read() -> None:
    """Not only when it is begun: a raw error would pass by every handler."""

    def breaks(url: str) -> Iterator[bytes]:
        yield b"x"
        raise UnavailableError("gone")

    with pytest.raises(DownloadError, match="gone") as failed:
        fetcher(breaks).download_bytes(URL, 10)
    assert isinstance(failed.value.__cause__, UnavailableError)


def test_a_transfer_that_is_held_up_is_slow() -> None:
    """It breaks off after the time for silence; one that breaks off at once is not."""

    def breaks(url: str) -> Iterator[bytes]:
        raise UnavailableError("cancelled")
        yield b""

    with pytest.raises(SlowRetrievalError):
        fetcher(breaks, step_s=31.0).download_bytes(URL, 10)
    with pytest.raises(DownloadError) as failed:
        fetcher(breaks, step_s=5.0).download_bytes(URL, 10)
    assert not isinstance(failed.value, SlowRetrievalError)


def test_what_is_not_there_is_404() -> None:
    """The end of the chain of roots; also where it is found out after a first piece."""

    class Source:
        def fetch(self, name: str) -> Iterator[bytes]:
            assert name == "2.a/b.json"
            yield b""
            raise NotFoundError(name)

    with pytest.raises(DownloadHTTPError) as failed:
        fetcher(from_source(Source())).download_bytes("metadata/2.a%2Fb.json", 10)
    assert failed.value.status_code == 404
