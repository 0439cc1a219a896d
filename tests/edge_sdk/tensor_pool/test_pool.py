"""The tensor pool: alignment, budget, reuse, misuse."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import ResourceError
from edge_sdk.tensor_pool import ALIGNMENT_BYTES, AnonymousMemory, Slab, SlabError, TensorPool


class CountingSource(AnonymousMemory):
    """Says how much is out."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.out_bytes = 0

    def allocate(self, size_bytes: int) -> mmap.mmap:
        self.sizes.append(size_bytes)
        self.out_bytes += size_bytes
        return super().allocate(size_bytes)

    def free(self, memory: mmap.mmap) -> None:
        size_bytes = len(memory)
        super().free(memory)
        self.out_bytes -= size_bytes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 300_000)), max_size=40))
def test_slabs_are_aligned_apart_and_counted(steps: list[tuple[bool, int]]) -> None:
    """Whatever is acquired and released: aligned, no overlap, budget kept, counts right."""
    source = CountingSource()
    pool = TensorPool(budget_bytes=1 << 20, source=source, check=True)
    held: list[Slab] = []
    for acquire, number in steps:
        if acquire or not held:
            try:
                slab = pool.acquire(number)
            except ResourceError:
                continue
            slab.view[:] = b"\x17" * number
            held.append(slab)
        else:
            held.pop(number % len(held)).release()
        spans = sorted((one.address, one.address + one.class_bytes) for one in held)
        assert all(begin % ALIGNMENT_BYTES == 0 for begin, _ in spans)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        seen = pool.statistics()
        assert seen.held_bytes == source.out_bytes <= seen.budget_bytes
        assert seen.used_bytes == sum(one.class_bytes for one in held)
        assert seen.slabs_used == len(held)
        assert seen.used_high_water_bytes >= seen.used_bytes
    for one in held:
        assert bytes(one.view) == b"\x17" * one.size_bytes
        one.release()
    pool.trim()
    assert source.out_bytes == 0


def test_a_released_slab_is_used_again() -> None:
    """The second slab of a size costs the source nothing."""
    source = CountingSource()
    pool = TensorPool(budget_bytes=1 << 22, source=source)
    first = pool.acquire(600_000)
    address = first.address
    first.release()
    second = pool.acquire(590_000)
    assert second.address == address
    assert len(source.sizes) == 1
    assert pool.statistics().reused == 1


def test_over_the_budget_is_refused_with_the_figures() -> None:
    """A tensor beyond the budget is a ResourceError that names both sizes, and counted."""
    pool = TensorPool(budget_bytes=1 << 16)
    with pytest.raises(ResourceError) as refused:
        pool.acquire(1 << 17)
    assert refused.value.facts["budget_bytes"] == 1 << 16
    assert refused.value.facts["wanted_bytes"] == 1 << 17
    assert pool.statistics().refused == 1
    pool.acquire(100)


def test_idle_slabs_of_other_sizes_make_room() -> None:
    """What lies idle in another size class is given back before a request is refused."""
    source = CountingSource()
    pool = TensorPool(budget_bytes=1 << 20, source=source)
    pool.acquire(900_000).release()
    small = pool.acquire(700_000)
    assert small.size_bytes == 700_000
    assert source.out_bytes <= 1 << 20


def test_a_machine_without_memory_is_a_resource_error() -> None:
    """OSError of the source becomes ResourceError."""

    class Empty(AnonymousMemory):
        def allocate(self, size_bytes: int) -> mmap.mmap:
            raise OSError(12, "Cannot allocate memory")

    with pytest.raises(ResourceError):
        TensorPool(budget_bytes=1 << 30, source=Empty()).acquire(1)


def test_double_release_is_found() -> None:
    """Releasing twice is a SlabError, and does not give the slab to two holders."""
    pool = TensorPool(budget_bytes=1 << 20)
    slab = pool.acquire(100)
    slab.release()
    with pytest.raises(SlabError):
        slab.release()
    assert pool.acquire(100).address != pool.acquire(100).address


def test_use_after_release_is_found() -> None:
    """View and array of a released slab are a SlabError."""
    pool = TensorPool(budget_bytes=1 << 20)
    slab = pool.acquire(100)
    slab.release()
    with pytest.raises(SlabError):
        _ = slab.view
    with pytest.raises(SlabError):
        slab.array(np.float32, (2,))


def test_who_released_cannot_touch_the_next_holders_memory() -> None:
    """Its handle stays dead when the memory is in use again: neither a second release nor a view
    reaches it."""
    pool = TensorPool(budget_bytes=1 << 20)
    first = pool.acquire(100)
    first.release()
    second = pool.acquire(100)
    assert second.address == first.address
    with pytest.raises(SlabError, match="twice"):
        first.release()
    for use in (lambda: first.view, lambda: first.array(np.uint8, (1,))):
        with pytest.raises(SlabError, match="after its release"):
            use()
    assert pool.owns(second.array(np.uint8, (100,)))
    assert pool.statistics().slabs_used == 1


def test_a_write_after_release_is_found_in_check_mode() -> None:
    """Somebody who kept an address and writes is found when the slab is used again."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    slab = pool.acquire(60_000)
    slab.release()
    ctypes.memset(slab.address + 5, 1, 1)
    with pytest.raises(SlabError, match="after its release"):
        pool.acquire(60_000)


def test_a_kept_array_keeps_its_memory() -> None:
    """Trimming leaves a block alone that an array still looks at."""
    source = CountingSource()
    pool = TensorPool(budget_bytes=1 << 20, source=source)
    slab = pool.acquire(100_000)
    kept = slab.array(np.uint8, (100_000,))
    slab.release()
    assert pool.trim() == 0
    kept[:] = 1
    del kept
    assert pool.trim() > 0
    assert source.out_bytes == 0


def test_an_array_larger_than_its_slab_is_refused() -> None:
    """An array cannot reach into the next slab."""
    slab = TensorPool(budget_bytes=1 << 20).acquire(63)
    with pytest.raises(SlabError):
        slab.array(np.float32, (16,))
    assert slab.array(np.float32, (3, 5)).shape == (3, 5)


def test_owns_tells_inside_from_outside() -> None:
    """Only arrays inside a slab in use are the pool's."""
    pool = TensorPool(budget_bytes=1 << 20)
    slab = pool.acquire(400)
    array = slab.array(np.float32, (100,))
    assert pool.owns(array)
    assert pool.owns(array[10:20])
    assert not pool.owns(np.zeros(100, np.float32))
    slab.release()
    assert not pool.owns(array)


def test_threads_never_share_a_slab() -> None:
    """Four threads that write their own number always read it back."""
    pool = TensorPool(budget_bytes=1 << 22)
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(200):
            slab = pool.acquire(64 * (1 + turn % 7))
            array = slab.array(np.uint8, (slab.size_bytes,))
            array[:] = number
            if (array != number).any():
                wrong.append(number)
            del array
            slab.release()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.statistics().slabs_used == 0
