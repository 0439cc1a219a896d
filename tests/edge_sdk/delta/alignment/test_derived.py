"""Models derived from others: what was done to their numbers is found, and costs almost nothing."""

import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta import METHODS
from edge_sdk.delta.alignment import AlignedRange, align, locate_tensors
from edge_sdk.delta.files import open_tree
from edge_sdk.delta.value_maps import Operation
from tests.support.deltas import decoded, encoded, safetensors, write_folder

Tensors = Mapping[str, tuple[str, np.ndarray]]


def floats(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, shape).astype("<f4")


def stored(kind: str, values: np.ndarray) -> tuple[str, np.ndarray]:
    """Values as safetensors() takes them: bit patterns."""
    if kind == "bfloat16":
        bits = np.ascontiguousarray(values, "<f4").view("<u4")
        return kind, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    code = {"i": "i", "u": "u", "f": "f"}[kind[0]]
    width = int(kind.lstrip("uintfloa")) // 8
    return kind, np.ascontiguousarray(values.astype(f"<{code}{width}")).view(f"<u{width}")


class Pair:
    """A source and a target, each one file of bytes."""

    def __init__(self, root: Path, source: bytes, target: bytes) -> None:
        self.source, self.target = source, target
        self.before = write_folder(root / "source", {"m": source}) / "m"
        self.after = write_folder(root / "target", {"m": target}) / "m"

    def ranges(self) -> list[AlignedRange]:
        with open_tree(self.before) as sources, open_tree(self.after) as targets:
            return align(
                locate_tensors(self.before, ["m"]),
                locate_tensors(self.after, ["m"]),
                source_files=sources,
                target_files=targets,
            ).get(0, [])

    def operations(self) -> list[Operation]:
        return [
            one.prediction.values.operation
            if one.prediction and one.prediction.values
            else Operation.IDENTITY
            for one in self.ranges()
        ]

    def share(self, **options: object) -> float:
        """Size of the delta, decoded and compared, relative to the target."""
        delta = encoded(self.before, self.after, **options)
        assert decoded(delta, [self.source]) == [self.target]
        return len(delta) / len(self.target)


def pair(root: Path, source: Tensors, target: Tensors) -> Pair:
    return Pair(root, safetensors(source), safetensors(target))


FLOATS = ("float16", "bfloat16", "float32", "float64")
CASTS = [(before, after) for before in FLOATS for after in FLOATS if before != after]
WEIGHTS = floats(1, 64, 48, 3, 3)


