"""Budget and eviction, against a model of them."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from device_agent.serving.cache import Kept, MemoryLevel, RequestKey, keep
from device_agent.serving.cache.memory_level import ENTRY_BYTES, SAME_HASH_MAX, cost_bytes
from edge_sdk.base import Digest

BUDGET_BYTES = 8 * ENTRY_BYTES


def key_of(number: int, size: int = 8) -> RequestKey:
    data = number.to_bytes(8, "little").ljust(size, b"\0")
    return RequestKey(Digest.of(b"one"), ("y",), [("x", "uint8", (len(data),), data)])


def kept_of(size: int) -> Kept:
    return keep({"y": np.full(size, size % 251, np.uint8)})


class Machine(RuleBasedStateMachine):
    """The level beside a plain list of what was used last, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.level = MemoryLevel(BUDGET_BYTES)
        self.model: OrderedDict[RequestKey, Kept] = OrderedDict()

    @rule(number=st.integers(0, 12), size=st.sampled_from([0, 1, 500, 3000, 7 * 1024, 9 * 1024]))
    def put(self, number: int, size: int) -> None:
        key, kept = key_of(number), kept_of(size)
        self.level.put(key, kept)
        self.model.pop(key, None)
        if cost_bytes(key, kept) <= BUDGET_BYTES:
            self.model[key] = kept
        while sum(cost_bytes(*one) for one in self.model.items()) > BUDGET_BYTES:
            self.model.popitem(last=False)

    @rule(number=st.integers(0, 12))
    def get(self, number: int) -> None:
        key = key_of(number)
        assert self.level.get(key) is self.model.get(key)
        if key in self.model:
            self.model.move_to_end(key)

    @rule()
    def clear(self) -> None:
        self.level.clear()
        self.model.clear()

    @invariant()
    def holds_the_same_within_its_budget(self) -> None:
        assert len(self.level) == len(self.model)
        assert self.level.used_bytes == sum(cost_bytes(*one) for one in self.model.items())
        assert self.level.used_bytes <= BUDGET_BYTES
        assert sum(map(len, self.level._same_hash.values())) == len(self.model)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_requests_of_one_hash_are_bounded() -> None:
    """Inputs that differ only where the hash does not look take the place of each other, so a
    look-up never compares with more than a few."""
    level = MemoryLevel(1 << 30)
    size = 1 << 14
    keys = []
    for number in range(4000):
        data = bytearray(size)
        data[5000:5004] = number.to_bytes(4, "little")
        keys.append(RequestKey(Digest.of(b"one"), (), [("x", "uint8", (size,), bytes(data))]))
    hashes = [hash(key) for key in keys]
    common = max(set(hashes), key=hashes.count)
    same = [key for key in keys if hash(key) == common][: 3 * SAME_HASH_MAX]
    assert len(same) > SAME_HASH_MAX
    for key in same:
        level.put(key, kept_of(1))
    assert len(level) == SAME_HASH_MAX
    assert all(level.get(key) is not None for key in same[-SAME_HASH_MAX:])
    assert level.get(same[0]) is None


def test_no_budget_keeps_nothing() -> None:
    """With 0 bytes the level stays empty."""
    level = MemoryLevel(0)
    level.put(key_of(1), kept_of(0))
    assert len(level) == 0
    assert level.used_bytes == 0
