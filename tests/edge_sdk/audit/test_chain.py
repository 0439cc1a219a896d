"""Entries have one spelling, and a chain notices every change."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.audit import Chain, decode_entry, encode_entry, first_link
from edge_sdk.base import Digest, FormatError, TrustError
from tests.support.audit_logs import ORIGIN, entry, log

ZERO = "0" * 64


def follow(documents: list[bytes], origin: str = ORIGIN) -> Chain:
    chain = Chain(origin)
    for document in documents:
        chain.follow(document)
    return chain


def test_an_entry_comes_back_as_it_was() -> None:
    """Reading what was written gives the same entry."""
    one = entry(3, ZERO, facts={"label": "site=berlin"}, request=str(Digest.of(b"request")))
    assert decode_entry(encode_entry(one)) == one


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.replace(b'{"action"', b'{ "action"'),
        lambda data: data.replace(b'"role":"deployer"', b'"role":"deployer","role":"deployer"'),
        lambda data: data.replace(b'"schema":1', b'"more":1,"schema":1'),
        lambda data: data.replace(b'"schema":1', b'"schema":2'),
        lambda data: data.replace(b"alice", b"\\u0061lice"),
        lambda data: data.replace(ZERO.encode(), b"12"),
        lambda data: data.replace(b'"request":""', b'"request":"no digest"'),
        lambda data: data.replace(b'"number":3', b'"number":0'),
        lambda data: data[:-1],
        lambda data: b"[" * 5000,
        lambda data: data + b" " * (16 << 10),
    ],
)
def test_another_spelling_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    """White space, duplicate or unknown keys, escapes, other schemas and damage are refused."""
    spoiled = spoil(encode_entry(entry(3, ZERO)))
    with pytest.raises(FormatError):
        decode_entry(spoiled)


def test_an_entry_says_little() -> None:
    """No field takes a text that would fill the log."""
    with pytest.raises(FormatError, match="too much"):
        encode_entry(entry(1, ZERO, object="x" * 513))
    with pytest.raises(FormatError, match="too much"):
        encode_entry(entry(1, ZERO, facts={str(number): "" for number in range(33)}))


def test_a_chain_counts_and_names_its_end() -> None:
    """After a log was followed, its size and head are known; an empty one has its name's."""
    documents = log(3)
    chain = follow(documents)
    assert (chain.size, chain.head) == (3, Digest.of(documents[-1]))
    assert follow([]).head == first_link(ORIGIN) != first_link("edge-audit/other")


@given(number=st.integers(0, 4), byte=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_every_changed_byte_is_noticed(number: int, byte: int, flip: int) -> None:
    """A log with one byte changed is refused, or ends in another head."""
    documents = log(5)
    spoiled = bytearray(documents[number])
    spoiled[byte % len(spoiled)] ^= flip
    changed = [*documents[:number], bytes(spoiled), *documents[number + 1 :]]
    with contextlib.suppress(TrustError):
        assert follow(changed).head != follow(documents).head


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda log_: [*log_[:1], *log_[2:]], "goes on with entry 3 after entry 1"),
        (lambda log_: [log_[0], log_[0], *log_[1:]], "goes on with entry 1 after entry 1"),
        (lambda log_: [log_[1], log_[0]], "goes on with entry 2 after entry 0"),
        (lambda log_: [*log_[:1], *log(3, actor="mallory")[1:]], "entry 2 does not follow"),
        (lambda log_: [b"{}", *log_[1:]], "broken after entry 0"),
    ],
)
def test_entries_taken_out_put_in_or_changed(
    change: Callable[[list[bytes]], list[bytes]], says: str
) -> None:
    """What is missing, doubled, exchanged or rewritten is refused where it happens."""
    with pytest.raises(TrustError, match=says):
        follow(change(log(3)))


def test_the_log_of_another_name_is_another_log() -> None:
    """A log cannot be shown under another's name: its first entry does not fit."""
    with pytest.raises(TrustError, match="entry 1 does not follow"):
        follow(log(2, origin="edge-audit/other"))
