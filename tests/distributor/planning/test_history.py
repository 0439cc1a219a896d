"""Which deltas lead from an old version to a new one: of its own, by a hub, or the whole."""

from __future__ import annotations

from functools import cache
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.planning import KEY_EVERY, History, route
from tests.support.planning_facts import artifact, digest, offer
from tests.support.simulated_history import (
    FILE_BYTES,
    WHOLE_BYTES,
    SimulatedFleet,
    delta_bytes,
    mean_bytes,
    wire_bytes,
)

LINE = tuple(digest(f"version {number}") for number in range(1, 61))
numbers = st.integers(1, len(LINE))
histories = st.builds(
    History,
    line=st.just(LINE),
    file_bytes=st.just(dict.fromkeys(LINE, 1_000_000)),
    running=st.dictionaries(st.sampled_from(LINE), st.integers(1, 50), max_size=14),
)


def at(number: int):  # type: ignore[no-untyped-def]
    return LINE[number - 1]


@settings(deadline=None)
@given(histories, numbers, numbers)
def test_a_route_leads_from_source_to_target(history: History, source: int, target: int) -> None:
    """No delta (the whole), one, or two by a key that lies between; a key and whoever is at
    most five versions behind, or ahead, has one of its own."""
    pairs = route(at(source), at(target), history)
    assert len(pairs) <= 2
    if not pairs:
        return
    assert (pairs[0][0], pairs[-1][1]) == (at(source), at(target))
    if len(pairs) == 1:
        return
    hub = pairs[0][1]
    assert pairs[1][0] == hub
    assert history.is_key(hub)
    assert source < LINE.index(hub) + 1 < target
    assert target - source > KEY_EVERY
    assert not history.is_key(at(source))


@settings(deadline=None)
@given(histories, numbers, numbers, st.integers(1, 40))
def test_more_devices_never_lose_their_own_delta(
    history: History, source: int, target: int, more: int
) -> None:
    """What is built for few devices is built for many; for enough of them it is always."""
    start, end = at(source), at(target)
    own = ((start, end),)
    few = history.running.get(start, 1)

    def running(devices: int) -> tuple[object, ...]:
        counted = {**history.running, start: devices}
        return route(
            start,
            end,
            History(line=LINE, file_bytes=history.file_bytes, running=counted),
        )

    if running(few) == own:
        assert running(few + more) == own
    assert running(1000) == own


@settings(deadline=None)
@given(
    numbers,
    numbers,
    st.lists(st.tuples(numbers, numbers, st.integers(1, 2_000_000)), max_size=10),
    st.none() | st.integers(1, 2_000_000),
)
def test_estimates_stay_below_the_whole(
    source: int, target: int, built: list[tuple[int, int, int]], whole: int | None
) -> None:
    """Measured bytes are taken as they are; an estimate never exceeds the whole, and never
    shrinks with the distance."""
    facts = [artifact(version=f"1.{number}.0") for number in range(61)]
    line = tuple(one.artifact for one in facts[1:])
    offers = [offer(facts[a], facts[b], size) for a, b, size in built if a != b]
    if whole is not None:
        offers.append(offer(None, facts[target], whole))
    history = History(line=line, file_bytes=dict.fromkeys(line, 900_000), offers=offers)
    end = facts[target].artifact
    limit = whole if whole is not None else 900_000
    assert history.whole_bytes(end) == limit
    estimates = [
        history.delta_bytes(one.artifact, end)
        for one in facts[target - 1 : 0 : -1]
        if (one.artifact, end) not in history.measured
    ]
    assert estimates == sorted(estimates)
    assert all(0 <= one <= limit for one in estimates)
    start = facts[source].artifact
    if (start, end) in history.measured:
        sizes = [size for a, b, size in built if (a, b) == (source, target)]
        assert history.delta_bytes(start, end) == min(sizes)


def test_a_delta_of_its_own_must_earn_its_bytes() -> None:
    """Twenty versions behind, one to three devices come by the hub; from four on they save more
    than the direct delta takes, which is then built."""
    start, end = at(4), at(24)
    hub = ((start, at(5)), (at(5), end))
    others = dict.fromkeys([at(number) for number in (6, 7, 8, 9, 11)], 1)
    for devices, expected in ((1, hub), (2, hub), (3, hub), (4, ((start, end),))):
        running = {**others, start: devices}
        history = History(line=LINE, file_bytes=dict.fromkeys(LINE, 10**9), running=running)
        assert route(start, end, history) == expected, devices


def test_a_few_versions_behind_all_get_their_own() -> None:
    """Where the tail is five versions, each has its delta; with a sixth they come by hubs, and
    by hubs that are there already in any case."""
    start, end = at(4), at(24)
    own, hub = ((start, end),), ((start, at(5)), (at(5), end))
    for others, expected in (((6, 7, 8, 9), own), ((6, 7, 8, 9, 11), hub)):
        running = dict.fromkeys([start, *(at(number) for number in others)], 1)
        # Who stands on a key, is close, or runs another variant is not of the tail.
        running.update({at(10): 9, at(22): 9, digest("another variant"): 9})
        history = History(line=LINE, file_bytes=dict.fromkeys(LINE, 10**9), running=running)
        assert route(start, end, history) == expected
    facts = [artifact(version=f"1.{number}.0", size=10**6) for number in range(25)]
    line = tuple(one.artifact for one in facts[1:])
    offers = [offer(facts[4], facts[5], 9), offer(facts[5], facts[24], 20)]
    built = History(line=line, file_bytes=dict.fromkeys(line, 10**6), offers=offers)
    assert len(route(line[3], line[23], built)) == 2


