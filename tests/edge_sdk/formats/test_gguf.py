"""GGUF: where its tensors lie, and headers that deceive."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import FormatError
from edge_sdk.formats import gguf as gguf_reader
from tests.support.ggml_files import (
    ARRAY,
    KEYS,
    STRING,
    UINT32,
    GgmlTensor,
    array,
    gguf,
    key,
    string,
)
from tests.support.tensor_maps import contents, opened

F = GgmlTensor("blk.0.attn.weight", 0, (3, 2), np.arange(6, dtype=np.float32).tobytes())
H = GgmlTensor("h", 1, (5,), np.arange(5, dtype=np.float16).tobytes())
Q = GgmlTensor("q", 8, (64, 3), bytes(range(204)))


def refused(tmp_path: Path, content: bytes) -> FormatError:
    with pytest.raises(FormatError) as error:
        opened(tmp_path, content)
    assert 0 <= error.value.facts["offset"] <= len(content)
    return error.value


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [32, 64])
def test_tensors_are_found_in_place(tmp_path: Path, version: int, alignment: int) -> None:
    """Names, types, shapes and bytes; quantised blocks are the last dimensions of bytes."""
    keys = (*KEYS, key("general.alignment", UINT32, struct.pack("<I", alignment)))
    found = opened(tmp_path, gguf([F, H, Q], keys=keys, version=version, alignment=alignment))
    assert found.format == "gguf"
    assert contents(found) == {one.name: one.data for one in (F, H, Q)}
    assert {one.name: (one.dtype, one.shape) for one in found.tensors} == {
        F.name: ("float32", (2, 3)),
        "h": ("float16", (5,)),
        "q": ("uint8", (3, 2, 34)),
    }


def test_without_the_key_the_alignment_is_32(tmp_path: Path) -> None:
    """As the format says."""
    assert contents(opened(tmp_path, gguf([H, F], keys=()))) == {"h": H.data, F.name: F.data}


def test_types_of_later_releases_have_no_ranges(tmp_path: Path) -> None:
    """Nor have rows that are no whole blocks, and tensors of nothing."""
    strange = [
        GgmlTensor("later", 99, (4,), b"1234"),
        GgmlTensor("part", 8, (16, 2), bytes(34)),
        GgmlTensor("none", 0, (0, 2), b""),
        GgmlTensor("huge", 0, (1 << 40, 1 << 40), b""),
        GgmlTensor("scalar block", 8, (), b""),
    ]
    assert contents(opened(tmp_path, gguf([*strange, F]))) == {F.name: F.data}


@pytest.mark.parametrize("version", [0, 1, 4, 3 << 24])
def test_other_versions_are_opaque(tmp_path: Path, version: int) -> None:
    """The first has other lengths, and a big-endian file reads as a huge version."""
    assert opened(tmp_path, gguf([F], version=version)).format == "opaque"


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    """At every byte from the magic on."""
    content = gguf([F, H])
    for length in range(4, len(content)):
        refused(tmp_path, content[:length])


def test_what_no_header_holds_is_refused(tmp_path: Path) -> None:
    """Unknown values, arrays of arrays, too many dimensions, names without end, no alignment."""
    nested = array(ARRAY, [array(STRING, [string("a")])])
    alignment = [
        key("general.alignment", UINT32, struct.pack("<I", number)) for number in (0, 1 << 30)
    ]
    for bad in (
        key("k", 13, b""),
        key("k", ARRAY, nested),
        key("general.alignment", 7, b"\1"),
        *alignment,
    ):
        refused(tmp_path, gguf([F], keys=[bad]))
    refused(tmp_path, gguf([GgmlTensor("w", 0, (1,) * 5, bytes(4))]))
    refused(tmp_path, gguf([GgmlTensor("n" * 70_000, 0, (1,), bytes(4))]))


def test_counts_beyond_reason_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of tensors, keys and strings are charged before they are believed."""
    for fields in ((2**64 - 1, 0), (0, 2**64 - 1)):
        assert "items" in refused(tmp_path, b"GGUF" + struct.pack("<IQQ", 3, *fields)).message
    monkeypatch.setattr(gguf_reader, "_ITEMS_MAX", 5)
    many = key("k", ARRAY, array(STRING, [string("")] * 6))
    assert "items" in refused(tmp_path, gguf([], keys=[many])).message