@pytest.mark.parametrize(("before", "after"), CASTS)
def test_a_cast_model_costs_next_to_nothing(tmp_path: Path, before: str, after: str) -> None:
    """From every width to every other, by name or under another one."""
    kind, bits = stored(before, WEIGHTS)
    values = bits.view({"float16": "<f2", "float32": "<f4", "float64": "<f8"}.get(before, "<u2"))
    if before == "bfloat16":
        values = (bits.astype("<u4") << 16).view("<f4")
    source = {"a": (kind, bits), "b": stored(before, floats(2, 300))}
    target = {"renamed": stored(after, values.astype("<f4"))}
    found = pair(tmp_path, source, target)
    assert found.operations() == [Operation.CAST]
    assert found.share() < 0.02


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (2, 3, 1, 0), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_transposed_kernels_are_found(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Axes in another order, among several tensors of as many numbers."""
    source = {f"k{seed}": stored("float32", floats(seed, 64, 48, 3, 3)) for seed in (2, 1, 3)}
    target = {"x": stored("float32", WEIGHTS.transpose(order))}
    found = pair(tmp_path, source, target)
    (one,) = found.ranges()
    assert one.prediction is not None and one.prediction.ranges[0].dimensions
    assert found.share() < 0.02
    # A decoder without maps is sent the numbers themselves.
    assert found.share(methods=set(METHODS) - {"maps"}) > 0.8


def test_little_of_a_large_transposed_tensor_is_not_gathered_from_all_of_it(
    tmp_path: Path,
) -> None:
    """What begins just before a chunk's border costs a decoder no reading of the whole tensor."""
    values = floats(4, 1448, 1449)  # four chunks, and two kilobytes
    source = safetensors({"w": stored("float16", values)})
    filler = stored("uint8", np.zeros((1 << 20) - 1000))
    alone = safetensors({"w": stored("float16", values.T)})
    behind = safetensors({"a": filler, "w": stored("float16", values.T)})
    for target in (alone, behind):
        found = Pair(tmp_path, source, target)
        one = found.ranges()[-1]
        assert one.prediction is not None
        border = (one.end if target is alone else one.start + CHUNK_BYTES) & -CHUNK_BYTES
        cut = (border, one.end) if target is alone else (one.start, border)
        position, length = cut[0] - one.start, cut[1] - cut[0]
        assert 512 < length < 3000
        assert not one.prediction.is_affordable(position, length)
        assert one.prediction.is_affordable(1 << 20, 1 << 20)
        assert found.share() < 0.001


def test_among_many_candidates_those_of_like_numbers_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many tensors of one count, moments and the place in the file say which."""
    module = sys.modules["edge_sdk.delta.alignment.align"]
    monkeypatch.setattr(module, "_CANDIDATES", 2)
    monkeypatch.setattr(module, "_CANDIDATES_COMPARED", 6)
    weights = {n: floats(n, 20, 30) * (1 + n / 9) for n in range(12)}
    source = {f"a{n:02}": stored("float32", one) for n, one in weights.items()}
    target = {f"b{n:02}": stored("float16", one.T) for n, one in weights.items()}
    found = pair(tmp_path, source, target)
    assert found.operations() == [Operation.CAST] * 12


def test_transposed_and_cast_and_tuned_at_once(tmp_path: Path) -> None:
    """A linear layer transposed, cast and trained a little further needs the change only."""
    weights = floats(5, 200, 300)
    moved = weights * (1 + np.random.default_rng(6).normal(0, 1e-3, weights.shape))
    found = pair(
        tmp_path,
        {"l.weight": stored("float32", weights)},
        {"MatMul": stored("float16", moved.T)},
    )
    assert found.operations() == [Operation.CAST]
    assert found.share() < 0.35


def test_factors_by_channel_are_fitted(tmp_path: Path) -> None:
    """Folded normalisation: every output channel has a factor of its own."""
    factors = np.random.default_rng(7).uniform(0.2, 3, 64).astype("<f4")
    found = pair(
        tmp_path,
        {"w": stored("float32", WEIGHTS)},
        {"w": stored("float32", WEIGHTS * factors[:, None, None, None])},
    )
    assert found.operations() == [Operation.SCALE]
    assert found.share() < 0.03


@pytest.mark.parametrize("factor", [0.97, 0.999, 0.99999, 1.0003])
def test_one_factor_is_found_however_near_to_1(tmp_path: Path, factor: float) -> None:
    """Decay of all weights alike leaves nothing to send but the factor."""
    decayed = WEIGHTS * np.float32(factor)
    found = pair(tmp_path, {"w": stored("float32", WEIGHTS)}, {"w": stored("float32", decayed)})
    assert found.operations() == [Operation.SCALE]
    assert found.share() < 0.01


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_quantised_weights_are_computed(tmp_path: Path, axis: int, kind: str) -> None:
    """By row or column, transposed, with scales and zero points that stand in the target."""
    weights = floats(8, 250, 260)
    zero = {"int8": 0, "uint8": 128}[kind]
    scales = (np.abs(weights).max(axis=axis, keepdims=True) / 127).astype("<f4")
    steps = np.rint(weights / scales) + zero
    target = {
        "w_quantized": stored(kind, steps.T),
        "w_scale": stored("float32", scales.T),
        "w_zero_point": stored(kind, np.full_like(scales.T, zero)),
    }
    found = pair(tmp_path, {"w": stored("float32", weights)}, target)
    assert Operation.QUANTISE in found.operations()
    assert found.share() < 0.06


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric", "unsigned"])
def test_scales_that_stand_nowhere_are_computed(tmp_path: Path, scheme: str, by_row: bool) -> None:
    """From the largest weights, as quantisers do; the target holds the integers alone."""
    weights = floats(33, 120, 200) + np.float32(0.01)
    axis = 1 if by_row else None
    low, high = weights.min(axis=axis, keepdims=True), weights.max(axis=axis, keepdims=True)
    if scheme == "symmetric":
        scales, zero = np.maximum(-low, high) / 127, np.zeros_like(low)
    else:
        scales = (high - low) / 255
        zero = np.rint((-128 if scheme == "asymmetric" else 0) - low / scales)
    kind = "uint8" if scheme == "unsigned" else "int8"
    steps = np.rint(weights / scales.astype("<f4")) + zero
    bounds = np.iinfo(kind)
    target = {"q": stored(kind, np.clip(steps, bounds.min, bounds.max).T)}
    found = pair(tmp_path, {"w": stored("float32", weights)}, target)
    assert found.operations() == [Operation.QUANTISE]
    assert found.share() < 0.07


def test_dequantised_weights_need_no_factors_to_be_written_down(tmp_path: Path) -> None:
    """By channel, fitted from the weights themselves."""
    numbers = np.random.default_rng(34).integers(-127, 128, (40, 700)).astype("<i1")
    scales = np.random.default_rng(35).uniform(1e-3, 2e-3, (40, 1)).astype("<f4")
    target = {"w": stored("float32", numbers * scales)}
    found = pair(tmp_path, {"w": stored("int8", numbers)}, target)
    assert found.operations() == [Operation.DEQUANTISE]
    assert found.share() < 0.01


def test_dequantised_weights_use_the_factors_of_the_source(tmp_path: Path) -> None:
    """The inverse, with scales and zero points where they stand in the source."""
    numbers = np.random.default_rng(9).integers(-90, 100, (128, 300)).astype("<i1")
    scales = np.random.default_rng(10).uniform(1e-3, 2e-3, 128).astype("<f4")
    zeros = np.random.default_rng(11).integers(-5, 6, 128).astype("<i1")
    steps = (numbers.astype("<i4") - zeros[:, None]).astype("<f4")
    source = {
        "w_quantized": stored("int8", numbers),
        "w_scale": stored("float32", scales),
        "w_zero_point": stored("int8", zeros),
    }
    found = pair(tmp_path, source, {"w": stored("float32", steps * scales[:, None])})
    assert found.operations() == [Operation.DEQUANTISE]
    assert found.share() < 0.01


def test_of_many_scales_those_of_a_like_name_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of a thousand tensors has a thousand scales: all by all took minutes."""
    monkeypatch.setattr("edge_sdk.delta.alignment.fitting._SCALES_TRIED", 4)
    weights, source, target = floats(13, 6, 90, 60), {}, {}
    for number, one in enumerate(weights):
        scale = np.float32(np.abs(one).max() / np.float32(120 - number))
        source[f"{number}.w"] = stored("float32", one)
        target[f"{number}.w"] = stored("int8", np.rint(one / scale))
        target[f"{number}.w_scale"] = stored("float32", np.array([scale]))
    found = pair(tmp_path, source, target)
    assert found.operations().count(Operation.QUANTISE) == 6
    assert found.share() < 0.1


def test_more_channels_than_one_map_holds_are_parted(tmp_path: Path) -> None:
    """A vocabulary with a scale for each word needs several predictions."""
    weights = floats(12, 9000, 24)
    scales = (np.abs(weights).max(axis=1, keepdims=True) / 127).astype("<f4")
    target = {
        "e_scale": stored("float32", scales),
        "e_quantized": stored("int8", np.rint(weights / scales)),
    }
    found = pair(tmp_path, {"e": stored("float32", weights)}, target)
    assert found.operations().count(Operation.QUANTISE) == 2
    assert found.share() < 0.34  # two times four bytes for each row of 24


def grown(weights: np.ndarray, axis: int, count: int, *, at_end: bool) -> np.ndarray:
    shape = [*weights.shape]
    shape[axis] = count
    parts = [weights, floats(99, *shape)]
    return np.concatenate(parts if at_end else parts[::-1], axis)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_vocabulary_that_grew_keeps_its_rows(tmp_path: Path, axis: int, at_end: bool) -> None:
    """Rows or columns more, before or behind, the rest tuned; and the other way round."""
    weights = floats(13, 300, 200)
    moved = (weights * (1 + np.random.default_rng(14).normal(0, 1e-4, weights.shape))).astype("<f4")
    small, large = ("e", weights), ("e", grown(moved, axis, 3, at_end=at_end))
    beside = {"x": stored("float32", floats(15, 5000)), "z": stored("float32", floats(16, 5000))}
    for name, before, after in (("grew", small, large), ("shrank", large, small)):
        source = {**beside, before[0]: stored("float32", before[1])}
        target = {after[0]: stored("float32", after[1])}
        assert pair(tmp_path / name, source, target).share() < 0.65


def test_a_namesake_that_was_trained_anew_predicts_nothing(tmp_path: Path) -> None:
    """Same name and shape, nothing in common: only the kind of number is known."""
    names = {"w": stored("float32", floats(17, 100, 100))}
    (one,) = pair(tmp_path, names, {"w": stored("float32", floats(18, 100, 100))}).ranges()
    assert not one.is_predicted and one.kind is not None and one.kind.name == "float32"


def test_tuned_and_shuffled_tensors_are_told_apart_by_correlation(tmp_path: Path) -> None:
    """Renamed, in another order and changed: each is predicted by its own predecessor."""
    before = {f"old{n}": floats(20 + n, 4000) for n in range(6)}
    order = [3, 0, 5, 1, 4, 2]
    after = {f"new{n}": before[f"old{n}"] * 1.01 + floats(40 + n, 4000) / 9 for n in order}
    source = safetensors({name: stored("float32", one) for name, one in before.items()})
    target = safetensors({name: stored("float32", one) for name, one in after.items()})
    found = Pair(tmp_path, source, target).ranges()
    starts = [source.index(before[f"old{n}"].tobytes()) for n in order]
    assert [one.source_start for one in found] == starts


def test_a_prefix_may_be_dropped_from_all_names(tmp_path: Path) -> None:
    """``bert.layer.0.weight`` is ``layer.0.weight``, whatever stands first in the file."""
    before = {f"bert.layer.{n}.weight": floats(50 + n, 30) for n in (1, 0)}
    after = {f"layer.{n}.weight": floats(60 + n, 30) for n in (0, 1)}
    source = safetensors({name: stored("float32", one) for name, one in before.items()})
    target = safetensors({name: stored("float32", one) for name, one in after.items()})
    found = Pair(tmp_path, source, target).ranges()
    wanted = [source.index(before[f"bert.layer.{n}.weight"].tobytes()) for n in (0, 1)]
    assert [one.source_start for one in found] == wanted


# --- bytes that no reader knows -------------------------------------------------------------


def cast_dump(weights: np.ndarray) -> bytes:
    return b"head" * 25 + weights.astype("<f2").tobytes() + b"tail"


def transposed_dump(weights: np.ndarray) -> bytes:
    return b"x" + weights.transpose(2, 3, 1, 0).tobytes() + bytes(9)


def both_dump(weights: np.ndarray) -> bytes:
    return b"???" + weights.transpose(0, 2, 3, 1).astype("<f2").tobytes()


@pytest.mark.parametrize("dump", [cast_dump, transposed_dump, both_dump])
def test_tensors_are_found_in_unknown_formats(
    tmp_path: Path, dump: Callable[[np.ndarray], bytes]
) -> None:
    """Another container that nobody reads, at odd offsets, cast or transposed or both."""
    source = safetensors({"a": stored("float32", WEIGHTS), "b": stored("float32", floats(3, 70))})
    found = Pair(tmp_path, source, dump(WEIGHTS))
    assert [one.prediction is not None for one in found.ranges()] == [True]
    assert found.share() < 0.02


def test_a_few_changed_numbers_do_not_break_a_region(tmp_path: Path) -> None:
    """Converters touch some values: what lies between matches is one range."""
    changed = WEIGHTS.copy()
    changed.reshape(-1)[5000::5000] *= 1.5
    source = safetensors({"a": stored("float32", WEIGHTS)})
    found = Pair(tmp_path, source, transposed_dump(changed))
    assert len(found.ranges()) == 1
    assert found.share() < 0.02


@pytest.mark.parametrize("after", ["float32", "float16"])
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (2, 3, 1, 0), (3, 2, 0, 1)])
def test_tensors_are_found_in_unknown_sources(
    tmp_path: Path, order: tuple[int, ...], after: str
) -> None:
    """What nobody reads is the source: transposed tensors at odd offsets, of either width."""
    weights = [floats(seed, 32, 24, 3, 3).astype("<f2").astype("<f4") for seed in (70, 71)]
    before = {"float32": "<f2", "float16": "<f4"}[after]
    dump = b"?".join(one.transpose(order).astype(before).tobytes() for one in weights)
    target = {f"w{n}": stored(after, one) for n, one in enumerate(weights)}
    found = Pair(tmp_path, b"xyz" + dump + bytes(20), safetensors(target))
    assert found.operations() == [Operation.CAST] * 2
    assert found.share() < 0.02


