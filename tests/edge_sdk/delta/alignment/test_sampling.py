"""Samples: the same numbers whether a tensor is held or read here and there."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta.alignment import sampling
from edge_sdk.delta.alignment.located import LocatedTensor, locate_tensors
from edge_sdk.delta.alignment.sampling import Sampler, correlation, scattered_places, spread_places
from edge_sdk.delta.files import open_tree
from tests.support.deltas import safetensors


def tensors(root: Path, **arrays: np.ndarray) -> dict[str, LocatedTensor]:
    file = {name: ("float32", array.astype("<f4").view("<u4")) for name, array in arrays.items()}
    (root / "m").write_bytes(safetensors(file))
    return {one.tensor.name: one for one in locate_tensors(root / "m", ["m"])}


def test_held_and_scattered_reads_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, single numbers and repeated places of a tensor too large to be held."""
    numbers = np.random.default_rng(1).normal(size=5000).astype("<f4")
    places = np.array([7, 8, 9, 4999, 0, 8, 8, 300])
    (one,) = tensors(tmp_path, a=numbers).values()
    with open_tree(tmp_path / "m") as files:
        assert Sampler(files).raw(one, places).tolist() == numbers[places].tolist()
        monkeypatch.setattr(sampling, "_HELD_BYTES_MAX", 100)
        assert Sampler(files).raw(one, places).tolist() == numbers[places].tolist()


def test_few_tensors_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those used last stay, others are read again."""
    arrays = {name: np.arange(9) + n for n, name in enumerate("abc")}
    found = tensors(tmp_path, **arrays)
    monkeypatch.setattr(sampling, "_HELD_TENSORS", 2)
    with open_tree(tmp_path / "m") as files:
        sampler = Sampler(files)
        for name in "abcab":
            assert sampler.all_values(found[name]).tolist() == arrays[name].tolist()
            assert len(sampler._held) <= 2


def test_moments_know_no_order_and_the_last_no_scale(tmp_path: Path) -> None:
    """Shuffled numbers have the same; scaled and shifted ones the same skewness and kurtosis."""
    numbers = np.random.default_rng(2).gamma(2.0, size=30_000)
    shuffled = np.random.default_rng(3).permutation(numbers)
    found = tensors(tmp_path, a=numbers, b=shuffled, c=numbers * 5 + 2, d=np.full(9, 4.0))
    with open_tree(tmp_path / "m") as files:
        sampler = Sampler(files)
        a, b, c, constant = (sampler.moments(found[name]) for name in "abcd")
    assert a == pytest.approx(b, rel=1e-6)
    assert a[0] == pytest.approx(numbers.std(), rel=1e-4)
    assert c[2:] == pytest.approx(a[2:], rel=1e-3)
    assert c[0] == pytest.approx(5 * a[0], rel=1e-4)
    assert constant == (0, 0, 0, 0)


@given(st.integers(1, 20_000), st.integers(256, 2000))
def test_places_lie_within_the_tensor(count: int, wanted: int) -> None:
    """All of a small one, about as many as wanted of a large one, the same every time."""
    for choose in (spread_places, scattered_places):
        places = choose(count, wanted)
        assert places.min() >= 0 and places.max() < count
        assert len(places) == count if count <= wanted else len(places) <= wanted
        assert places.tolist() == choose(count, wanted).tolist()


def test_correlation_is_not_decided_by_one_number() -> None:
    """An outlier that both samples share does not make them alike; a constant is like nothing."""
    one, other = np.random.default_rng(4).normal(size=(2, 4000))
    assert correlation(one, 2 * one + 1) == pytest.approx(1)
    one[5] = other[5] = 1e6
    assert abs(correlation(one, other)) < 0.5
    assert correlation(one, np.ones(4000)) == 0
