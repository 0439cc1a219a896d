"""Applying on this machine: source proved first, target whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from edge_sdk.base import (
    ConflictError,
    DeltaError,
    FormatError,
    NotFoundError,
    ProofError,
    ResourceError,
    UsageError,
    WrongSourceError,
)
from edge_sdk.delta import apply, encode
from edge_sdk.delta.apply import PREAMBLE_BYTES, read_header
from edge_sdk.delta.files import open_one
from tests.support.deltas import (
    prefix_of,
    record_spans,
    resealed,
    safetensors,
    tuned,
    weights,
    write_folder,
)
from tests.support.every_delta import every_delta

BEFORE = weights("float16", 700_000, 1)
SOURCE = {"model": safetensors({"w": ("float16", BEFORE)}), "sub/labels": b"one\ntwo\n"}
TARGET = {
    "empty": b"",
    "model": safetensors({"w": ("float16", tuned(BEFORE, 2))}),
    "sub/labels": b"one\ntwo\nthree\n",
}


def folder_pair(root: Path) -> Path:
    """The delta between two folders."""
    write_folder(root / "source", SOURCE)
    write_folder(root / "target", TARGET)
    return written(root / "source", root / "target", root / "delta")


def file_pair(root: Path) -> Path:
    """The delta between two single files."""
    write_folder(root, {"v1": SOURCE["model"], "v2": TARGET["model"]})
    return written(root / "v1", root / "v2", root / "delta")


def written(source: Path | None, target: Path, delta: Path) -> Path:
    with delta.open("xb") as out:
        encode(source, target, out)
    return delta


def content(folder: Path) -> Mapping[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_untouched(root: Path, names: set[str]) -> None:
    """Nothing but what was there before, temporary files included."""
    assert {path.name for path in root.iterdir()} == names


def test_a_folder_becomes_the_target(tmp_path: Path) -> None:
    """All files under their own names, progress and result adding up."""
    told: list[int] = []
    made = apply(tmp_path / "source", folder_pair(tmp_path), tmp_path / "out", progress=told.append)
    assert content(tmp_path / "out") == TARGET
    assert [file.path for file in made.files] == sorted(TARGET)
    assert sum(told) == made.target_bytes == sum(map(len, TARGET.values()))
    assert made.delta_bytes == (tmp_path / "delta").stat().st_size


def test_a_file_becomes_the_target(tmp_path: Path) -> None:
    """A single file needs no name: the source may be called as it likes."""
    delta = file_pair(tmp_path)
    (tmp_path / "v1").rename(tmp_path / "called otherwise")
    apply(tmp_path / "called otherwise", delta, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == TARGET["model"]


def test_a_whole_needs_no_source(tmp_path: Path) -> None:
    """From nothing; a source given beside it does not matter."""
    write_folder(tmp_path / "target", TARGET)
    delta = written(None, tmp_path / "target", tmp_path / "delta")
    apply(None, delta, tmp_path / "out")
    apply(tmp_path / "target", delta, tmp_path / "again")
    assert content(tmp_path / "out") == content(tmp_path / "again") == TARGET


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:1000] + b"\x00\x01" + data[1002:],
        lambda data: data[:-1],
        lambda data: data + b"\x00",
        lambda _data: b"",
    ],
    ids=["same length", "shorter", "longer", "empty"],
)
def test_a_wrong_source_is_refused_before_anything(tmp_path: Path, change: object) -> None:
    """Other bytes, a shorter and a longer source: WrongSourceError and nothing written."""
    delta = folder_pair(tmp_path)
    (tmp_path / "source" / "model").write_bytes(change(SOURCE["model"]))  # type: ignore[operator]
    with pytest.raises(WrongSourceError, match=r"model.* is not the source") as refused:
        apply(tmp_path / "source", delta, tmp_path / "out")
    assert refused.value.facts["path"] == "model"
    assert_untouched(tmp_path, {"source", "target", "delta"})


def test_a_missing_source_is_told_apart(tmp_path: Path) -> None:
    """No source at all, no such path, a folder that lacks a file."""
    delta = folder_pair(tmp_path)
    with pytest.raises(WrongSourceError, match="needs a source"):
        apply(None, delta, tmp_path / "out")
    with pytest.raises(NotFoundError):
        apply(tmp_path / "gone", delta, tmp_path / "out")
    (tmp_path / "source" / "model").unlink()
    with pytest.raises(WrongSourceError, match="no file 'model'"):
        apply(tmp_path / "source", delta, tmp_path / "out")
    assert_untouched(tmp_path, {"source", "target", "delta"})


def test_a_link_in_the_source_is_refused(tmp_path: Path) -> None:
    """A link that leads out of the source folder is not followed, even to the right bytes."""
    delta = folder_pair(tmp_path)
    (tmp_path / "source" / "model").rename(tmp_path / "elsewhere")
    (tmp_path / "source" / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="link"):
        apply(tmp_path / "source", delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pair", [folder_pair, file_pair])
def test_a_damaged_delta_leaves_nothing(tmp_path: Path, pair: object) -> None:
    """Truncated, lengthened or flipped anywhere: a typed error and no target, no leftover."""
    delta = pair(tmp_path)  # type: ignore[operator]
    names = {path.name for path in tmp_path.iterdir()}
    source = tmp_path / ("source" if (tmp_path / "source").exists() else "v1")
    data = delta.read_bytes()
    half = bytearray(data)
    half[len(data) // 2] ^= 1
    late = bytearray(data)
    late[-20] ^= 1
    for damaged in (b"", data[:17], data[:40], data[:-1], data + b"x", bytes(half), bytes(late)):
        delta.write_bytes(damaged)
        with pytest.raises(DeltaError):
            apply(source, delta, tmp_path / "out")
        assert_untouched(tmp_path, names)


def test_a_resealed_delta_is_caught_by_the_proof(tmp_path: Path) -> None:
    """Wrong bytes with right checks end as ProofError, and nothing appears."""
    write_folder(tmp_path, {"v1": b"0123456789" * 500, "v2": b"0123456789" * 400})
    delta = written(tmp_path / "v1", tmp_path / "v2", tmp_path / "delta")
    data = bytearray(delta.read_bytes())
    (_, start, end), *_ = record_spans(bytes(data))
    assert data[start] == 1  # copy
    data[end - 5] = 3  # the source offset
    delta.write_bytes(resealed(bytes(data)))
    with pytest.raises(ProofError):
        apply(tmp_path / "v1", delta, tmp_path / "out")
    assert_untouched(tmp_path, {"v1", "v2", "delta"})


def test_hostile_target_paths_are_refused(tmp_path: Path) -> None:
    """A delta that names a path outside of its folder is a DeltaError at the header."""
    delta = folder_pair(tmp_path)
    data = delta.read_bytes()
    prefix = prefix_of(data).replace(b"sub/labels", b"../labels1")
    delta.write_bytes(resealed(prefix + data[len(prefix) :]))
    with pytest.raises(DeltaError, match="impossible"):
        apply(tmp_path / "source", delta, tmp_path / "out")
    assert_untouched(tmp_path, {"source", "target", "delta"})


def test_memory_above_the_limit_is_refused(tmp_path: Path) -> None:
    """The declared memory, and already the size of the prefix, are held against the limit."""
    delta = folder_pair(tmp_path)
    for limit in (1 << 20, 100):
        with pytest.raises(DeltaError, match="bytes of memory") as refused:
            apply(tmp_path / "source", delta, tmp_path / "out", memory_limit_bytes=limit)
        assert refused.value.facts["limit"] == limit
        assert f"{refused.value.facts['wanted']} bytes of memory" in refused.value.message
    assert_untouched(tmp_path, {"source", "target", "delta"})
    apply(
        tmp_path / "source",
        delta,
        tmp_path / "out",
        memory_limit_bytes=refused.value.facts["wanted"],
    )


def test_what_is_there_stays_without_replace(tmp_path: Path) -> None:
    """An existing file or folder is a ConflictError and untouched."""
    delta = folder_pair(tmp_path)
    for existing in (write_folder(tmp_path / "out", {"mine": b"1"}), tmp_path / "file"):
        if not existing.exists():
            existing.write_bytes(b"1")
        with pytest.raises(ConflictError):
            apply(tmp_path / "source", delta, existing)
    assert content(tmp_path / "out") == {"mine": b"1"}
    assert_untouched(tmp_path, {"source", "target", "delta", "out", "file"})


def test_replace_puts_the_target_in_its_place(tmp_path: Path) -> None:
    """A folder, a file and a link that stood there are gone; where a link led is not."""
    delta = folder_pair(tmp_path)
    out = write_folder(tmp_path / "out", {"mine": b"1"})
    apply(tmp_path / "source", delta, out, replace=True)
    assert content(out) == TARGET
    shutil.rmtree(out)
    out.write_bytes(b"a file")
    apply(tmp_path / "source", delta, out, replace=True)
    assert content(out) == TARGET
    shutil.rmtree(out)
    write_folder(tmp_path / "kept", {"mine": b"1"})
    out.symlink_to(tmp_path / "kept")
    apply(tmp_path / "source", delta, out, replace=True)
    assert content(out) == TARGET
    assert not out.is_symlink()
    assert content(tmp_path / "kept") == {"mine": b"1"}
    assert_untouched(tmp_path, {"source", "target", "delta", "out", "kept"})


def test_the_source_may_be_replaced_by_its_target(tmp_path: Path) -> None:
    """In place, file and folder: the source is read while the target has another name."""
    delta = folder_pair(tmp_path)
    apply(tmp_path / "source", delta, tmp_path / "source", replace=True)
    assert content(tmp_path / "source") == TARGET
    delta = file_pair(write_folder(tmp_path / "files", {}) or tmp_path)
    apply(tmp_path / "files" / "v1", delta, tmp_path / "files" / "v1", replace=True)
    assert (tmp_path / "files" / "v1").read_bytes() == TARGET["model"]


def test_a_failed_rename_puts_back_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the last step fails, the folder that stood there stands there again."""
    delta = folder_pair(tmp_path)
    out = write_folder(tmp_path / "out", {"mine": b"1"})
    real = Path.rename

    def failing(path: Path, other: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise PermissionError(13, "no")
        return real(path, other)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="permission"):
        apply(tmp_path / "source", delta, out, replace=True)
    assert content(out) == {"mine": b"1"}
    assert_untouched(tmp_path, {"source", "target", "delta", "out"})


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of writing a folder leaves no temporary folder."""
    delta = folder_pair(tmp_path)

    def interrupt(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(tmp_path / "source", delta, tmp_path / "out", progress=interrupt)
    assert_untouched(tmp_path, {"source", "target", "delta"})


def test_a_target_without_a_place_is_told(tmp_path: Path) -> None:
    """A folder to write into that does not exist, and the root of all, are refused."""
    delta = folder_pair(tmp_path)
    with pytest.raises(NotFoundError):
        apply(tmp_path / "source", delta, tmp_path / "gone" / "out")
    with pytest.raises(UsageError, match=r"holds the input|cannot be made"):
        apply(tmp_path / "source", delta, Path("/"), replace=True)


def test_a_source_that_changes_after_it_was_proved_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes exchanged between proof and use end as ProofError: the target is proved too."""
    write_folder(tmp_path, {"v1": b"0123456789" * 5000, "v2": b"0123456789" * 4000})
    delta = written(tmp_path / "v1", tmp_path / "v2", tmp_path / "delta")
    monkeypatch.setattr(
        import_module("edge_sdk.delta.apply"),  # the package's name for it is the function
        "_prove_source",
        lambda *_given: (tmp_path / "v1").write_bytes(b"9876543210" * 5000),
    )
    with pytest.raises(ProofError):
        apply(tmp_path / "v1", delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_read_header_needs_all_of_it(tmp_path: Path) -> None:
    """A file that ends within preamble or prefix is told as truncated."""
    delta = folder_pair(tmp_path)
    data = delta.read_bytes()
    for length in (0, PREAMBLE_BYTES - 1, PREAMBLE_BYTES, len(prefix_of(data)) - 1):
        os.truncate(delta, length)
        with open_one(delta, "d") as container, pytest.raises(DeltaError, match="truncated"):
            read_header(container, memory_limit_bytes=1 << 20)
        delta.write_bytes(data)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_delta_that_reads_what_it_made_is_applied(tmp_path: Path, threads: int) -> None:
    """Records that refer to the target so far find it in the file that is being written."""
    case = next(one for one in every_delta() if one.name == "patch-repeats")
    write_folder(tmp_path, {"source": case.source, "delta": case.delta})
    apply(tmp_path / "source", tmp_path / "delta", tmp_path / "made", threads=threads)
    assert (tmp_path / "made").read_bytes() == case.target


def test_a_target_that_no_disk_holds_is_told_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More bytes than are free: a ResourceError, and nothing is there."""
    delta = file_pair(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    little = usage._replace(free=len(TARGET["model"]) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: little)
    with pytest.raises(ResourceError, match="free there"):
        apply(tmp_path / "v1", delta, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "v1", "v2"]
