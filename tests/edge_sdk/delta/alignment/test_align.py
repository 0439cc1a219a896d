"""Alignment: which tensor predicts which."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_sdk.delta.alignment import AlignedRange, align, locate_tensors
from edge_sdk.delta.files import open_tree
from tests.support.deltas import safetensors, weights, write_folder

Tensors = Mapping[str, tuple[str, np.ndarray]]


def aligned(
    root: Path, source: Mapping[str, bytes], target: Mapping[str, bytes]
) -> dict[int, list[AlignedRange]]:
    write_folder(root / "source", source)
    write_folder(root / "target", target)
    with open_tree(root / "source") as sources, open_tree(root / "target") as targets:
        return align(
            locate_tensors(root / "source", [file.path for file in sources]),
            locate_tensors(root / "target", [file.path for file in targets]),
            source_files=sources,
            target_files=targets,
        )


def bits(count: int, seed: int) -> tuple[str, np.ndarray]:
    return "float32", weights("float32", count, seed)


def at(data: bytes, tensor: tuple[str, np.ndarray]) -> int:
    return data.index(tensor[1].tobytes())


def test_names_decide_before_order(tmp_path: Path) -> None:
    """Two tensors of one shape that change places are found by their names."""
    a, b, c, d = (bits(50, seed) for seed in range(4))
    source, target = safetensors({"a": a, "b": b}), safetensors({"b": c, "a": d})
    ranges = aligned(tmp_path, {"m": source}, {"m": target})[0]
    assert [one.source_start for one in ranges] == [at(source, b), at(source, a)]
    assert [one.start for one in ranges] == [at(target, c), at(target, d)]
    assert all(one.kind is not None and one.kind.name == "float32" for one in ranges)


def test_renamed_tensors_are_found_by_content(tmp_path: Path) -> None:
    """With all names changed, equal content pairs first and order pairs the rest."""
    a, b, c, other = (bits(50, seed) for seed in range(4))
    source = safetensors({"a": a, "b": b, "c": c})
    target = safetensors({"x": c, "y": other, "z": a})
    ranges = aligned(tmp_path, {"m": source}, {"m": target})[0]
    assert [one.source_start for one in ranges] == [at(source, c), at(source, b), at(source, a)]


def test_the_same_path_decides_before_the_same_name(tmp_path: Path) -> None:
    """Two models of an artifact with the same tensor names do not mix."""
    a, b = bits(50, 1), bits(50, 2)
    source = {"one": safetensors({"w": a}), "two": safetensors({"w": b})}
    ranges = aligned(tmp_path, source, {"two": safetensors({"w": bits(50, 3)})})
    assert [one.source_file for one in ranges[0]] == [1]


def test_a_renamed_file_keeps_its_tensors(tmp_path: Path) -> None:
    """Names pair across files of other names, also within folders."""
    a = bits(50, 1)
    source = {"sub/old": safetensors({"w": a})}
    ranges = aligned(tmp_path, source, {"new": safetensors({"w": bits(50, 2)})})
    assert [one.source_start for one in ranges[0]] == [at(source["sub/old"], a)]


def test_other_shapes_and_types_have_no_counterpart(tmp_path: Path) -> None:
    """A tensor that was made longer or cast is predicted by nothing."""
    source = safetensors({"a": bits(50, 1), "b": bits(60, 2)})
    target = safetensors({"a": bits(51, 1), "b": ("int32", weights("int32", 60, 2))})
    assert not aligned(tmp_path, {"m": source}, {"m": target}).get(0)


def test_damaged_and_unknown_files_have_no_tensors(tmp_path: Path) -> None:
    """A model that cannot be read travels as bytes; the others keep their tensors."""
    good = safetensors({"a": bits(50, 1)})
    files = {"bad": good[:-4], "good": good, "text": b"just text"}
    ranges = aligned(tmp_path, files, files)
    assert list(ranges) == [1]


def test_a_single_file_is_aligned_whatever_it_is_called(tmp_path: Path) -> None:
    """Single files need no equal names."""
    write_folder(
        tmp_path, {"v1": safetensors({"a": bits(9, 1)}), "v2": safetensors({"a": bits(9, 2)})}
    )
    source, target = (locate_tensors(tmp_path / name, ["model"]) for name in ("v1", "v2"))
    with open_tree(tmp_path / "v1") as sources, open_tree(tmp_path / "v2") as targets:
        ranges = align(source, target, source_files=sources, target_files=targets)
    assert len(ranges[0]) == 1
