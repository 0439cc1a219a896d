"""The planner: the cheapest chain that the device can decode and hold, or a reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.planning import (
    DeltaJob,
    PlanPolicy,
    best_sources,
    decodable,
    jobs_once,
    plan,
    wanted,
)
from tests.support.planning_facts import METHODS, artifact, decoder, device, devices, offer

V1 = artifact(version="1.0.0")
V2 = artifact(version="2.0.0", parent="1.0.0")
V3 = artifact(version="3.0.0", parent="2.0.0")
WHOLE = offer(None, V3, 900)

offers = st.lists(
    st.builds(
        offer,
        st.sampled_from([None, V1, V2, V3]),
        st.sampled_from([V1, V2, V3]),
        st.integers(0, 2000),
        methods=st.lists(
            st.sampled_from([*METHODS, "ans"]), min_size=1, max_size=2, unique=True
        ).map(tuple),
        version=st.sampled_from([0, 0, 0, 1, 2]),
        memory=st.integers(0, 1 << 25),
        apply_s=st.floats(0, 10),
    ),
    max_size=12,
)
held = st.lists(st.sampled_from([V1, V2]), unique_by=lambda facts: facts.artifact)
policies = st.builds(
    PlanPolicy,
    steps_max=st.integers(1, 3),
    whole_allowed=st.booleans(),
    wire_bytes_max=st.none() | st.integers(0, 3000),
)


@settings(deadline=None, max_examples=100)
@given(devices, held, offers, policies, st.none() | st.floats(1, 1e6))
def test_a_plan_is_a_chain_that_the_device_can_decode(on, has, built, policy, bandwidth) -> None:
    """Each step is decodable, begins where the one before ended, and the last is the target;
    steps, bytes, disk and policy are kept; without steps there is a reason."""
    found = plan(on, has, V3, built, hubs=(V1, V2), policy=policy, bandwidth_bytes_s=bandwidth)
    if not found.steps:
        assert found.reason
        assert not found.feasible
        return
    at = found.steps[0].source
    assert at is None or at in {facts.artifact for facts in has}
    for step in found.steps:
        assert step in built
        assert decodable(on.decoder, step)
        assert step.source == at
        at = step.target
    assert at == V3.artifact
    assert len(found.steps) <= policy.steps_max
    assert policy.wire_bytes_max is None or found.wire_bytes <= policy.wire_bytes_max
    assert policy.whole_allowed or found.source is not None
    if on.disk_free_bytes is not None:
        assert V3.size_bytes <= on.disk_free_bytes


@settings(deadline=None)
@given(devices, held, offers, st.randoms())
def test_a_plan_is_the_same_each_time(on, has, built, random) -> None:
    """The order of offers and held artifacts does not matter."""
    other_offers, other_held = list(built), list(has)
    random.shuffle(other_offers)
    random.shuffle(other_held)
    first = plan(on, has, V3, built, hubs=(V1, V2))
    assert plan(on, other_held, V3, other_offers, hubs=(V2, V1)) == first


@settings(deadline=None)
@given(devices, held, offers)
def test_no_single_step_is_cheaper(on, has, built) -> None:
    """No decodable single offer from what is held costs fewer bytes than the plan."""
    found = plan(on, has, V3, built, hubs=(V1, V2))
    sources = {None, *(facts.artifact for facts in has)}
    for one in built:
        if one.source in sources and one.target == V3.artifact and found.steps:
            assert not decodable(on.decoder, one) or found.wire_bytes <= one.delta_bytes


def test_delta_beats_whole_when_it_is_smaller() -> None:
    """The direct delta is planned where it costs fewer bytes, and needs no excuse."""
    direct = offer(V2, V3, 100)
    found = plan(device(), [V2], V3, [WHOLE, direct])
    assert found.steps == (direct,)
    assert (found.wire_bytes, found.whole_bytes, found.reason) == (100, 900, "")
    assert found.source == V2.artifact


def test_whole_is_planned_with_its_reason() -> None:
    """A whole download says why it is one."""
    dear = offer(V2, V3, 901)
    assert plan(device(), [V2], V3, [WHOLE, dear]).reason == "the whole costs no more than a delta"
    assert plan(device(), [], V3, [WHOLE]).reason == "the device holds no version of this model"
    no_delta = "no delta that the device can decode is built from what it holds"
    assert plan(device(), [V2], V3, [WHOLE]).reason == no_delta


def test_nothing_travels_to_a_device_that_holds_the_target() -> None:
    """A held target needs no step, and that is a feasible plan."""
    found = plan(device(), [V3], V3, [WHOLE])
    assert (found.steps, found.wire_bytes, found.reason) == ((), 0, "")
    assert found.feasible


def test_two_steps_through_a_hub() -> None:
    """Where two deltas are cheaper than any single one, the plan goes through the hub."""
    first, second = offer(V1, V2, 50), offer(V2, V3, 60)
    direct = offer(V1, V3, 200)
    found = plan(device(), [V1], V3, [WHOLE, first, second, direct], hubs=(V2,))
    assert found.steps == (first, second)
    one_step = PlanPolicy(steps_max=1)
    alone = plan(device(), [V1], V3, [WHOLE, first, second, direct], hubs=(V2,), policy=one_step)
    assert alone.steps == (direct,)


def test_slow_apply_counts_where_the_link_is_known() -> None:
    """On a fast link a small delta that takes long to apply loses against a quick one."""
    small, quick = offer(V2, V3, 100, apply_s=10.0), offer(V2, V3, 800, apply_s=0.1)
    assert plan(device(), [V2], V3, [small, quick]).steps == (small,)
    fast = plan(device(), [V2], V3, [small, quick], bandwidth_bytes_s=1e6)
    assert fast.steps == (quick,)
    slow = plan(device(), [V2], V3, [small, quick], bandwidth_bytes_s=10.0)
    assert slow.steps == (small,)


@pytest.mark.parametrize(
    ("built", "reason"),
    [
        (offer(V2, V3, 1, version=7), "the device does not know delta format 7"),
        (offer(V2, V3, 1, methods=("ans",)), "the device does not know the method ans"),
        (
            offer(V2, V3, 1, memory=1 << 30),
            f"decoding needs {1 << 30} bytes of memory, the device allows {1 << 24}",
        ),
        (offer(V1, V3, 1), "no delta leads from what the device holds to it"),
    ],
)
def test_undecodable_is_a_reason(built, reason: str) -> None:
    """What a device cannot decode is never planned, and the refusal says which limit it was."""
    found = plan(device(), [V2], V3, [built])
    assert (found.steps, found.reason, found.feasible) == ((), reason, False)


def test_nothing_built_is_a_reason() -> None:
    """Before any delta is built the plan says so."""
    assert plan(device(), [V2], V3, []).reason == "no delta to it is built yet"


def test_c14_disk_too_small_is_known_before() -> None:
    """A target that does not fit the disk is refused with both numbers; shared files are free."""
    big = artifact(version="4.0.0", size=70, files={"shared": 50, "own": 20})
    beside = artifact(version="3.0.0", size=50, files={"shared": 50})
    small = device(disk_free_bytes=49)
    refused = plan(small, [], big, [offer(None, big, 9)])
    assert refused.reason == "needs 70 bytes of disk, the device has 49 free"
    assert plan(small, [beside], big, [offer(None, big, 9)]).feasible


def test_c18_policy_keeps_a_metered_link_from_the_whole() -> None:
    """A cap on bytes or a ban on wholes ends in a reason, never in a silent whole download."""
    capped = plan(device(), [], V3, [WHOLE], policy=PlanPolicy(wire_bytes_max=899))
    assert capped.reason == "900 bytes are more than the 899 that the policy allows"
    banned = plan(device(), [], V3, [WHOLE], policy=PlanPolicy(whole_allowed=False))
    assert banned.reason == "the policy allows no whole download"


def test_best_sources_are_the_same_variant_then_the_parent() -> None:
    """Sources are tried in a fixed order: variant, lineage, newest; other models never."""
    int8 = artifact("int8", "2.0.0")
    other = artifact(model="team/faces")
    newer = artifact(version="2.5.0")
    assert best_sources([int8, V1, other, newer, V2], V3) == (V2, newer, V1, int8)


def test_c20_deltas_are_wanted_from_what_the_device_holds() -> None:
    """For each device the whole and the deltas from its best sources are wanted."""
    jobs = wanted(decoder(memory=3 << 20), [V1, V2], V3, known_methods=METHODS)
    assert [job.source for job in jobs] == [None, V2.artifact]
    assert {job.methods for job in jobs} == {tuple(sorted(METHODS))}
    assert {job.memory_limit_bytes for job in jobs} == {2 << 20}


@settings(deadline=None)
@given(devices, held)
def test_wanted_never_goes_beyond_the_device(on, has) -> None:
    """Methods and memory of a job are within what the device said, and ours."""
    for job in wanted(on.decoder, has, V3, known_methods=("copy", "literal", "new")):
        assert set(job.methods) <= on.decoder.methods & {"copy", "literal", "new"}
        assert 0 < job.memory_limit_bytes <= on.decoder.memory_bytes


def test_nothing_is_wanted_for_who_holds_it_or_decodes_nothing() -> None:
    """No build for a device that holds the target, or that knows no method of ours."""
    assert wanted(decoder(), [V3], V3, known_methods=METHODS) == ()
    assert wanted(decoder(methods=("ans",)), [V2], V3, known_methods=METHODS) == ()
    assert wanted(decoder(memory=0), [V2], V3, known_methods=METHODS) == ()


def test_jobs_are_built_once_in_a_fixed_order() -> None:
    """However many devices ask, each delta is one job."""
    few = wanted(decoder(), [V2], V3, known_methods=METHODS)
    many = wanted(decoder(), [V1], V3, known_methods=METHODS)
    once = jobs_once([*many, *few, *many])
    assert set(once) == set(few) | set(many)
    assert len(once) == 3
    assert jobs_once(reversed(once)) == once
    assert all(isinstance(job, DeltaJob) for job in once)
