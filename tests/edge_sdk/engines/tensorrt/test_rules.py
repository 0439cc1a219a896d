"""What is decided about plans, without a library, a file or a GPU."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import RefusedError, UsageError
from edge_sdk.engines.tensorrt.rules import (
    Kept,
    Options,
    PlanKey,
    Step,
    builder_flags,
    check_profile,
    check_version,
    choose,
    dtype_of,
    profiles_of,
    to_drop,
    with_options,
)
from tests.support.fake_gpu import KEY, PLACE

OTHERS: dict[str, Any] = {
    "artifact": "b" * 64,
    "library": "10.16.1.11",
    "place": replace(PLACE, driver="CUDA 12080"),
    "flags": ("STRONGLY_TYPED",),
    "level": 5,
    "workspace_bytes": 1 << 20,
    "profiles": (),
}


def kept(key: PlanKey, *, structure: str = "s", changed_ns: int = 0, size_bytes: int = 10) -> Kept:
    return Kept(
        key=key,
        structure=structure,
        sha256="0" * 64,
        size_bytes=size_bytes,
        made_by="build",
        changed_ns=changed_ns,
    )


def chosen(
    *there: Kept, can_refit: bool = True, has_golden: bool = True, key: PlanKey = KEY
) -> Step:
    return choose(key, "s", there, can_refit=can_refit, has_golden=has_golden)


@pytest.mark.parametrize("name", [field.name for field in fields(PlanKey)])
def test_every_part_of_the_key_counts(name: str) -> None:
    """Another value of any part is another name, so that no plan is taken for another."""
    other = replace(KEY, **{name: OTHERS[name]})
    assert other.name != KEY.name
    assert KEY.name == replace(KEY).name
    assert len(KEY.name) == 64
    assert KEY.differs_in_weights_only(other) is (name == "artifact")


def test_a_plan_of_the_very_key_is_loaded() -> None:
    """Before any other that could be refitted."""
    same, other = kept(KEY), kept(replace(KEY, artifact="b" * 64), changed_ns=9)
    assert chosen(other, same) == Step(do="load", kept=same)


def test_the_newest_plan_built_alike_is_refitted() -> None:
    """Of several with the same structure the one used last."""
    plans = [kept(replace(KEY, artifact=letter * 64), changed_ns=ord(letter)) for letter in "bdc"]
    assert chosen(*plans) == Step(do="refit", kept=plans[1])


@pytest.mark.parametrize("name", sorted(set(OTHERS) - {"artifact"}))
def test_a_plan_built_otherwise_is_not_refitted(name: str) -> None:
    """Another driver, library, flag or profile: built anew."""
    other = replace(KEY, **{"artifact": "b" * 64, name: OTHERS[name]})
    assert chosen(kept(other)).do == "build"


def test_nothing_is_refitted_that_could_not_be_checked() -> None:
    """No golden sample, another structure, none (a quantised model), or not wanted."""
    other = kept(replace(KEY, artifact="b" * 64))
    assert chosen(other, has_golden=False).do == "build"
    assert chosen(other, can_refit=False).do == "build"
    assert chosen(replace(other, structure="t")).do == "build"
    quantised = replace(other, structure="")
    assert choose(KEY, "", [quantised], can_refit=True, has_golden=True).do == "build"


def test_what_no_longer_fits_goes_first() -> None:
    """Artifacts that are gone, another library or place: dropped even where there is room."""
    gone = kept(replace(KEY, artifact="b" * 64), changed_ns=9)
    stale = kept(replace(KEY, library="10.2"), changed_ns=9)
    fine = kept(replace(KEY, artifact="c" * 64), changed_ns=1)
    held = {"a" * 64, "c" * 64}
    doomed = to_drop([gone, stale, fine], KEY, 10, room_bytes=1000, held=held)
    assert doomed == (gone, stale)


@given(
    sizes=st.lists(st.integers(1, 50), max_size=6),
    size_bytes=st.integers(1, 100),
    room_bytes=st.integers(0, 100),
)
def test_plans_go_by_their_age_until_there_is_room(
    sizes: list[int], size_bytes: int, room_bytes: int
) -> None:
    """Never more than needed, the oldest first; None only where all of them would not do."""
    plans = [
        kept(replace(KEY, artifact=f"{age:064x}"), changed_ns=age, size_bytes=size)
        for age, size in enumerate(sizes)
    ]
    held = {one.key.artifact for one in plans}
    doomed = to_drop(plans[::-1], KEY, size_bytes, room_bytes=room_bytes, held=held)
    if doomed is None:
        assert size_bytes > room_bytes + sum(sizes)
        return
    assert list(doomed) == plans[: len(doomed)]
    freed = sum(one.size_bytes for one in doomed)
    assert size_bytes <= room_bytes + freed
    if doomed:
        assert size_bytes > room_bytes + freed - doomed[-1].size_bytes


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("10.3.0", (10, 3, 0)), ("10.16.1.11", (10, 16, 1, 11)), ("11.4.0.106", (11, 4, 0, 106))],
)
def test_known_releases_are_taken(version: str, numbers: tuple[int, ...]) -> None:
    """Compared by numbers: 10.16 is newer than 10.3."""
    assert check_version(version) == numbers


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0", "", "dev"])
def test_other_releases_are_refused(version: str) -> None:
    """Their names were not looked at."""
    with pytest.raises(RefusedError):
        check_version(version)


def test_no_flag_of_precision_is_ever_set() -> None:
    """A strongly typed network says itself what each tensor is; 11 has these flags no more."""
    for options in (Options(), Options(tf32=True), Options(refittable=False)):
        assert {*builder_flags(options)[0], *builder_flags(options)[1]} <= {"REFIT", "TF32"}
    assert builder_flags(Options()) == (("REFIT",), ("TF32",))
    assert builder_flags(Options(refittable=False, tf32=True)) == (("TF32",), ())


def test_a_profile_holds_the_sample_and_the_bounds() -> None:
    """Only dynamic inputs have one; it is tuned for the sample, which is always within."""
    shapes = {"image": (-1, 3, 224, 224), "fixed": (2, 2), "text": (-1, -1)}
    samples = {"image": (16, 3, 224, 224), "text": (1, 2000)}
    image, text = profiles_of(shapes, samples, Options(batch_max=8, size_max=512))
    assert (image.least, image.best, image.most) == (
        (1, 3, 224, 224),
        (16, 3, 224, 224),
        (16, 3, 224, 224),
    )
    assert (text.least, text.best, text.most) == ((1, 1), (1, 2000), (8, 2000))


def test_without_a_sample_a_plan_is_tuned_for_one() -> None:
    """A sample of another rank is none either."""
    for samples in ({}, {"x": (3,)}):
        (profile,) = profiles_of({"x": (-1, 4)}, samples, Options())
        assert (profile.least, profile.best, profile.most) == ((1, 4), (1, 4), (8, 4))


@given(st.lists(st.integers(0, 40), min_size=2, max_size=2))
def test_bounds_are_in_order(sample: list[int]) -> None:
    """For any sample: least <= best <= most, as TensorRT wants them, and the sample fits."""
    shape = (sample[0], sample[1])
    (profile,) = profiles_of({"x": (-1, -1)}, {"x": shape}, Options(batch_max=4, size_max=16))
    rows = zip(profile.least, profile.best, profile.most, strict=True)
    assert all(low <= best <= high for low, best, high in rows)
    check_profile({"x": profile}, "x", shape)


def test_a_shape_outside_is_refused_with_the_bounds() -> None:
    """And an input without a profile is not held against one."""
    bounds = {one.name: one for one in KEY.profiles}
    check_profile(bounds, "x", (8, 4))
    check_profile(bounds, "other", (99,))
    with pytest.raises(UsageError, match=r"from \[1, 4\] to \[8, 4\] in this plan, got \[9, 4\]"):
        check_profile(bounds, "x", (9, 4))


def test_types_are_named_as_ours() -> None:
    """And what cannot be given to TensorRT is refused by name."""
    assert dtype_of("HALF", "x") == "float16"
    with pytest.raises(RefusedError, match="INT4"):
        dtype_of("INT4", "x")


def test_options_are_set_by_name() -> None:
    """The others stay as they are."""
    assert with_options(Options(), {}) == Options()
    wanted = {"level": 5, "refittable": False, "workspace_bytes": 1 << 28}
    expected = Options(level=5, refittable=False, workspace_bytes=1 << 28)
    assert with_options(Options(), wanted) == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"fp16": True}, "no option 'fp16', only batch_max"),
        ({"level": 6}, "level of engine tensorrt cannot be 6"),
        ({"level": True}, "cannot be True"),
        ({"tf32": 1}, "cannot be 1"),
        ({"size_max": -1}, "cannot be -1"),
    ],
)
def test_other_options_are_refused(wanted: dict[str, Any], message: str) -> None:
    """By name and value: nothing is set in silence that does nothing."""
    with pytest.raises(RefusedError, match=message):
        with_options(Options(), wanted)
