"""Names, versions and paths are checked in one place."""

from __future__ import annotations

import functools
import pickle
import re
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_sdk.base import FormatError, ModelName, Version, check_path, check_paths, check_segment

# Far faster than from_regex.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SEGMENTS = st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "._-", max_size=62))
NUMBERS = st.integers(0, 10**9 - 1)
IDENTIFIERS = st.one_of(
    NUMBERS.map(str), st.from_regex(r"[0-9]{0,3}[A-Za-z-][0-9A-Za-z-]{0,5}", fullmatch=True)
)


@st.composite
def versions(draw: st.DrawFn) -> str:
    core = ".".join(str(draw(NUMBERS)) for _ in range(3))
    pre = draw(st.lists(IDENTIFIERS, max_size=3))
    return f"{core}-{'.'.join(pre)}" if pre else core


@given(SEGMENTS)
def test_every_name_of_the_design_is_accepted(text: str) -> None:
    """What the design's pattern matches is a name."""
    assert check_segment(text, "device") == text


@pytest.mark.unmeasured
@given(st.text(max_size=80))
def test_segments_follow_the_pattern_of_the_design(text: str) -> None:
    """Any text is accepted exactly when the whole of it matches the pattern."""
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", text):
        assert check_segment(text, "device") == text
    else:
        with pytest.raises(FormatError, match="device"):
            check_segment(text, "device")


@pytest.mark.parametrize("text", ["", "a\n", "A", "ä", ".a", "a/b", "a" * 64, "..", "a b", "٣"])
def test_names_that_are_none(text: str) -> None:
    """Near misses of a name are refused."""
    with pytest.raises(FormatError):
        check_segment(text, "variant")


@given(SEGMENTS, SEGMENTS)
def test_model_names_have_two_parts(namespace: str, name: str) -> None:
    """A model name gives back its parts and its text."""
    model = ModelName.parse(f"{namespace}/{name}")
    assert (model.namespace, model.name, str(model)) == (namespace, name, f"{namespace}/{name}")


@pytest.mark.parametrize(
    "text", ["digits", "/digits", "team/", "a/b/c", "Team/digits", "team/../x"]
)
def test_model_names_that_are_none(text: str) -> None:
    """A model is a namespace and one name, both of the allowed form."""
    with pytest.raises(FormatError):
        ModelName.parse(text)


def test_names_are_values() -> None:
    """Names compare, hash, sort and pickle as their text, and do not change."""
    one, two = ModelName.parse("a/x"), ModelName.parse("b/a")
    assert one < two
    assert sorted([two, one]) == [one, two]
    assert {one: 1}[ModelName.parse("a/x")] == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "ModelName('a/x')"
    version: Any = Version("a/x")
    assert one != version
    with pytest.raises(AttributeError, match="ModelName"):
        one.text = "c/d"


@given(versions())
def test_versions_read_back(text: str) -> None:
    """The text of a version is kept exactly."""
    if len(text) <= 64:
        assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "v1.0.0", "1.0.0\n", "1.0.0-é",
     "1.0.0-" + "a" * 60, "1.0.1000000000", "-1.0.0", "1.٣.0"],
)  # fmt: skip
def test_versions_that_are_none(text: str) -> None:
    """What semver.org calls invalid is refused, and what is absurdly long."""
    with pytest.raises(FormatError, match="semantic version"):
        Version.parse(text)


def test_build_metadata_is_refused() -> None:
    """Two versions of equal precedence cannot both exist, so build metadata is refused."""
    with pytest.raises(FormatError, match="build metadata"):
        Version.parse("1.0.0+exp.sha.5114f85")


def test_precedence_is_that_of_semver() -> None:
    """The example chain of semver.org, section 11, sorts as it is written there."""
    chain = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
             "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]  # fmt: skip
    shuffled = [Version.parse(text) for text in sorted(chain)]
    assert [str(version) for version in sorted(shuffled)] == chain