def test_a_tensor_is_cast_from_an_unknown_source(tmp_path: Path) -> None:
    """In its own order, with bits that the target has lost."""
    dump = b"12345" + WEIGHTS.tobytes()
    found = Pair(tmp_path, dump, safetensors({"w": stored("bfloat16", WEIGHTS)}))
    assert found.operations() == [Operation.CAST]
    assert found.share() < 0.02


@pytest.mark.parametrize("phase", [0, 1, 2, 3])
def test_an_unknown_file_cast_as_a_whole_is_found(tmp_path: Path, phase: int) -> None:
    """Neither side has a reader: floats at any phase, halved by a cast."""
    weights = floats(30, 60_000)
    source = b"abc"[:phase] + weights.tobytes()
    found = Pair(tmp_path, source, b"new header" + weights.astype("<f2").tobytes())
    assert found.operations() == [Operation.CAST]
    assert found.share() < 0.02


def test_nothing_is_found_in_noise(tmp_path: Path) -> None:
    """Unrelated bytes have no ranges."""
    noise = np.random.default_rng(31).bytes(100_000)
    assert not Pair(tmp_path, noise, np.random.default_rng(32).bytes(50_000)).ranges()


@pytest.mark.parametrize("scale", [1e-300, 1e-130, 1e200, np.inf, np.nan, 0.0])
def test_numbers_of_any_size_are_no_danger(tmp_path: Path, scale: float) -> None:
    """Tiny, huge, infinite and constant tensors, cast, transposed, scaled: right, if not small."""
    with np.errstate(all="ignore"):
        weights = floats(80, 30, 40).astype("<f8") * scale
        source = {"a": stored("float64", weights), "b": stored("float64", weights * 3)}
        target = {
            "x": stored("float32", weights.T),
            "a": stored("float64", weights * np.arange(30)[:, None]),
            "y": stored("int8", np.nan_to_num(weights)),
            "z": stored("float64", weights[:, :35]),
        }
    assert pair(tmp_path, source, target).share() < 1.1


def test_arrays_that_an_old_pickle_wrote_as_text_are_found(tmp_path: Path) -> None:
    """A pickle of protocol 2 has bytes as text, half as long again: no number is left in it."""
    arrays = {f"w{n}": floats(90 + n, 300, 400) for n in range(4)}
    source = pickle.dumps({name: one.tobytes() for name, one in arrays.items()}, 2)
    target = safetensors({name: stored("float32", one) for name, one in arrays.items()})
    found = Pair(tmp_path, source, target)
    assert set(found.operations()) == {Operation.TEXT}
    assert found.share() < 0.02
    assert found.share(methods=[one for one in METHODS if one != "maps"]) > 0.5


def test_text_of_people_is_no_view(tmp_path: Path) -> None:
    """Words with accents are text, and stay it."""
    words = "déjà vu, señor; größer als früher\n" * 2000
    found = Pair(tmp_path, words.encode(), words.encode("latin-1"))
    assert found.share() < 0.05
