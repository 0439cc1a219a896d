"""Pickles read as what they say: against Python's pickler, and against hostile programs."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import FormatError
from edge_sdk.formats import pickle_reader
from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.pickle_reader import (
    Call,
    Dictionary,
    Global,
    Held,
    Persistent,
    TooLargeError,
    read_pickle,
)


def file_of(content: bytes) -> ModelFile:
    return ModelFile(path=Path("pickle"), data=content, size_bytes=len(content))


def read(content: bytes) -> Any:
    value, end = read_pickle(file_of(content), 0)
    assert end <= len(content)
    return value


def refused(content: bytes) -> FormatError:
    with pytest.raises(FormatError) as error:
        read(content)
    assert 0 <= error.value.facts["offset"] <= len(content)
    return error.value


def plain(value: object) -> object:
    """Dictionaries and lists of values that have no other objects."""
    if isinstance(value, Dictionary):
        return {plain(key): plain(one) for key, one in value.items}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 120), 1 << 120),
    st.floats(allow_nan=False),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=5),
        st.lists(below, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=8), below, max_size=5),
    ),
    max_leaves=20,
)


@pytest.mark.unmeasured
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@given(value=VALUES)
@settings(max_examples=60, deadline=None)
def test_plain_values_are_those_that_were_pickled(protocol: int, value: object) -> None:
    """Numbers, texts, lists, tuples and dicts, in every protocol."""
    assert plain(read(pickle.dumps(value, protocol))) == value


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_and_sets_are_read(protocol: int) -> None:
    """Bytes as they are; sets as lists of what is in them."""
    found = read(pickle.dumps([b"bytes", bytearray(b"more"), {1}, frozenset({2})], protocol))
    assert found[0] == b"bytes"
    in_bytearray = found[1] if protocol == 5 else found[1].arguments[0]
    assert in_bytearray == b"more"
    sets = [one.arguments[0] if isinstance(one, Call) else one for one in found[2:]]
    assert sets == [[1], [2]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_that_a_pickle_names_is_called(protocol: int, tmp_path: Path) -> None:
    """A pickle that would run a command says which, and that is all."""
    made = tmp_path / "made"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(made),)

    found = read(pickle.dumps(Hostile(), protocol))
    assert isinstance(found, Call)
    assert isinstance(found.function, Global)
    assert (found.function.module, found.function.name) == (os.mkdir.__module__, "mkdir")
    assert found.arguments == (str(made),)
    assert not made.exists()


def test_objects_have_what_was_put_into_them() -> None:
    """Items, parts and state of an object are kept, whatever its class."""
    found = read(b"cm\nC\n)\x81}\x8c\x01aK\x01sb(K\x02K\x03e(K\x04K\x05u.")
    assert isinstance(found, Call)
    assert plain(found.state) == {"a": 1}
    assert (found.parts, found.items) == ([2, 3], [(4, 5)])


def test_what_the_owner_keeps_is_known_by_its_id() -> None:
    """Persistent ids of both kinds; out-of-band buffers have none."""
    for content, known in ((b"K\x07Q.", 7), (b"Pseven\n.", "seven"), (b"\x97\x98.", None)):
        found = read(content)
        assert isinstance(found, Persistent)
        assert found.id == known


def test_long_strings_stay_in_the_file() -> None:
    """A string of pages is a range; so is a number of that length."""
    text = b"t" * pickle_reader.HELD_BYTES_MIN
    found = read(b"X" + struct.pack("<I", len(text)) + text + b".")
    assert isinstance(found, Held)
    assert (found.offset, found.length) == (5, len(text))
    assert isinstance(read(b"\x8b" + struct.pack("<I", 5000) + bytes(5000) + b"."), Held)


def test_a_memo_that_holds_itself_is_read() -> None:
    """A list of itself, and a tuple of a list of the tuple."""
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    found = read(pickle.dumps(cyclic, 2))
    assert found[0] is found
    pair: tuple[list[Any]] = ([],)
    pair[0].append(pair)
    found = read(pickle.dumps(pair, 2))
    assert found[0][0][0] is found[0]


def test_the_last_pickle_is_followed_by_what_stands_behind() -> None:
    """The position behind the end is that of the next pickle."""
    first, second = pickle.dumps([1], 2), pickle.dumps("two", 2)
    value, end = read_pickle(file_of(first + second), 0)
    assert (value, end) == ([1], len(first))
    assert read_pickle(file_of(first + second), end) == ("two", len(first + second))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_is_cut_anywhere_is_refused(protocol: int) -> None:
    """No beginning of a pickle is taken for one."""
    content = pickle.dumps({"a": [1.5, "text", (1, -2, 1 << 40), None, True], "b": {}}, protocol)
    read(content)
    for length in range(len(content)):
        refused(content[:length])


@given(content=st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_pickle_or_refused(content: bytes) -> None:
    """Any program ends with a value or a FormatError that says where."""
    try:
        read(content)
    except FormatError as error:
        assert 0 <= error.facts["offset"] <= len(content)


OPCODES = st.sampled_from([bytes((one,)) for one in pickle_reader._ACTIONS])


@pytest.mark.unmeasured
@given(program=st.lists(st.one_of(OPCODES, st.binary(max_size=6)), max_size=60).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_any_program_of_opcodes_is_a_value_or_refused(program: bytes) -> None:
    """The same of what is mostly opcodes."""
    try:
        read(program + b".")
    except FormatError as error:
        assert 0 <= error.facts["offset"] <= len(program) + 1


@pytest.mark.parametrize(
    "content",
    [
        b".",
        b"0.",
        b"1.",
        b"t.",
        b"(.",
        b"h\x00.",
        b"gx\n.",
        b"g99999999999999999999999999999999999999999\n.",
        b"K\x01K\x02a.",
        b"](K\x01u.",
        b"}(K\x01u.",
        b"K\x01K\x02\x93.",
        b"(o.",
        b"Ix\n.",
        b"L" + b"9" * 60 + b"\n.",
        b"Fx\n.",
        b"\xff.",
        b"V" + b"x" * 100_000 + b"\n.",
        b"\x8d" + b"\xff" * 8 + b".",
        b"\x8b\xff\xff\xff\xff.",
        b"\x95\x00",
    ],
)
def test_what_is_no_program_is_refused(content: bytes) -> None:
    """Empty stacks, marks and memos, wrong operands, impossible lengths, unknown opcodes."""
    refused(content)


def test_a_program_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opcodes are counted."""
    monkeypatch.setattr(pickle_reader, "OPCODES_MAX", 1000)
    read(b"N" * 999 + b".")
    with pytest.raises(TooLargeError):
        read(b"N" * 1001 + b".")


def test_a_bomb_of_shared_parts_stays_small() -> None:
    """Tuples of tuples, each twice in the next: 2**500 paths, 500 objects."""
    found = read(b")" + b"2\x86" * 500 + b".")
    for _depth in range(500):
        assert found[0] is found[1]
        found = found[0]
    assert found == ()
