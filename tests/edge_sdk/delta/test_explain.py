"""What a delta spends its bytes on, tensor by tensor."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_sdk.base import UnavailableError
from edge_sdk.delta import encode
from edge_sdk.delta.cli import cli
from edge_sdk.delta.explain import NOTHING, OUTSIDE, explain
from edge_sdk.formats import write_safetensors

# The package has a function of that name.
explain_module = import_module("edge_sdk.delta.explain")

WEIGHTS = 60_000


def write(path: Path, **tensors: np.ndarray) -> Path:
    with path.open("wb") as stream:
        write_safetensors(stream, tensors)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A tensor that stays, one of which every weight moves, one that is cast, one that is new."""
    random = np.random.default_rng(5)
    kept, tuned, wide = (random.standard_normal(WEIGHTS).astype(np.float32) for _ in range(3))
    old = write(tmp_path / "old.safetensors", kept=kept, tuned=tuned, wide=wide)
    new = write(
        tmp_path / "new.safetensors",
        kept=kept,
        tuned=tuned * random.normal(1, 0.001, WEIGHTS).astype(np.float32),
        wide=wide.astype(np.float16),
        words=np.frombuffer(b"the same again " * 100, np.uint8),
    )
    return old, new


def test_every_byte_is_counted_once(pair: tuple[Path, Path]) -> None:
    """Parts and overhead make up the delta that ``encode`` makes, and all of the target."""
    facts = explain(*pair)
    out = io.BytesIO()
    encode(*pair, out)
    assert facts.delta_bytes == len(out.getvalue())
    assert sum(part.delta_bytes for part in facts.parts) + facts.overhead_bytes == facts.delta_bytes
    assert sum(part.target_bytes for part in facts.parts) == facts.target_bytes
    assert facts.target_bytes == pair[1].stat().st_size
    for part in facts.parts:
        assert sum(part.methods.values()) == part.delta_bytes
        assert sum(part.predicted_from.values()) == part.target_bytes
    assert facts.methods == dict(sorted(facts.methods.items(), key=lambda one: -one[1]))


def shorten(path: Path) -> None:
    os.truncate(path, 1000)


def write_again(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def replace(path: Path) -> None:
    path.with_name("other").write_bytes(b"other")
    path.with_name("other").replace(path)


def add(path: Path) -> None:
    path.with_name("more").write_bytes(b"more")


@pytest.mark.parametrize("change", [shorten, write_again, replace, add])
@pytest.mark.parametrize("made_before", [False, True])
def test_files_that_change_meanwhile_are_told(
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    made_before: bool,
) -> None:
    """Before or after the delta is made of them; but not where the open files stay as they are."""
    old, new = pair
    source = old.parent / "v1"
    source.mkdir()
    old.rename(source / "m")
    os.utime(source / "m", ns=(0, 0))
    real = explain_module.encode

    def with_change(*artifacts: object, progress: object) -> None:
        if made_before:
            real(*artifacts, progress=progress)
        change(source / "m")
        if not made_before:
            real(*artifacts, progress=progress)

    monkeypatch.setattr(explain_module, "encode", with_change)
    if made_before and change in (replace, add):
        assert explain(source, new).target_bytes == new.stat().st_size
    else:
        with pytest.raises(UnavailableError, match="run it again when"):
            explain(source, new)


def test_each_tensor_says_what_predicts_it(pair: tuple[Path, Path]) -> None:
    """The kept one is copied, the tuned one a residual of itself, the cast one is foretold."""
    parts = {part.name: part for part in explain(*pair).parts}
    assert set(parts) == {"kept", "tuned", "wide", "words", OUTSIDE}
    kept, tuned, wide = parts["kept"], parts["tuned"], parts["wide"]
    assert list(kept.methods) == ["patch"]
    assert kept.missed == 0
    assert next(iter(kept.predicted_from)) == "kept"
    assert "residual" in tuned.methods
    assert next(iter(tuned.predicted_from)) == "tuned"
    assert tuned.missed is not None
    assert tuned.missed > 0.95
    assert tuned.bits_per_weight == tuned.delta_bytes * 8 / WEIGHTS
    assert next(iter(wide.predicted_from)) == "wide, cast float32 to float16"
    assert wide.missed == 0
    assert wide.delta_bytes < WEIGHTS // 10
    assert (parts["words"].dtype, parts["words"].shape) == ("uint8", (1500,))


def test_files_without_tensors_are_explained_too(tmp_path: Path) -> None:
    """Opaque files, from a source and from one that has nothing in common."""
    old, new = tmp_path / "old.bin", tmp_path / "new.bin"
    old.write_bytes(bytes(range(256)) * 40)
    new.write_bytes(b"entirely other bytes, " * 90)
    (part,) = explain(old, new).parts
    assert part.name == OUTSIDE
    assert part.bits_per_weight is None
    assert NOTHING in part.predicted_from
    (same,) = explain(old, old).parts
    assert list(same.predicted_from) == ["bytes of old.bin"]
    new.write_bytes(b"")
    assert explain(old, new).parts == ()


def test_command_shows_the_largest_first(pair: tuple[Path, Path]) -> None:
    """A table for people with what dominates under it; --json has every tensor."""
    shown = CliRunner().invoke(cli, ["explain", *map(str, pair)])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.index("tuned") < shown.stdout.index("kept")
    assert "what dominates: residual" in shown.stderr
    machine = CliRunner().invoke(cli, ["explain", *map(str, pair), "--json"])
    document = json.loads(machine.stdout)
    assert {part["name"] for part in document["parts"]} >= {"kept", "tuned", "wide"}
    assert document["delta_bytes"] == explain(*pair).delta_bytes


def test_command_cuts_long_tables(tmp_path: Path) -> None:
    """Thirty tensors are shown, and the rest in one line unless all are asked for."""
    random = np.random.default_rng(6)
    tensors = {f"t{number:02d}": random.standard_normal(64) for number in range(40)}
    old = write(tmp_path / "old.safetensors", **tensors)
    new = write(tmp_path / "new.safetensors", **{name: x * 1.01 for name, x in tensors.items()})
    shown = CliRunner().invoke(cli, ["explain", str(old), str(new)])
    assert "11 more take" in shown.stderr
    everything = CliRunner().invoke(cli, ["explain", str(old), str(new), "--all"])
    assert all(name in everything.stdout for name in tensors)
    assert "more take" not in everything.stderr
