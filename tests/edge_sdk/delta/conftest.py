"""Small deltas that hold every kind of record, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.deltas import encoded, safetensors, tuned, weights, write_folder


@dataclass(frozen=True)
class Example:
    """A delta with what it was made from and what it makes, files in the order of paths."""

    delta: bytes
    sources: list[bytes]
    targets: list[bytes]


def text(lines: int, skip: int = 0) -> bytes:
    return "".join(f"label {i} {i * i * 7919}\n" for i in range(lines) if i != skip).encode()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Well under 4 KiB, with copy, literal, patch, residual and table records."""
    root = tmp_path_factory.mktemp("small")
    source = {
        "a.safetensors": safetensors({"v": ("int16", weights("int16", 400, 3))}),
        "kept.bin": bytes(range(256)) * 2,
        "labels.txt": text(40),
        "model.safetensors": safetensors({"w": ("float16", weights("float16", 300, 1))}),
    }
    tuned_weights = tuned(weights("float16", 300, 1), 2)
    target = {
        "a.safetensors": safetensors({"v": ("int16", tuned(weights("int16", 400, 3), 4))}),
        "empty": b"",
        "kept.bin": source["kept.bin"],
        "labels.txt": text(40, skip=20),
        "model.safetensors": safetensors({"w": ("float16", tuned_weights)}),
        "new.bin": weights("int64", 20, 5).tobytes()[::-1],
    }
    write_folder(root / "source", source)
    write_folder(root / "target", target)
    delta = encoded(root / "source", root / "target")
    return Example(delta, list(source.values()), list(target.values()))


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Several chunks, a copy over many of them, tables, files that end within a chunk."""
    root: Path = tmp_path_factory.mktemp("large")
    still = weights("float32", 900_000, 3)
    moving = weights("float32", 500_000, 4)
    source = {
        "a/model.safetensors": safetensors({"w": ("float32", moving), "still": ("float32", still)}),
        "b.safetensors": safetensors({"v": ("bfloat16", weights("bfloat16", 300_001, 6))}),
        "kept": weights("int32", 700_000, 7).tobytes(),
    }
    target = {
        "a/model.safetensors": safetensors(
            {"w": ("float32", tuned(moving, 1)), "still": ("float32", still)}
        ),
        "b.safetensors": safetensors(
            {"v": ("bfloat16", tuned(weights("bfloat16", 300_001, 6), 2))}
        ),
        "empty": b"",
        "kept": source["kept"],
        "new": weights("float64", 200_000, 8).tobytes(),
    }
    write_folder(root / "source", source)
    write_folder(root / "target", target)
    delta = encoded(root / "source", root / "target")
    return Example(delta, list(source.values()), list(target.values()))
