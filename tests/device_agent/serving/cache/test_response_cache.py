"""Single-flight: leaders, followers, and what becomes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from device_agent.serving.cache import CacheUse, Kept, RequestKey, ResponseCache, keep
from device_agent.serving.cache.response_cache import Run, Source, WhenGone
from edge_sdk.base import Digest, EdgeError, ResourceError, UnavailableError
from edge_sdk.engines import EngineError
from tests.support.processes import wait_for

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def key_of(number: int = 1, artifact: Digest = ONE) -> RequestKey:
    return RequestKey(artifact, ("y",), [("x", "int64", (1,), number.to_bytes(8, "little"))])


def kept_of(number: int) -> Kept:
    return keep({"y": np.array([number])})


@dataclass
class Asked:
    """A request in a thread of its own."""

    thread: threading.Thread = field(init=False)
    got: list[tuple[Kept, Source] | EdgeError] = field(default_factory=list)

    def result(self) -> tuple[Kept, Source] | EdgeError:
        self.thread.join(timeout=30)
        assert self.got, "no answer"
        return self.got[0]


def ask(
    cache: ResponseCache,
    run: Run,
    key: RequestKey | None = None,
    *,
    timeout_s: float | None = None,
    when_gone: WhenGone | None = None,
) -> Asked:
    asked = Asked()

    def work() -> None:
        try:
            got = cache.answer(key or key_of(), run, timeout_s=timeout_s, when_gone=when_gone)
        except EdgeError as error:
            asked.got.append(error)
        else:
            asked.got.append(got)

    asked.thread = threading.Thread(target=work)
    asked.thread.start()
    return asked


class Gate:
    """A run that waits until it is let go. ``turn``: whether it gets its turn at once."""

    def __init__(
        self, number: int = 7, *, turn: bool = True, error: EdgeError | None = None
    ) -> None:
        self.inside = threading.Event()
        self.go = threading.Event()
        self.runs = 0
        self.timeout_s: float | None = None
        self._number = number
        self._turn = turn
        self._error = error

    def __call__(self, *, timeout_s: float | None, began: Callable[[], None]) -> Kept:
        self.runs += 1
        self.timeout_s = timeout_s
        if self._turn:
            began()
        self.inside.set()
        assert self.go.wait(30)
        if self._error is not None:
            raise self._error
        return kept_of(self._number)


def serving_cache(budget_bytes: int = 1 << 20) -> ResponseCache:
    cache = ResponseCache(budget_bytes)
    cache.serve(ONE)
    return cache


def followers(cache: ResponseCache) -> int:
    with cache._lock:
        return sum(flight.followers for flight in cache._flights.values())


def never(*, timeout_s: float | None, began: Callable[[], None]) -> Kept:
    raise AssertionError("this one must not run")


def test_sixteen_at_once_run_once() -> None:
    """Fifteen follow the leader, all get its answer; the seventeenth finds it in memory."""
    cache = serving_cache()
    gate = Gate()
    leader = ask(cache, gate)
    assert gate.inside.wait(30)
    rest = [ask(cache, never) for _ in range(15)]
    wait_for(lambda: followers(cache) == 15, "the followers")
    gate.go.set()
    answers = [one.result() for one in [leader, *rest]]
    assert [source for _, source in answers] == ["run", *["shared"] * 15]  # type: ignore[misc]
    assert all(kept.outputs["y"] == 7 for kept, _ in answers)  # type: ignore[misc]
    kept, source = cache.answer(key_of(), never)
    assert (kept.outputs["y"], source) == (7, "memory")
    use = cache.use()
    assert (use.memory_hits, use.shared, use.misses, use.entries) == (1, 15, 1, 1)
    assert cache._flights == {}


@pytest.mark.parametrize("error", [EngineError("no"), ResourceError("no"), UnavailableError("no")])
def test_a_follower_takes_the_place_of_a_failed_leader(error: EdgeError) -> None:
    """The leader gets its error, one follower runs, the other gets that answer; the error is
    not kept."""
    cache = serving_cache()
    failing, second, third = Gate(error=error), Gate(8), Gate(9)
    leader = ask(cache, failing)
    assert failing.inside.wait(30)
    asked = [ask(cache, second), ask(cache, third)]
    wait_for(lambda: followers(cache) == 2, "the followers")
    failing.go.set()
    assert leader.result() is error
    wait_for(lambda: second.runs + third.runs == 1, "a new leader")
    second.go.set()
    third.go.set()
    answers = [one.result() for one in asked]
    assert sorted(source for _, source in answers) == ["run", "shared"]  # type: ignore[misc]
    assert len({int(kept.outputs["y"][0]) for kept, _ in answers}) == 1  # type: ignore[misc]
    assert second.runs + third.runs == 1
    assert cache.use().entries == 1
    assert cache._flights == {}


def test_where_all_fail_each_has_an_error_and_nothing_is_left() -> None:
    """Every request runs once and fails for itself; the next one starts anew."""
    cache = serving_cache()
    gates = [Gate(error=EngineError(str(number))) for number in range(5)]
    asked = [ask(cache, gates[0])]
    assert gates[0].inside.wait(30)
    asked += [ask(cache, gate) for gate in gates[1:]]
    wait_for(lambda: followers(cache) == 4, "the followers")
    for gate in gates:
        gate.go.set()
    assert sorted(str(one.result()) for one in asked) == list("01234")
    assert [gate.runs for gate in gates] == [1] * 5
    assert cache._flights == {}
    assert cache.use() == CacheUse()


def test_the_time_to_wait_is_each_request_s_own() -> None:
    """A follower whose time is over before any run began is told so; the leader's answer comes
    to the other all the same."""
    cache = serving_cache()
    gate = Gate(turn=False)
    leader = ask(cache, gate)
    assert gate.inside.wait(30)
    patient = ask(cache, never, timeout_s=30)
    hasty = ask(cache, never, timeout_s=0.01).result()
    assert isinstance(hasty, UnavailableError)
    assert "timeout expired" in hasty.message
    wait_for(lambda: followers(cache) == 1, "the patient one")
    gate.go.set()
    assert leader.result()[1] == "run"  # type: ignore[index]
    assert patient.result()[1] == "shared"  # type: ignore[index]


def test_once_it_runs_nobody_waits_for_a_turn() -> None:
    """As for a request that runs itself: the time bounds the wait for a turn, not the run."""
    cache = serving_cache()
    gate = Gate(turn=True)
    leader = ask(cache, gate)
    assert gate.inside.wait(30)
    hasty = ask(cache, never, timeout_s=0.01)
    wait_for(lambda: followers(cache) == 1, "the follower")
    hasty.thread.join(timeout=0.05)  # longer than its patience
    assert hasty.got == []
    gate.go.set()
    assert hasty.result()[1] == "shared"  # type: ignore[index]
    assert leader.result()[1] == "run"  # type: ignore[index]


def test_a_new_leader_has_only_the_time_it_has_left() -> None:
    """What it waited for the first leader is taken off its own time."""
    cache = serving_cache()
    failing, second = Gate(error=EngineError("no")), Gate()
    leader = ask(cache, failing, timeout_s=None)
    assert failing.inside.wait(30)
    begin_s = time.monotonic()
    follower = ask(cache, second, timeout_s=20)
    wait_for(lambda: followers(cache) == 1, "the follower")
    failing.go.set()
    assert isinstance(leader.result(), EngineError)
    assert second.inside.wait(30)
    assert second.timeout_s is not None
    assert 20 - (time.monotonic() - begin_s) <= second.timeout_s < 20
    second.go.set()
    assert follower.result()[1] == "run"  # type: ignore[index]


class Caller:
    """Somebody who may go away."""

    def __init__(self, *, here: bool = True) -> None:
        self.here = here
        self.then: list[Callable[[], None]] = []

    def __call__(self, then: Callable[[], None]) -> bool:
        self.then.append(then)
        return self.here

    def go(self) -> None:
        self.here = False
        for then in self.then:
            then()


def test_a_follower_that_is_gone_leaves_at_once() -> None:
    """Its thread is free while the run goes on; one that was gone before does not wait at all."""
    cache = serving_cache()
    gate = Gate()
    leader = ask(cache, gate)
    assert gate.inside.wait(30)
    caller = Caller()
    follower = ask(cache, never, when_gone=caller)
    wait_for(lambda: followers(cache) == 1, "the follower")
    caller.go()
    assert isinstance(follower.result(), UnavailableError)
    late = ask(cache, never, when_gone=Caller(here=False))
    assert isinstance(late.result(), UnavailableError)
    assert followers(cache) == 0
    gate.go.set()
    assert leader.result()[1] == "run"  # type: ignore[index]


def test_who_is_gone_does_not_lead() -> None:
    """A failed leader's place goes to somebody who still waits; a caller who goes after its
    answer changes nothing."""
    cache = serving_cache()
    failing, second = Gate(error=EngineError("no")), Gate()
    caller, other = Caller(), Caller()
    leader = ask(cache, failing)
    assert failing.inside.wait(30)
    gone = ask(cache, never, when_gone=caller)
    wait_for(lambda: followers(cache) == 1, "the first follower")
    stays = ask(cache, second, when_gone=other)
    wait_for(lambda: followers(cache) == 2, "the second follower")
    caller.go()
    assert isinstance(gone.result(), UnavailableError)
    failing.go.set()
    second.go.set()
    assert isinstance(leader.result(), EngineError)
    assert stays.result()[1] == "run"  # type: ignore[index]
    other.go()
    assert cache._flights == {}


def test_after_a_switch_no_answer_of_the_artifact_before() -> None:
    """What is under way for it ends as its own callers' answer, is kept nowhere, and a request
    for the new artifact runs, also with the same inputs."""
    cache = serving_cache()
    cache.answer(key_of(2), lambda **_: kept_of(2))
    gate, fresh = Gate(1), Gate(100)
    before = ask(cache, gate)
    assert gate.inside.wait(30)
    cache.serve(TWO)
    assert cache.use().entries == 0
    after = ask(cache, fresh, key_of(1, TWO))
    assert fresh.inside.wait(30)
    late = cache.answer(key_of(2), lambda **_: kept_of(3))  # entered before the switch
    assert late[1] == "run"
    gate.go.set()
    fresh.go.set()
    assert before.result()[0].outputs["y"] == 1  # type: ignore[index]
    assert after.result()[0].outputs["y"] == 100  # type: ignore[index]
    assert cache.use().entries == 1
    cache.serve(ONE)
    assert cache.use().entries == 0
    cache.serve(ONE)
    cache.answer(key_of(2), lambda **_: kept_of(2))
    cache.serve(ONE)
    assert cache.use().entries == 1, "asked twice, a switch changes nothing"
    cache.stop()
    assert cache.use().entries == 0
    assert cache.answer(key_of(2), lambda **_: kept_of(4))[1] == "run"


def test_many_threads_many_keys() -> None:
    """Under a storm with failing runs every request gets the answer to its own key or its own
    error, never two runs of one key at once, and nothing is left behind."""
    cache = serving_cache(8 << 10)  # eight entries or fewer: eviction all the time
    running = [0] * 12
    wrong: list[object] = []
    lock = threading.Lock()

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for turn in range(150):
            number = int(random.integers(12))
            fails = bool(random.random() < 0.2)

            def run(
                *,
                timeout_s: float | None,
                began: Callable[[], None],
                n: int = number,
                f: bool = fails,
            ) -> Kept:
                with lock:
                    running[n] += 1
                    if running[n] > 1:
                        wrong.append(("twice", n))
                began()
                time.sleep(0.0002)  # lets others come while it runs
                with lock:
                    running[n] -= 1
                if f:
                    raise EngineError("as ordered")
                return kept_of(n)

            try:
                kept, _ = cache.answer(key_of(number), run, timeout_s=30 if turn % 2 else None)
            except EngineError:
                if not fails:
                    wrong.append(("not its error", number))
            else:
                if kept.outputs["y"] != number:
                    wrong.append((number, kept))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []
    assert cache._flights == {}
    use = cache.use()
    assert use.memory_bytes <= 8 << 10
    assert min(use.memory_hits, use.misses) > 0


def test_who_comes_as_the_leader_fails_leads() -> None:
    """Also where that is between its being a follower and its waiting: the run is not forgotten."""
    cache = ResponseCache(1 << 20)
    cache.serve(ONE)
    go = threading.Event()

    def fails(*, timeout_s: float | None, began: Callable[[], None]) -> Kept:
        go.wait(20)
        raise ResourceError("no memory")

    leader = ask(cache, fails)
    wait_for(lambda: cache._flights, "a leader")

    def in_between(_leave: Callable[[], None]) -> bool:
        go.set()
        assert isinstance(leader.result(), ResourceError)
        return True

    def runs(*, timeout_s: float | None, began: Callable[[], None]) -> Kept:
        return kept_of(7)

    kept, source = cache.answer(key_of(), runs, when_gone=in_between)
    assert (kept.outputs["y"].tolist(), source) == ([7], "run")
    assert not cache._flights


def test_a_follower_may_be_patient_without_end() -> None:
    """More seconds than a lock can wait are as none."""
    cache = ResponseCache(1 << 20)
    cache.serve(ONE)
    go = threading.Event()

    def runs(*, timeout_s: float | None, began: Callable[[], None]) -> Kept:
        go.wait(20)
        return kept_of(7)

    leader = ask(cache, runs)
    wait_for(lambda: cache._flights, "a leader")
    follower = ask(cache, runs, timeout_s=9.2e12)
    wait_for(lambda: next(iter(cache._flights.values())).followers, "a follower")
    go.set()
    assert not isinstance(leader.result(), EdgeError)
    assert not isinstance(follower.result(), EdgeError)
