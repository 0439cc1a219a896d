"""The encoder: right for any pair, small for the usual ones."""

import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.base import (
    CHUNK_BYTES,
    NotFoundError,
    ProofError,
    UnavailableError,
    UsageError,
    WrongSourceError,
)
from edge_sdk.delta import METHODS, alignment, apply, encode
from edge_sdk.delta.files import OpenFile
from tests.support.deltas import (
    decoded,
    encoded,
    safetensors,
    tuned,
    weights,
    write_folder,
)

# The package has a function of that name.
KINDS = ["int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def delta_of(root: Path, source: Mapping[str, bytes] | None, target: Mapping[str, bytes]) -> bytes:
    """Encoded, decoded again, compared; the delta."""
    write_folder(root / "target", target)
    if source is not None:
        write_folder(root / "source", source)
    delta = encoded(root / "source" if source is not None else None, root / "target")
    files = [source[path] for path in sorted(source)] if source else []
    assert decoded(delta, files) == [target[path] for path in sorted(target)]
    return delta


def used(root: Path) -> Mapping[str, int]:
    summary = encode(root / "source", root / "target", io.BytesIO())
    return {name: use.records for name, use in summary.methods.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_tuned_weights_come_back_in_fewer_bytes(tmp_path: Path, kind: str) -> None:
    """Each kind of element, with edge values: smaller than the whole, right to the bit."""
    before = weights(kind, 30_000, 1)
    source = {"m": safetensors({"w": (kind, before)})}
    target = {"m": safetensors({"w": (kind, tuned(before, 2))})}
    delta = delta_of(tmp_path, source, target)
    whole = encoded(None, tmp_path / "target")
    assert len(delta) < 0.75 * len(whole)
    assert used(tmp_path)["residual"] == 1


@pytest.mark.parametrize(("kind", "bits"), [("float32", 4), ("bfloat16", 5)])
def test_pruned_weights_take_little_more_than_their_mask(
    tmp_path: Path, kind: str, bits: int
) -> None:
    """Half of the weights became zero, the others stayed."""
    before = weights(kind, 100_000, 1)
    stays = np.random.default_rng(2).random(len(before)) < 0.5
    after = np.where(stays, before, 0).astype(before.dtype)
    source, target = ({"m": safetensors({"w": (kind, one)})} for one in (before, after))
    assert 8 * len(delta_of(tmp_path, source, target)) < bits * len(before)


def test_identical_artifacts_take_under_200_bytes(tmp_path: Path) -> None:
    """One copy record for the file, however many chunks and whatever it is called."""
    data = safetensors({"w": ("float32", weights("float32", 900_000, 1))})
    same = delta_of(tmp_path / "same", {"m.safetensors": data}, {"m.safetensors": data})
    renamed = delta_of(tmp_path / "renamed", {"m.safetensors": data}, {"n.safetensors": data})
    assert max(len(same), len(renamed)) < 200
    assert used(tmp_path / "same") == {"copy": 1}


def test_empty_and_tiny_files(tmp_path: Path) -> None:
    """Files of no byte and of one, on either side."""
    delta_of(tmp_path / "a", {"f": b""}, {"f": b"x", "g": b""})
    delta_of(tmp_path / "b", {"f": b"x"}, {"f": b""})
    delta_of(tmp_path / "c", None, {"f": b"", "g": b"y"})


def test_an_inserted_byte_shifts_no_copy(tmp_path: Path) -> None:
    """Unknown formats: content that moved by an odd distance is copied, not sent."""
    content = np.random.default_rng(1).bytes(3 * CHUNK_BYTES)
    moved = content[:1_000_001] + b"!" + content[1_000_001:2_500_000]
    assert len(delta_of(tmp_path, {"blob": content}, {"blob": moved})) < 600


def test_exchanged_regions_are_copied(tmp_path: Path) -> None:
    """Regions that changed places, and one that appears twice, are found."""
    chance = np.random.default_rng(2)
    a, b, c = (chance.bytes(700_000) for _ in range(3))
    assert len(delta_of(tmp_path, {"x": a + b + c}, {"y": c + a + a + b})) < 600


def test_a_graph_edit_takes_a_few_bytes(tmp_path: Path) -> None:
    """A word changed in a text, a line added: a patch, not the text."""
    lines = [
        f'{{"op": "MatMul", "name": "node_{n}", "inputs": [{n}, {n * 7}]}}' for n in range(9000)
    ]
    edited = [*lines[:4000], '{"op": "Identity"}', *lines[4000:]]
    edited[77] = edited[77].replace("MatMul", "Gemm")
    source, target = ("\n".join(text).encode() for text in (lines, edited))
    assert len(delta_of(tmp_path, {"graph": source}, {"graph": target})) < 800


def test_one_changed_tensor_among_many(tmp_path: Path) -> None:
    """The others are copies; neighbouring copies are one record."""
    tensors = {f"w{n}": ("float32", weights("float32", 80_000, n)) for n in range(12)}
    changed = {**tensors, "w5": ("float32", tuned(tensors["w5"][1], 3))}
    delta_of(tmp_path, {"m": safetensors(tensors)}, {"m": safetensors(changed)})
    assert used(tmp_path) == {"copy": 2, "table": 2, "residual": 1}


def test_many_small_tensors_do_not_drown_in_records(tmp_path: Path) -> None:
    """Hundreds of tiny tensors cost less than a whole of their file."""
    tensors = {f"bias{n}": ("float32", weights("float32", 5 + n % 30, n)) for n in range(400)}
    changed = {name: (kind, tuned(bits, 1)) for name, (kind, bits) in tensors.items()}
    delta = delta_of(tmp_path, {"m": safetensors(tensors)}, {"m": safetensors(changed)})
    assert len(delta) < 0.8 * len(encoded(None, tmp_path / "target"))


def test_never_more_than_one_percent_above_the_whole(tmp_path: Path) -> None:
    """Retrained weights, another dtype, other content: the delta is at most 1 % larger."""
    source = {"m": safetensors({"w": ("float32", weights("float32", 400_000, 1))})}
    targets = (
        {"m": safetensors({"w": ("float32", weights("float32", 400_000, 2))})},
        {"m": safetensors({"w": ("float16", weights("float16", 400_000, 2))})},
        {"m": np.random.default_rng(3).bytes(1_500_000)},
        {"m": b"completely different text " * 60_000},
    )
    for number, target in enumerate(targets):
        delta = delta_of(tmp_path / str(number), source, target)
        whole = encoded(None, tmp_path / str(number) / "target")
        alone = len(zstandard.ZstdCompressor(level=3).compress(target["m"]))
        assert len(delta) <= 1.01 * len(whole) + 200
        assert len(delta) <= 1.01 * alone + 300


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """Twice the same, also into a file, where the spool lies beside it."""
    before = weights("bfloat16", 600_000, 1)
    write_folder(tmp_path / "source", {"m": safetensors({"w": ("bfloat16", before)})})
    write_folder(tmp_path / "target", {"m": safetensors({"w": ("bfloat16", tuned(before, 1))})})
    first = encoded(tmp_path / "source", tmp_path / "target")
    with (tmp_path / "delta").open("wb") as out:
        encode(tmp_path / "source", tmp_path / "target", out)
    assert (tmp_path / "delta").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "source", "target"]


@pytest.mark.parametrize(
    "names",
    [["literal"], ["literal", "copy"], ["literal", "patch"], ["literal", "residual", "copy"]],
)
def test_only_the_methods_asked_for_are_used(tmp_path: Path, names: list[str]) -> None:
    """A device that knows few methods gets a delta of these; later ones are passed over."""
    before = weights("float16", 50_000, 1)
    files = {"kept": b"kept " * 2000, "label": b"a b c " * 500}
    source = {"m": safetensors({"w": ("float16", before)}), **files}
    target = {
        "m": safetensors({"w": ("float16", tuned(before, 1))}),
        **files,
        "label": b"a b d " * 500,
    }
    write_folder(tmp_path / "source", source)
    write_folder(tmp_path / "target", target)
    out = io.BytesIO()
    summary = encode(tmp_path / "source", tmp_path / "target", out, methods=[*names, "of-2030"])
    assert set(summary.methods) - {"table"} <= set(names)
    files_back = decoded(out.getvalue(), [source[path] for path in sorted(source)])
    assert files_back == [target[path] for path in sorted(target)]


def test_literal_is_always_needed(tmp_path: Path) -> None:
    """Without it some targets could not be made."""
    with pytest.raises(UsageError, match="literal"):
        encoded(None, write_folder(tmp_path, {"f": b"x"}), methods=["copy"])


def test_the_memory_limit_chooses_the_methods(tmp_path: Path) -> None:
    """A small device gets a delta that it can decode; an impossible limit is told."""
    before = weights("float32", 400_000, 1)
    source = safetensors({"w": ("float32", before)})
    target = safetensors({"w": ("float32", tuned(before, 1))})
    write_folder(tmp_path / "source", {"m": source})
    write_folder(tmp_path / "target", {"m": target})
    small = encoded(tmp_path / "source", tmp_path / "target", memory_limit_bytes=4 << 20)
    assert decoded(small, [source], memory_limit_bytes=4 << 20) == [target]
    assert len(encoded(tmp_path / "source", tmp_path / "target")) < len(small)
    with pytest.raises(UsageError, match="1000000 bytes of memory; allow at least") as refused:
        encoded(tmp_path / "source", tmp_path / "target", memory_limit_bytes=1_000_000)
    least = int(refused.value.message.split()[-1])
    smallest = encoded(tmp_path / "source", tmp_path / "target", memory_limit_bytes=least)
    assert decoded(smallest, [source], memory_limit_bytes=least) == [target]


def test_the_summary_and_progress_add_up(tmp_path: Path) -> None:
    """Bytes told on the way and bytes by method are those of the target and of the delta."""
    before = weights("float16", 900_000, 1)
    write_folder(tmp_path / "source", {"m": safetensors({"w": ("float16", before)}), "k": b"kept"})
    write_folder(
        tmp_path / "target", {"m": safetensors({"w": ("float16", tuned(before, 1))}), "k": b"kept"}
    )
    told: list[int] = []
    out = io.BytesIO()
    summary = encode(tmp_path / "source", tmp_path / "target", out, progress=told.append)
    assert sum(told) == summary.target_bytes
    assert sum(use.target_bytes for use in summary.methods.values()) == summary.target_bytes
    assert summary.delta_bytes == len(out.getvalue())
    assert sum(use.delta_bytes for use in summary.methods.values()) < summary.delta_bytes
    assert summary.source_bytes == summary.target_bytes
    assert METHODS == ("copy", "literal", "patch", "residual", "planes", "maps", "repeats")


def test_a_target_that_changes_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes encoded are those that were proved, or there is no delta."""
    write_folder(tmp_path, {"f": b"before"})
    proved = OpenFile.chunk_digests

    def then_change(file: OpenFile, threads: int) -> object:
        found = proved(file, threads)
        (tmp_path / "f").write_bytes(b"behind")
        return found

    monkeypatch.setattr(OpenFile, "chunk_digests", then_change)
    with pytest.raises(UnavailableError, match="'f' changed"):
        encoded(None, tmp_path)


@pytest.mark.parametrize("kept_bytes", [0, 200_000, 1_300_000, 2_599_999])
def test_a_source_that_becomes_shorter_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """Whatever of it was used before: numbers that are gone end as an error that says so."""
    before = weights("float16", 1_300_000, 1)
    source = write_folder(tmp_path / "v1", {"m": safetensors({"w": ("float16", before)})})
    target = safetensors({"w": ("float16", tuned(before, 2))})
    write_folder(tmp_path / "v2", {"m": target})
    proved = OpenFile.chunk_digests

    def then_shorten(file: OpenFile, threads: int) -> object:
        found = proved(file, threads)
        os.truncate(source / "m", kept_bytes)
        return found

    monkeypatch.setattr(OpenFile, "chunk_digests", then_shorten)
    with pytest.raises(UnavailableError, match="'m' changed"):
        encoded(source, tmp_path / "v2")


def rewritten_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes, *, unseen: bool
) -> None:
    """Changes ``path`` once its digests are known; ``unseen``: with the time it had before."""
    proved = OpenFile.chunk_digests
    os.utime(path, ns=(0, 0))

    def then_rewrite(file: OpenFile, threads: int) -> object:
        found = proved(file, threads)
        if file.shown == path:
            path.write_bytes(content)
            if unseen:
                os.utime(path, ns=(0, 0))
        return found

    monkeypatch.setattr(OpenFile, "chunk_digests", then_rewrite)


@pytest.mark.parametrize("changed", ["v1", "v2"])
def test_a_file_that_changes_at_the_same_length_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """Source or target, also where only what was read already is other now."""
    before = weights("float16", 700_000, 1)
    for version, seed in (("v1", 2), ("v2", 3)):
        content = safetensors({"w": ("float16", tuned(before, seed))})
        write_folder(tmp_path / version, {"m": content})
    other = safetensors({"w": ("float16", tuned(before, 9))})
    path = tmp_path / changed / "m"
    assert path.stat().st_size == len(other)
    rewritten_while_it_is_read(monkeypatch, path, other, unseen=False)
    with pytest.raises(UnavailableError, match="'m' changed"):
        encoded(tmp_path / "v1", tmp_path / "v2")


def test_a_change_that_no_one_sees_makes_no_wrong_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that changes behind its time: the delta of it is refused for either content."""
    before = weights("float16", 700_000, 1)
    first, second = (safetensors({"w": ("float16", tuned(before, seed))}) for seed in (2, 9))
    target = safetensors({"w": ("float16", tuned(before, 3))})
    write_folder(tmp_path, {"v1": first, "v2": target, "made": b"what was here"})
    rewritten_while_it_is_read(monkeypatch, tmp_path / "v1", second, unseen=True)
    (tmp_path / "delta").write_bytes(encoded(tmp_path / "v1", tmp_path / "v2"))
    monkeypatch.undo()
    for content, error in ((first, ProofError), (second, WrongSourceError)):
        (tmp_path / "v1").write_bytes(content)
        with pytest.raises(error):
            apply(tmp_path / "v1", tmp_path / "delta", tmp_path / "made", replace=True)
    assert (tmp_path / "made").read_bytes() == b"what was here"


def test_a_file_that_another_one_replaces_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors that are found by name do not lie where the open file ends."""
    small, large = (
        safetensors({"w": ("float16", weights("float16", count, 1))}) for count in (1000, 9000)
    )
    write_folder(tmp_path, {"v1/m": small, "v2/m": small, "new": large})
    located = alignment.locate_tensors

    def then_replace(root: Path, paths: Sequence[str]) -> object:
        if (tmp_path / "new").exists():
            (tmp_path / "new").replace(tmp_path / "v1/m")
        return located(root, paths)

    monkeypatch.setattr(alignment, "locate_tensors", then_replace)
    with pytest.raises(UnavailableError, match="'m' changed"):
        encoded(tmp_path / "v1", tmp_path / "v2")


def test_threads_change_no_byte(tmp_path: Path) -> None:
    """Files of several chunks, of one, of none, read ahead or not, and applied."""
    before = weights("float16", 1_300_000, 1)
    write_folder(tmp_path / "v1", {"w": before.tobytes(), "x": b"x"})
    write_folder(tmp_path / "v2", {"w": tuned(before, 2).tobytes(), "x": b"y", "z": b""})
    delta = encoded(tmp_path / "v1", tmp_path / "v2")
    assert encoded(tmp_path / "v1", tmp_path / "v2", threads=3) == delta
    (tmp_path / "delta").write_bytes(delta)
    apply(tmp_path / "v1", tmp_path / "delta", tmp_path / "made", threads=3)
    assert (tmp_path / "made/w").read_bytes() == (tmp_path / "v2/w").read_bytes()


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """A source or target that does not exist is a NotFoundError."""
    write_folder(tmp_path / "there", {"f": b"x"})
    for source, target in ((tmp_path / "gone", tmp_path / "there"), (None, tmp_path / "gone")):
        with pytest.raises(NotFoundError):
            encoded(source, target)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(data=st.data())
def test_any_pair_comes_back(data: st.DataObject) -> None:
    """Random artifacts, made of parts that repeat, grow, shrink and move between files."""
    parts = data.draw(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
    scales = st.sampled_from([1, 1, 7, 300])
    content = st.lists(st.tuples(st.sampled_from(parts), scales), max_size=4).map(
        lambda chosen: b"".join(part * times for part, times in chosen)
    )
    tensor = st.tuples(st.sampled_from(KINDS), st.integers(0, 70), st.integers(0, 3)).map(
        lambda form: safetensors({"w": (form[0], weights(*form))})
    )
    names = st.sampled_from(["a", "b", "c/d", "e.safetensors"])
    artifact = st.dictionaries(names, st.one_of(content, tensor), min_size=1)
    source = data.draw(st.none() | artifact)
    with tempfile.TemporaryDirectory() as folder:
        delta_of(Path(folder), source, data.draw(artifact))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int8"])
def test_numbers_in_unknown_formats_are_recognised(tmp_path: Path, kind: str) -> None:
    """Weights in a file of no known format, behind a header, are differenced all the same."""
    before = weights(kind, 200_000, 1)
    source, target = (b"ABCD" * 6 + bits.tobytes() for bits in (before, tuned(before, 2)))
    delta = delta_of(tmp_path, {"m.bin": source}, {"m.bin": target})
    assert len(delta) < 0.75 * len(encoded(None, tmp_path / "target"))
    assert used(tmp_path)["residual"] == 1


def test_a_source_that_ends_early_is_no_prediction(tmp_path: Path) -> None:
    """Bytes of no known format with no counterpart that far into the source are sent as such."""
    chance = np.random.default_rng(4)
    source = {"m.bin": chance.bytes(5000)}
    target = {"m.bin": chance.bytes(5000) + b"tail " * 4000, "n.bin": chance.bytes(9000)}
    delta_of(tmp_path, source, target)


def test_many_medium_tensors_with_few_changes_are_coded_together(tmp_path: Path) -> None:
    """Where each of many tensors changed a little, one record for the chunk is smaller."""
    kinds = ["float32", "int16", "float64", "int8"]
    tensors = {f"w{n}": (kinds[n % 4], weights(kinds[n % 4], 700, n)) for n in range(60)}
    changed = {}
    for name, (kind, bits) in tensors.items():
        moved = bits.copy()
        moved[100] += np.array(1, bits.dtype)
        changed[name] = (kind, moved)
    delta = delta_of(tmp_path, {"m": safetensors(tensors)}, {"m": safetensors(changed)})
    assert used(tmp_path) == {"patch": 1}
    assert len(delta) < 1300
