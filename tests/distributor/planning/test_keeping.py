"""Why stored deltas are kept, and which go first."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.planning import History, StoredDelta, Use, judge, needed_pairs, to_evict
from tests.support.planning_facts import digest

LINE = tuple(digest(f"version {number}") for number in range(1, 31))
NEWEST = LINE[-1]


def at(number: int):  # type: ignore[no-untyped-def]
    return LINE[number - 1]


def delta(
    source: int | None, target: int, size: int = 100, *, built_ms: int = 0, **facts: object
) -> StoredDelta:
    made = StoredDelta(
        source=None if source is None else at(source),
        target=at(target),
        capability="v0 literal 1024",
        delta=digest(f"{source} {target}"),
        size_bytes=size,
        built_ms=built_ms,
        is_written=True,
    )
    return replace(made, **facts)  # type: ignore[arg-type]


def history(running: dict[int, int] | None = None) -> History:
    return History(
        line=LINE,
        file_bytes=dict.fromkeys(LINE, 10_000),
        running={at(number): count for number, count in (running or {}).items()},
    )


stored_deltas = st.lists(
    st.builds(
        delta,
        st.none() | st.integers(1, 30),
        st.integers(1, 30),
        st.integers(0, 5000),
        built_ms=st.integers(0, 5),
        is_written=st.booleans(),
        capability=st.sampled_from(["v0 literal 1024", "v0 copy 1024"]),
    ),
    max_size=20,
    unique_by=lambda one: (one.pair, one.capability),
)
fleets = st.dictionaries(st.integers(1, 30), st.integers(1, 9), max_size=6)
rollouts = st.lists(
    st.tuples(
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(LINE),
        st.lists(st.sampled_from(LINE), max_size=2).map(tuple),
    ),
    max_size=4,
)


@settings(deadline=None)
@given(stored_deltas, fleets, rollouts, st.integers(0, 20_000))
def test_what_a_rollout_needs_never_goes(kept, fleet, waiting, short_bytes) -> None:
    """Whatever is short, of the whole to its target, the direct delta from what a device holds
    and both legs of its hub none goes; enough comes free, or all that could go went."""
    known = history(fleet)
    judged = judge(kept, known, current=[NEWEST], needed=needed_pairs(waiting, known))
    gone = to_evict(judged, short_bytes=short_bytes)
    pairs = {one.stored.pair for one in gone}
    for _, target, held in waiting:
        assert (None, target) not in pairs
        for source in held:
            hub = known.hub(source, target)
            assert (source, target) not in pairs
            assert hub is None or not {(source, hub), (hub, target)} & pairs
    left = [one for one in judged if one not in gone]
    still = {one.stored.delta for one in left}
    freed = {one.stored.delta: one.stored.size_bytes for one in gone}
    freed_bytes = sum(size for blob, size in freed.items() if blob not in still)
    assert freed_bytes >= short_bytes or not any(one.could_go for one in left)


@settings(deadline=None)
@given(stored_deltas, fleets, st.integers(1, 20_000), st.randoms())
def test_the_least_useful_go_first(kept, fleet, short_bytes, random) -> None:
    """Nothing that stays is less useful than what goes, nothing goes without need, and the
    order in which deltas are listed changes nothing."""
    known = history(fleet)
    judged = judge(kept, known, current=[NEWEST], needed={})
    gone = to_evict(judged, short_bytes=short_bytes)
    left = [one for one in judged if one not in gone]
    if gone and left:
        assert max(one.order for one in gone) < min(one.order for one in left)
    fewer = gone[:-1]
    staying = {one.stored.delta for one in judged if one not in fewer}
    freed = {one.stored.delta: one.stored.size_bytes for one in fewer}
    assert (
        not gone or sum(size for blob, size in freed.items() if blob not in staying) < short_bytes
    )
    shuffled = list(kept)
    random.shuffle(shuffled)
    assert judge(shuffled, known, current=[NEWEST], needed={}) == judged
    assert to_evict(judged, short_bytes=0) == ()


@settings(deadline=None)
@given(stored_deltas, fleets)
def test_every_delta_has_a_reason_and_a_worth(kept, fleet) -> None:
    """There is always a word for people, and no delta makes what travels more."""
    for one in judge(kept, history(fleet), current=[NEWEST], needed={}):
        assert one.reasons
        assert all(one.reasons)
        assert one.worth_bytes >= 0
        assert one.could_go


def test_reasons_in_words() -> None:
    """A rollout, devices, a hub, the whole, or nothing: said as it is, the best reason first."""
    whole, near, leg, key = delta(None, 30), delta(29, 30), delta(7, 10), delta(10, 30)
    old, strange = delta(2, 9), delta(28, 30, is_written=False)
    judged = judge(
        [whole, near, leg, key, old, strange],
        history({29: 12, 7: 1}),
        current=[NEWEST],
        needed={near.pair: ("rollout r3 needs it", "rollout r4 needs it")},
    )
    said = {one.stored: (one.use, one.reasons) for one in judged}
    assert said == {
        near: (
            Use.NEEDED,
            (
                *("rollout r3 needs it", "rollout r4 needs it", "12 devices run the source"),
                "hub: its source's way to the next key",
            ),
        ),
        whole: (Use.FLEET, ("the whole, for devices that hold no version",)),
        leg: (Use.FLEET, ("1 device runs the source", "hub: its source's way to the next key")),
        key: (Use.TAIL, ("hub: from a key to the newest",)),
        old: (Use.NOTHING, ("its target is no longer brought to devices",)),
        strange: (Use.NOTHING, ("in a format that this release writes no more",)),
    }
    assert [one.stored for one in judged[:2]] in ([old, strange], [strange, old])
    assert judged[-1].stored == near
    assert not judged[-1].could_go


def test_worth_is_what_would_travel_more() -> None:
    """A direct delta is worth what its devices save over the hub; each leg of the hub what they
    save over the whole; and what nobody would take is worth nothing."""
    direct, leg, key = delta(7, 30, 400), delta(7, 10, 200), delta(10, 30, 500)
    fleet = history({7: 3})

    def worth(*kept: StoredDelta) -> dict[StoredDelta, int]:
        judged = judge(kept, fleet, current=[NEWEST], needed={})
        return {one.stored: one.worth_bytes for one in judged}

    assert worth(direct, leg, key) == {direct: 3 * 300, leg: 0, key: 0}
    assert worth(leg, key) == {leg: 3 * 9300, key: 3 * 9300}
    assert worth(direct) == {direct: 3 * 9600}


def test_the_same_bytes_come_free_once() -> None:
    """Deltas for two capability sets may be one blob: only with both its bytes come free."""
    first, second = delta(1, 9, 700), delta(1, 9, 700, capability="v0 copy 1024")
    other = delta(2, 9, 50, built_ms=9)
    judged = judge([first, second, other], history(), current=[NEWEST], needed={})
    assert {one.stored for one in to_evict(judged, short_bytes=1)} == {first, second}
    assert len(to_evict(judged, short_bytes=701)) == 3
