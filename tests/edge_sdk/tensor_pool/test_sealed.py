"""Slabs that are shared with another process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_sdk.base import ResourceError
from edge_sdk.tensor_pool import TensorPool

SIZE = 1 << 16


def test_nobody_can_cut_it_off() -> None:
    """Whoever holds the descriptor can neither shorten nor lengthen the memory."""
    slab = TensorPool(budget_bytes=SIZE).acquire_sealed(SIZE)
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(slab.descriptor, size)
    slab.memory[SIZE - 1] = 7
    slab.release()


def test_it_counts_until_it_is_released() -> None:
    """It is part of the pool's budget and high-water mark; a second release changes nothing."""
    pool = TensorPool(budget_bytes=2 * SIZE)
    slab = pool.acquire_sealed(SIZE)
    other = pool.acquire_sealed(SIZE)
    assert pool.statistics().used_bytes == pool.statistics().held_bytes == 2 * SIZE
    with pytest.raises(ResourceError):
        pool.acquire_sealed(1)
    assert pool.statistics().refused == 1
    for _ in range(2):
        slab.release()
    other.release()
    now = pool.statistics()
    assert (now.used_bytes, now.held_bytes, now.slabs_used) == (0, 0, 0)
    assert now.used_high_water_bytes == 2 * SIZE


def test_idle_slabs_make_room_for_it() -> None:
    """Memory that no tensor uses is given back before a peer is refused."""
    pool = TensorPool(budget_bytes=SIZE)
    pool.acquire(1000).release()
    pool.acquire_sealed(SIZE).release()


def test_it_is_never_given_again() -> None:
    """A new one reads as zeros, whatever the last one held."""
    pool = TensorPool(budget_bytes=SIZE)
    first = pool.acquire_sealed(SIZE)
    kept = os.dup(first.descriptor)
    first.memory[:] = b"s" * SIZE
    first.release()
    second = pool.acquire_sealed(SIZE)
    assert bytes(second.memory) == bytes(SIZE)
    os.pwrite(kept, b"late", 0)
    os.close(kept)
    assert bytes(second.memory) == bytes(SIZE)
    second.release()


def test_a_system_that_gives_none_is_a_resource_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptors left: typed, and nothing is counted or left open."""

    def refuse(descriptor: int, size: int) -> None:
        raise OSError(28, "no space")

    pool = TensorPool(budget_bytes=SIZE)
    before = len([*Path("/proc/self/fd").iterdir()])
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(ResourceError):
        pool.acquire_sealed(SIZE)
    assert pool.statistics().held_bytes == 0
    assert len([*Path("/proc/self/fd").iterdir()]) == before
