"""Seventeen kinds of bad input that a delta decoder meets, and where it is shown that each ends well.

"Here" are the deltas of ``tests/support/bad_deltas.py``, each applied over a target that is there
already, by kernel and by twin: exactly the error that is named, nothing changed and nothing left
beside it, little memory, little time.

| | what | shown by |
|---|---|---|
| 1 | a source of the same length with other content | here |
| 2 | a shorter source, or one that goes on | here |
| 3 | a source that changes while it is read | here; ``test_apply.py``, ``test_files.py`` |
| 4 | a flipped bit, checks made anew or not | here; ``test_flipped_deltas.py``: all bytes, every method, kind, model and value map; ``test_damage.py`` |
| 5 | truncation | here: at every byte, and empty; ``test_decoder.py`` |
| 6 | bytes behind the end, a second delta | here |
| 7 | unknown version, method, flag, map, kind, slot | here; ``test_container.py``, ``test_prediction.py`` |
| 8 | numbers and sums that overflow; beyond 4 GiB it works | here; ``test_varint.py``, ``test_strides.py``; ``test_decoder.py`` |
| 9 | a copy out of range, or of what is not made yet | here; ``test_methods.py`` |
| 10 | records that do not tile the target | here; ``test_decoder.py``, ``test_damage.py`` |
| 11 | lengths that are not those declared | here; ``test_frames.py``, ``test_decoder.py`` |
| 12 | bombs, claims of memory | here; ``test_bombs.py``: by processes that have little |
| 13 | code tables that cannot be, slots that are not set | here; ``test_tables.py`` |
| 14 | states, words and raw bits that do not come out even | here; ``test_streams.py``, ``test_kernel.py`` |
| 15 | a second spelling of the same | here; ``test_tables.py``, ``test_low_rank.py`` |
| 16 | paths that leave the folder or fall together; links | here; ``test_apply.py``, ``test_files.py`` |
| 17 | values that arithmetic would change | here; ``test_methods.py``, ``test_value_maps.py`` |
"""  # fmt: skip

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_sdk.base import DeltaError, EdgeError, ProofError, UnavailableError
from edge_sdk.delta import apply, coder, encode
from edge_sdk.delta.coder import twin
from edge_sdk.delta.varint import varints
from tests.support.bad_deltas import (
    COPY,
    DATA,
    LITERAL,
    SIZE,
    SOURCE,
    BadDelta,
    bad_deltas,
    empty,
    good,
    packed,
)
from tests.support.deltas import EDGE_BITS, bits_dtype, place, safetensors, weights, write_folder
from tests.support.every_delta import every_delta

