"""Damage: whatever is changed in a delta, the result is a typed error or the right target."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, EdgeError, ProofError
from edge_sdk.delta.container import CHECK_BYTES
from tests.edge_sdk.delta.conftest import Example
from tests.support.deltas import (
    decoded,
    encoded,
    prefix_of,
    record_spans,
    resealed,
    safetensors,
    tuned,
    weights,
    write_folder,
)


def flipped(data: bytes, bit: int) -> bytes:
    out = bytearray(data)
    out[bit // 8] ^= 1 << (bit % 8)
    return bytes(out)


@pytest.mark.unmeasured
def test_every_flipped_bit_is_refused(small: Example) -> None:
    """One flipped bit at any position, in any kind of record, is a DeltaError."""
    for bit in range(8 * len(small.delta)):
        with pytest.raises(DeltaError):
            decoded(flipped(small.delta, bit), small.sources)


@pytest.mark.unmeasured
def test_every_resealed_flip_ends_in_an_error_or_the_target(small: Example) -> None:
    """With all checks made anew, the last line holds: never another file than the target."""
    errors, harmless = 0, 0
    for byte in range(len(small.delta)):
        bit = 8 * byte + byte % 8
        try:
            damaged = resealed(flipped(small.delta, bit))
        except (DeltaError, IndexError):
            continue  # framing is gone: the test before has it
        try:
            files = decoded(damaged, small.sources)
        except (DeltaError, ProofError):
            errors += 1
            continue
        # What may be otherwise here: a path, more memory than is needed, and the source's
        # digests, which are for whoever opens the source.
        harmless += byte >= len(prefix_of(small.delta))
        assert files == small.targets
    assert errors > 10 * harmless


def test_resealed_changes_of_the_bytes_made_are_caught_by_the_prover(small: Example) -> None:
    """Among the resealed flips are some that decode, and only the prover finds them."""
    proofs = 0
    for kind, start, end in record_spans(small.delta):
        for byte in range(start + 4, end - CHECK_BYTES):
            if kind in (1, 4):
                try:
                    decoded(resealed(flipped(small.delta, 8 * byte)), small.sources)
                except ProofError:
                    proofs += 1
                except (DeltaError, IndexError):
                    pass
    assert proofs


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("kind", "whole"),
    [
        ("bfloat16", False),
        ("float32", False),
        ("int8", False),
        ("bfloat16", True),
        ("float32", True),
    ],
)
def test_resealed_flips_in_codes_never_make_another_file(
    tmp_path: Path, kind: str, whole: bool
) -> None:
    """Code tables, states, words, levels and raw bits: an error, or the target's bytes."""
    count = 3000 if whole else 12_000
    before = weights(kind, count, 1)
    after = before.copy()
    after[::7] = tuned(before, 2)[::7]
    source, target = (safetensors({"w": (kind, bits)}) for bits in (before, after))
    write_folder(tmp_path, {"v1": source, "v2": target})
    delta = encoded(None if whole else tmp_path / "v1", tmp_path / "v2")
    sources = [] if whole else [source]
    kinds = {found: (start, end) for found, start, end in record_spans(delta)}
    assert ({128, 5} if whole else {128, 4}) <= set(kinds)
    errors = 0
    for start, end in (kinds[128], kinds[5 if whole else 4]):
        for byte in range(start + 3, end - CHECK_BYTES, max(1, (end - start) // 200)):
            damaged = resealed(flipped(delta, 8 * byte + byte % 8))
            errors += _refused_or(damaged, sources, target)
    assert errors > 100


def _refused_or(delta: bytes, sources: list[bytes], target: bytes) -> bool:
    """Whether it is refused; if not, it must make the target."""
    try:
        files = decoded(delta, sources)
    except (DeltaError, ProofError):
        return True
    assert files == [target]
    return False


def test_another_source_of_the_same_size_never_makes_a_file(small: Example) -> None:
    """A decoder that is given other source bytes makes something that is not proved."""
    wrong = [bytes(byte ^ 1 for byte in data) for data in small.sources]
    with pytest.raises((ProofError, DeltaError)):
        decoded(small.delta, wrong)


def test_records_in_another_order_are_refused(small: Example) -> None:
    """Exchanging two records, leaving one out or giving one twice is refused."""
    prefix = prefix_of(small.delta)
    records = [small.delta[start:end] for _, start, end in record_spans(small.delta)]
    mark = small.delta[-8:]
    for number in range(len(records) - 1):
        swapped = [*records]
        swapped[number], swapped[number + 1] = swapped[number + 1], swapped[number]
        without = records[:number] + records[number + 1 :]
        twice = records[: number + 1] + records[number:]
        for changed in (swapped, without, twice):
            with pytest.raises(DeltaError):
                decoded(prefix + b"".join(changed) + mark, small.sources)


@given(data=st.data())
def test_random_changes_raise_only_typed_errors(data: st.DataObject, small: Example) -> None:
    """Cuts, insertions and overwrites anywhere, resealed where possible: EdgeError or target."""
    at = data.draw(st.integers(18, len(small.delta)))
    gone = data.draw(st.integers(0, 8))
    new = data.draw(st.binary(max_size=8))
    damaged = small.delta[:at] + new + small.delta[at + gone :]
    with suppress(EdgeError, IndexError):
        damaged = resealed(damaged)
    try:
        files = decoded(damaged, small.sources)
    except EdgeError:
        return
    assert files == small.targets


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_delta_error(noise: bytes) -> None:
    """What is no delta is refused as such, whatever it is."""
    with pytest.raises(DeltaError):
        decoded(noise)
