"""Which requests are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from device_agent.serving.cache import RequestKey, request_key
from edge_sdk.base import Digest

ONE = Digest.of(b"one")


def key_of(data: bytes, *, artifact: Digest = ONE, wanted: tuple[str, ...] = ("y",)) -> RequestKey:
    return RequestKey(artifact, wanted, [("x", "uint8", (len(data),), data)])


@given(data=st.binary(min_size=1, max_size=5000), where=st.integers(0, 4999))
def test_every_byte_counts(data: bytes, where: int) -> None:
    """The same bytes give equal keys of equal hash; one other byte anywhere gives another key."""
    assert key_of(data) == key_of(bytes(bytearray(data)))
    assert hash(key_of(data)) == hash(key_of(bytes(bytearray(data))))
    changed = bytearray(data)
    changed[where % len(data)] ^= 1
    assert key_of(data) != key_of(bytes(changed))


def test_everything_else_counts() -> None:
    """Artifact, outputs wanted, name, type and shape make a difference; their order does not."""
    data = bytes(8)
    parts = [
        ("x", "uint8", (8,), data),
        ("z", "uint8", (8,), data),
        ("x", "int8", (8,), data),
        ("x", "uint8", (2, 4), data),
    ]
    keys = {RequestKey(ONE, ("y",), [part]) for part in parts}
    keys |= {key_of(data, artifact=Digest.of(b"two")), key_of(data, wanted=("y", "z"))}
    assert len(keys) == 6
    assert key_of(data, wanted=("y", "z")) == key_of(data, wanted=("z", "y"))
    texts = [
        RequestKey(ONE, ("y",), [("x", "string", (2,), t)]) for t in (("a", "bc"), ("ab", "c"))
    ]
    assert texts[0] != texts[1]
    assert texts[0] != object()


def test_long_inputs_of_the_same_hash_are_told_apart() -> None:
    """Where the hash does not look, equality does."""
    data = bytes(1 << 20)
    step = len(data) // request_key._SAMPLES | 1
    where = next(i for i in range(5000, 6000) if i % step != request_key._SALT % step)
    changed = bytearray(data)
    changed[where] = 1
    assert hash(key_of(data)) == hash(key_of(bytes(changed)))
    assert key_of(data) != key_of(bytes(changed))