CASES = tuple(bad_deltas())
BACKENDS: dict[str, ModuleType] = {coder.KERNEL: coder._chosen, "numpy": twin}
# What Python and NumPy may hold beside what was there, and how long a refusal may take.
MEMORY_BYTES = 8 << 20
CPU_S = 5.0
BEFORE = {"t": b"it was", "kept/as": b"it is"}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coder with the kernel, where there is one, and without."""
    monkeypatch.setattr(coder, "_chosen", BACKENDS[request.param])


@contextmanager
def little() -> Iterator[None]:
    """Little memory and little time."""
    tracemalloc.start()
    before_s = time.process_time()
    try:
        yield
        held_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - before_s < CPU_S
    assert held_bytes < MEMORY_BYTES


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def is_refused(root: Path, case: BadDelta) -> None:
    """With exactly that error, over a file, a folder where the delta makes one, and nothing."""
    write_folder(root, {"s": case.source, "delta": case.delta, "file": b"it was"})
    write_folder(root / "folder", BEFORE)
    before = contents(root)
    makes_folder = case.delta[18:19] == b"\1"
    for target in ("file", "new", *(["folder"] if makes_folder else [])):
        with little(), pytest.raises(case.error, match=case.words) as found:
            apply(root / "s", root / "delta", root / target, replace=target != "new")
        assert type(found.value) is case.error
        assert contents(root) == before


@pytest.mark.parametrize("case", CASES, ids=lambda one: f"{one.point}-{one.name}")
def test_a_bad_delta_is_refused_by_name(case: BadDelta, tmp_path: Path, backend: None) -> None:
    """Exactly the error that is named; the target, and all beside it, as before; little taken."""
    is_refused(tmp_path, case)


def test_what_is_bad_is_so_by_one_fault(tmp_path: Path) -> None:
    """The delta that most of them are made from is taken; and each point has some."""
    write_folder(tmp_path, {"s": SOURCE, "delta": good()})
    apply(tmp_path / "s", tmp_path / "delta", tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == DATA
    assert {one.point for one in CASES} == {*range(1, 17)} - {3}
    names = [(one.point, one.name) for one in CASES]
    assert len(names) == len(set(names))


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    """Wherever the file ends, one error: truncated."""
    delta = next(one.delta for one in every_delta() if one.name == "low-rank")
    source = next(one.source for one in every_delta() if one.name == "low-rank")
    write_folder(tmp_path, {"s": source, "t": b"it was"})
    for length in range(len(delta)):
        (tmp_path / "delta").write_bytes(delta[:length])
        with pytest.raises(DeltaError, match="truncated") as found:
            apply(tmp_path / "s", tmp_path / "delta", tmp_path / "t", replace=True)
        assert type(found.value) is DeltaError
        assert contents(tmp_path) == {"s": source, "t": b"it was", "delta": delta[:length]}


def cut(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(SIZE)


def overwrite(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"other bytes" * 40)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [(cut, UnavailableError, "changed while it was read"), (overwrite, ProofError, "digest")],
)
def test_a_source_that_changes_while_it_is_read(
    change: Callable[[Path], None], error: type[EdgeError], words: str, tmp_path: Path
) -> None:
    """Cut or overwritten after its proof, between two records: never the wrong file."""
    half = SIZE // 2
    made = empty().data(LITERAL, place(half), packed(DATA[:half]))
    delta = made.data(COPY, place(half, half), varints(SIZE + half)).build()
    source = tmp_path / "s"
    for target in ("file", "new"):
        write_folder(tmp_path, {"s": SOURCE, "delta": delta, "file": b"it was"})
        with little(), pytest.raises(error, match=words) as found:
            apply(
                source,
                tmp_path / "delta",
                tmp_path / target,
                replace=True,
                threads=1,
                progress=lambda _count: change(source),
            )
        assert type(found.value) is error
        left = {key: value for key, value in contents(tmp_path).items() if key != "s"}
        assert left == {"delta": delta, "file": b"it was"}


def test_a_source_that_is_replaced_is_read_on(tmp_path: Path) -> None:
    """Another file under its name is not the one that was proved: that one is read to its end."""
    half = SIZE // 2
    made = empty().data(LITERAL, place(half), packed(DATA[:half]))
    delta = made.data(COPY, place(half, half), varints(SIZE + half)).build()
    write_folder(tmp_path, {"s": SOURCE, "delta": delta, "other": bytes(5)})

    def exchange(_count: int) -> None:
        if (tmp_path / "other").exists():
            (tmp_path / "other").replace(tmp_path / "s")

    apply(tmp_path / "s", tmp_path / "delta", tmp_path / "t", threads=1, progress=exchange)
    assert (tmp_path / "t").read_bytes() == DATA
    assert (tmp_path / "s").read_bytes() == bytes(5)


@pytest.mark.parametrize("whole", [False, True])
def test_every_value_comes_back(whole: bool, tmp_path: Path, backend: None) -> None:
    """-0.0, subnormals, infinities and NaN payloads, to and from each other; tensors of no
    number, of one, and of a number of bytes that no element divides."""
    tensors, tuned = {}, {}
    for kind, edges in EDGE_BITS.items():
        width = bits_dtype(kind)
        pairs = np.array([(one, other) for one in edges for other in edges], width)
        rest = weights(kind, 3000, 1)
        tensors[kind] = (kind, np.concatenate([pairs[:, 0], rest]))
        tuned[kind] = (kind, np.concatenate([pairs[:, 1], rest[::-1]]))
        tensors[f"{kind}-none"] = tuned[f"{kind}-none"] = (kind, np.empty(0, width))
        tensors[f"{kind}-one"] = (kind, np.array(edges[-1], width))
        tuned[f"{kind}-one"] = (kind, np.array(edges[0], width))
    odd = np.arange(4097, dtype=np.uint8)
    tensors["odd"], tuned["odd"] = ("int8", odd), ("int8", odd ^ 0x11)
    files = {"v1": safetensors(tensors), "v2": safetensors(tuned)}
    write_folder(tmp_path, files)
    source = None if whole else tmp_path / "v1"
    with (tmp_path / "delta").open("wb") as stream:
        encode(source, tmp_path / "v2", stream)
    apply(source, tmp_path / "delta", tmp_path / "made")
    assert (tmp_path / "made").read_bytes() == files["v2"]