def test_the_whole_where_deltas_save_nothing() -> None:
    """Versions that share nothing: the tail gets the whole, which is there anyway."""
    facts = [artifact(version=f"1.{number}.0", size=1000) for number in range(31)]
    line = tuple(one.artifact for one in facts[1:])
    offers = [offer(facts[29], facts[30], 990), offer(None, facts[30], 1000)]
    running = dict.fromkeys(line, 1)
    history = History(
        line=line, file_bytes=dict.fromkeys(line, 1000), offers=offers, running=running
    )
    assert route(facts[7].artifact, facts[30].artifact, history) == ()
    near = (facts[27].artifact, facts[30].artifact)
    assert route(*near, history) == (near,)  # close by, building it is how one knows


def test_versions_of_another_line_have_no_hub() -> None:
    """A source of another variant, or one that is unknown, leads straight to the target."""
    history = History(line=LINE[:30], file_bytes={at(30): 100})
    stranger = digest("another variant")
    assert route(stranger, at(30), history) == ((stranger, at(30)),)
    assert history.gap(stranger, at(30)) is None
    assert history.next_key(stranger) is None
    assert history.delta_bytes(stranger, at(30)) == 100
    assert history.next_key(at(30)) is None


def test_fifty_versions_as_they_were_measured() -> None:
    """One device on each of 49 versions, brought to the fiftieth. By hubs three fifths of what
    direct deltas store, for a third more on the wire; half of the wholes, a sixth of a chain.
    The next release then costs 14 builds in place of 50."""
    fleet = SimulatedFleet(49, runs=dict.fromkeys(range(1, 50), 1))
    plans = fleet.release(50)
    sent = wire_bytes(plans)
    direct = {source: delta_bytes(50 - source) for source in sent}
    direct_stored = sum(direct.values()) + WHOLE_BYTES
    chain = {source: (50 - source) * delta_bytes(1) for source in sent}

    assert fleet.builds == 50  # as many as direct ones, most of which serve later releases too
    assert fleet.stored_bytes < 0.60 * direct_stored
    assert mean(sent.values()) < 1.33 * mean(direct.values())
    assert mean(sent.values()) < 0.54 * WHOLE_BYTES
    assert mean(sent.values()) < 0.17 * mean(chain.values())
    assert max(sent.values()) < 0.75 * WHOLE_BYTES
    assert FILE_BYTES > WHOLE_BYTES
    assert max(len(plan.steps) for plan in plans.values()) == 2
    near = [source for source in sent if source >= 45 or source % KEY_EVERY == 0]
    assert all(sent[source] == direct[source] for source in near)

    before = set(fleet.built)
    again = fleet.release(51)
    fresh = set(fleet.built) - before
    assert {target for _, target in fresh} == {51}
    assert len(fresh) == 1 + 9 + 4  # the whole, from nine keys, from the four just behind
    assert all(plan.feasible for plan in again.values())


def test_a_fleet_that_keeps_up_gets_direct_deltas() -> None:
    """Where nearly all devices run a few versions and single ones lag behind, the wire carries
    hardly more than with a delta for each version, and the store a third of it."""
    runs = {49: 500, 48: 200, 47: 80, 45: 60, 40: 30, 33: 20, **dict.fromkeys(range(1, 50, 7), 1)}
    fleet = SimulatedFleet(49, runs=runs)
    sent = wire_bytes(fleet.release(50))
    direct = {source: delta_bytes(50 - source) for source in sent}
    assert mean_bytes(sent, runs) < 1.01 * mean_bytes(direct, runs)
    everywhere = sum(delta_bytes(50 - source) for source in range(1, 50)) + WHOLE_BYTES
    assert fleet.stored_bytes < 0.35 * everywhere
    assert sent[33] == direct[33]  # twenty devices: more than a hub's cost


@pytest.mark.unmeasured
@pytest.mark.parametrize("budget_bytes", [40_000_000, 25_000_000])
def test_a_budget_costs_no_traffic(budget_bytes: int) -> None:
    """Fifty releases to a fleet that leaves stragglers behind: without a limit the store grows
    to half a gigabyte; within a twentieth of that, as many deltas are built and the same bytes
    travel, since what goes had served its time."""
    free, tight = (_fifty_releases(budget) for budget in (None, budget_bytes))
    assert free.stored_bytes > 450_000_000
    assert tight.most_bytes <= budget_bytes
    assert tight.builds == free.builds
    assert tight.sent_bytes == pytest.approx(free.sent_bytes, rel=1e-3)


@pytest.mark.unmeasured
def test_a_budget_that_is_too_small_keeps_what_is_needed() -> None:
    """Where one rollout alone needs more than the budget, every device still gets its plan."""
    over = _fifty_releases(5_000_000)
    assert over.most_bytes > 5_000_000
    assert over.unserved == 0


class _FiftyReleases:
    def __init__(self, budget_bytes: int | None) -> None:
        fleet = SimulatedFleet(1, runs={1: 1000}, budget_bytes=budget_bytes)
        self.sent_bytes = self.most_bytes = self.unserved = 0
        for target in range(2, 51):
            plans = fleet.release(target)
            self.unserved += sum(not plan.feasible for plan in plans.values())
            sent = wire_bytes(plans)
            self.sent_bytes += sum(size * fleet.runs[source] for source, size in sent.items())
            self.most_bytes = max(self.most_bytes, fleet.stored_bytes)
            # One device of every fourth version is away for good.
            stay = {source: 1 for source in fleet.runs if source % 4 == 1}
            fleet.runs = {**stay, target: sum(fleet.runs.values()) - len(stay)}
        self.stored_bytes, self.builds = fleet.stored_bytes, fleet.builds


@cache
def _fifty_releases(budget_bytes: int | None) -> _FiftyReleases:
    return _FiftyReleases(budget_bytes)
