"""The resolver: one best variant, the same one always, and a reason for everything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.planning import DeviceFacts, EngineFacts, MemoryInUse, resolve
from edge_sdk.manifest import Requirements
from tests.support.planning_facts import artifact, device, devices, engine, variants


def chosen(on: DeviceFacts, *candidates: object) -> str | None:
    found = resolve(on, candidates).chosen
    return None if found is None else found.variant


@settings(deadline=None)
@given(devices, variants, st.randoms())
def test_order_of_candidates_does_not_matter(on, candidates, random) -> None:
    """The same facts give the same resolution, in whatever order the candidates come."""
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert resolve(on, shuffled) == resolve(on, candidates)


@settings(deadline=None)
@given(devices, variants)
def test_every_candidate_gets_a_verdict_with_reasons(on, candidates) -> None:
    """Each candidate has one verdict with a reason; one is chosen exactly if any fits."""
    found = resolve(on, candidates)
    assert {one.facts.artifact for one in found.verdicts} == {one.artifact for one in candidates}
    assert all(one.reasons for one in found.verdicts)
    picked = [one for one in found.verdicts if one.chosen]
    assert len(picked) == any(one.fits for one in found.verdicts)
    assert [one.facts for one in picked] == ([found.chosen] if found.chosen else [])
    assert all(one.fits for one in picked)


@settings(deadline=None)
@given(devices, variants)
def test_rank_is_a_total_order(on, candidates) -> None:
    """Of any two variants that fit, the same one wins as in the list of all."""
    fitting = [one.facts for one in resolve(on, candidates).verdicts if one.fits]
    for place, better in enumerate(fitting):
        for worse in fitting[place + 1 :]:
            assert resolve(on, [worse, better]).chosen == better


@settings(deadline=None)
@given(devices, variants, variants)
def test_a_worse_candidate_changes_nothing(on, candidates, more) -> None:
    """Adding candidates changes the choice only to one of those added."""
    before = resolve(on, candidates).chosen
    after = resolve(on, [*more, *candidates]).chosen
    if after is not None and after not in more:
        assert after == before


def test_accelerator_comes_before_architecture_before_bytes() -> None:
    """Made for an accelerator beats made for an architecture beats fewer bytes."""
    on = device(accelerators=frozenset({"vnni"}))
    small = artifact("tiny", size=1)
    named = artifact("x86", size=500, requires=Requirements(architectures=("x86_64",)))
    fast = artifact("vnni", size=900, requires=Requirements(accelerators=("vnni",)))
    assert chosen(on, small, named, fast) == "vnni"
    assert chosen(on, small, named) == "x86"
    assert chosen(on, small, artifact("fp32")) == "tiny"


def test_equal_bytes_fall_back_to_the_name() -> None:
    """Two variants alike in everything are told apart by their names."""
    assert chosen(device(), artifact("b"), artifact("a")) == "a"


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        (Requirements(engine="tensorrt"), "needs engine tensorrt, the device has onnxruntime"),
        (
            Requirements(architectures=("aarch64", "armv7l")),
            "needs architecture aarch64 or armv7l, the device has x86_64",
        ),
        (
            Requirements(accelerators=("cuda",)),
            "needs accelerator cuda, which the device does not have",
        ),
        (
            Requirements(memory_bytes=1 << 31),
            f"needs {1 << 31} bytes of memory, the device has {1 << 30} bytes",
        ),
    ],
)
def test_each_obstacle_is_named(requires: Requirements, reason: str) -> None:
    """A device that a variant does not fit gets none, with the reason in words."""
    found = resolve(device(), [artifact(requires=requires)])
    assert found.chosen is None
    assert found.verdicts[0].reasons == (reason,)
    assert found.reason == f"fp32: {reason}"


def test_c61_model_newer_than_the_engine_is_refused() -> None:
    """An IR version or operator set that the engine does not know is refused before anything
    travels, with both numbers; the newest that it knows is not."""
    newest = Requirements(engine="onnxruntime", ir_version=10, opsets={"": 21, "com.acme": 9})
    resolution = resolve(device(), [artifact(requires=newest)])
    assert resolution.chosen is not None
    assert resolution.reason == ""
    newer = Requirements(engine="onnxruntime", ir_version=11, opsets={"": 22})
    assert resolve(device(), [artifact(requires=newer)]).verdicts[0].reasons == (
        "needs IR version 11, onnxruntime 1.23.2 loads up to 10",
        "needs operator set ai.onnx 22, onnxruntime 1.23.2 knows up to 21",
    )


def test_no_variant_at_all_is_a_reason_too() -> None:
    """A version without variants says so instead of saying nothing."""
    assert resolve(device(), []).reason == "the version has no variant"


def test_unknown_limits_refuse_nothing() -> None:
    """What a device did not say (IR limit, a domain, its memory) is held against nobody."""
    silent = EngineFacts(name="onnxruntime")
    wanted = Requirements(
        engine="onnxruntime", ir_version=99, opsets={"com.acme": 9}, memory_bytes=1 << 50
    )
    on = device(engines=(silent,), memory_bytes=0)
    assert chosen(on, artifact(requires=wanted)) == "fp32"


def test_any_build_of_an_engine_will_do() -> None:
    """Of two builds of one engine the newer one decides."""
    on = device(engines=(engine(ir=8), engine(ir=12)))
    wanted = Requirements(engine="onnxruntime", ir_version=12)
    assert chosen(on, artifact(requires=wanted)) == "fp32"


def test_c60_memory_counts_both_versions_loaded() -> None:
    """A candidate must fit beside the version that serves, whatever its publisher asked for."""
    modest = artifact(size=600, requires=Requirements(memory_bytes=1))
    on = device(memory_bytes=1000)
    assert resolve(on, [modest], in_use=MemoryInUse(active_bytes=400)).chosen == modest
    refused = resolve(on, [modest], in_use=MemoryInUse(active_bytes=401))
    assert refused.reason == "fp32: needs 1001 bytes of memory, the device has 1000 bytes"


def test_memory_of_other_models_is_taken() -> None:
    """What the other models of a device need is not there for this one."""
    on = device(memory_bytes=1000)
    in_use = MemoryInUse(other_bytes=500)
    refused = resolve(on, [artifact(size=600)], in_use=in_use)
    assert "500 bytes of them taken by other models" in refused.reason


def test_files_only_needs_no_engine() -> None:
    """An artifact that no agent serves fits without engine, IR version or memory for two."""
    plain = artifact(
        serve="none", size=10**6, requires=Requirements(engine="onnxruntime", ir_version=99)
    )
    assert chosen(device(engines=(), memory_bytes=10), plain) == "fp32"