def by_the_book(one: str, two: str) -> int:
    """Semver precedence, compared step by step as section 11 is worded."""
    core_one, _, pre_one = one.partition("-")
    core_two, _, pre_two = two.partition("-")
    for left, right in zip(core_one.split("."), core_two.split("."), strict=True):
        if int(left) != int(right):
            return int(left) - int(right)
    if not pre_one or not pre_two:
        return bool(pre_two) - bool(pre_one)
    for left, right in zip(pre_one.split("."), pre_two.split("."), strict=False):
        if left.isdigit() and right.isdigit():
            if int(left) != int(right):
                return int(left) - int(right)
        elif left.isdigit() != right.isdigit():
            return -1 if left.isdigit() else 1
        elif left != right:
            return -1 if left < right else 1
    return len(pre_one.split(".")) - len(pre_two.split("."))


@given(st.lists(versions().filter(lambda text: len(text) <= 64), max_size=8))
def test_any_versions_sort_by_the_book(texts: list[str]) -> None:
    """Sorting versions gives the order of the specification's own steps."""
    ours = [str(version) for version in sorted(Version.parse(text) for text in texts)]
    assert ours == sorted(texts, key=functools.cmp_to_key(by_the_book))


@pytest.mark.parametrize("path", ["model.onnx", "a/b/c.bin", "with space.txt", "dé.json", "..a/b"])
def test_plain_paths_are_accepted(path: str) -> None:
    """Relative POSIX paths without tricks are kept as they are."""
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "..", "a/../b", "./a", "a/", "a//b", "C:/x", "c:x", "a\\b", "\\\\host\\x",
     "a\0b", "a\nb", "a\u202eb", "\ud800", "de\u0301.json", "x" * 1025, "a/" + "y" * 256, "."],
)  # fmt: skip
def test_paths_that_leave_or_deceive_are_refused(path: str) -> None:
    """Absolute, climbing, drive, backslash, control and unnormalised paths are refused."""
    with pytest.raises(FormatError):
        check_path(path)


@given(st.text(max_size=40))
def test_an_accepted_path_stays_in_its_folder(path: str) -> None:
    """Whatever text is accepted, joining it to a folder never leaves that folder."""
    try:
        check_path(path)
    except FormatError:
        return
    joined = PurePosixPath("/root/artifact") / path
    assert ".." not in joined.parts
    assert joined.is_relative_to("/root/artifact")


@example(["a"] * 16)
@example(["a"] * 17)
@example(["a" * 255])
@example(["a" * 256])
@example(["a" * 255] * 3 + ["a" * 254, "a"])
@example(["a" * 255] * 4 + ["a"])
@given(
    st.lists(
        st.builds(str.__mul__, st.sampled_from("a\u00e9\u4e2d"), st.integers(1, 300)),
        min_size=1,
        max_size=20,
    )
)
def test_depth_and_lengths_of_a_path_are_bounded(segments: list[str]) -> None:
    """16 segments, 255 bytes in each and 1,024 in all are accepted; the refusal says which
    of them was passed, and by what."""
    path = "/".join(segments)
    longest, whole = max(len(one.encode()) for one in segments), len(path.encode())
    said = {
        f"has {len(segments)} segments; at most 16": len(segments) > 16,
        f"has a segment of {longest} bytes; at most 255": longest > 255,
        f"has {whole} bytes; at most 1024": whole > 1024,
    }
    if not any(said.values()):
        assert check_path(path) == path
        return
    with pytest.raises(FormatError) as refused:
        check_path(path)
    assert [words for words, passed in said.items() if passed and words in refused.value.message]
    assert len(refused.value.message) < 500


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["a.txt", "A.txt"], "fall together"),
        (["stra\u00dfe", "STRASSE"], "fall together"),
        (["a", "a"], "fall together"),
        (["data", "data/x"], "both a file and a folder"),
        (["a/b/c", "A/B"], "both a file and a folder"),
        (["ok", "../x"], "plain relative path"),
    ],
)
def test_paths_that_cannot_stand_together(paths: list[str], says: str) -> None:
    """Two files of an artifact may not meet on any disk."""
    with pytest.raises(FormatError, match=says):
        check_paths(paths)


def test_paths_beside_each_other() -> None:
    """Files in the same folders are fine, whatever prefixes their names share."""
    check_paths(["model.onnx", "model.onnx.data", "t/a", "t/b", "t2"])
