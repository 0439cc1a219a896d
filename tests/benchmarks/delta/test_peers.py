"""The kept sizes, and the bundle that a peer is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.delta import peers
from benchmarks.delta.pairs import Pair, sha256
from benchmarks.delta.peers import ALL, PeerRoom, aligned_tensors, write_bundle
from edge_sdk.formats import write_safetensors


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """One tensor by name, two renamed, one that is new."""
    random = np.random.default_rng(3)
    paths = tmp_path / "old", tmp_path / "new"
    names = ({"a": 10, "b": 20, "c": 20}, {"a": 10, "x": 20, "y": 20, "z": 5})
    for path, tensors in zip(paths, names, strict=True):
        values = {name: random.standard_normal(size) for name, size in tensors.items()}
        with path.open("wb") as stream:
            write_safetensors(stream, values)
    return Pair(id="made", row="derived", old=paths[0], new=paths[1])


def test_the_kept_file_is_complete_and_readable() -> None:
    """Every entry has a version, and a size or the reason why there is none."""
    kept = peers.read_kept()
    assert kept
    for key, record in kept.items():
        assert len(key) == 33
        assert {"id", "row", "new_bytes", "peers"} == set(record)
        for name, entry in record["peers"].items():
            assert name in ALL
            assert entry["version"]
            assert (entry["bytes"] is None) == ("why" in entry)


def test_given_sizes_are_taken_over(pair: Pair) -> None:
    """By our names, with the reason where there is none; what was measured here stays."""
    kept: dict[str, Any] = {pair.key: {"peers": {"zstd": {"bytes": 1, "version": "2"}}}}
    given = {"zstd19_patch_from": 9, "bsdiff": None, "z4ai": None, "pcodec_diff": 7}
    peers.adopt(pair, {**given, "missing": ["bsdiff"]}, kept)
    entries = kept[pair.key]["peers"]
    assert entries["zstd"]["bytes"] == 1
    assert entries["pcodec"]["bytes"] == 7
    assert entries["bsdiff"]["why"] == peers.NOT_RUN
    assert entries["z4ai"]["why"] == peers.NOT_APPLICABLE
    assert kept[pair.key]["row"] == "derived"


def test_tensors_align_by_name_and_then_by_order(pair: Pair) -> None:
    """Renamed ones go with those of their shape, in order; what is new has none."""
    found = {new.name: old.name for old, new in aligned_tensors(pair)}
    assert found == {"a": "a", "x": "b", "y": "c"}


def test_bundle_tells_where_tensors_are(pair: Pair, tmp_path: Path) -> None:
    """Of each in both files the bytes that our readers know; and the digests of the files."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    write_bundle(pair, folder)
    index = json.loads((folder / "tensors.json").read_text())
    aligned = aligned_tensors(pair)
    assert [one[1:] for one in index] == [
        [old.offset, new.offset, new.length] for old, new in aligned
    ]
    assert [(one[0], one[3]) for one in index] == [("float64", n) for n in (80, 160, 160)]
    digests = json.loads((folder / "digests.json").read_text())
    for name, path in (("old", pair.old), ("new", pair.new)):
        assert (folder / name).read_bytes() == path.read_bytes()
        assert digests[name] == sha256(path)


def test_unknown_files_have_no_tensors(tmp_path: Path) -> None:
    """A float tool is then not applicable."""
    (tmp_path / "one").write_bytes(b"no model")
    plain = Pair(id="plain", row="", old=tmp_path / "one", new=tmp_path / "one")
    assert aligned_tensors(plain) == []


def test_without_an_environment_no_peer_is_there(pair: Pair, tmp_path: Path) -> None:
    """Nothing is measured and nothing is claimed."""
    room = PeerRoom(tmp_path / "absent")
    kept: dict[str, Any] = {}
    assert room.version("zstd") is None
    assert not room.measure(pair, kept, ALL)
    assert kept[pair.key]["peers"] == {}
