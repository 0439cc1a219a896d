"""Bytes of a file, read where they are asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import FormatError, UnavailableError
from edge_sdk.formats import open_model
from edge_sdk.formats.file_bytes import FileBytes
from edge_sdk.formats.model_file import open_file
from tests.support.deltas import safetensors

CONTENT = np.random.default_rng(1).integers(0, 4, 30_000, np.uint8).tobytes()
PAGE = 4096
places = st.one_of(st.integers(0, len(CONTENT) + 9), st.sampled_from([PAGE - 1, PAGE, 2 * PAGE]))


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileBytes]:
    path = tmp_path_factory.mktemp("bytes") / "f"
    path.write_bytes(CONTENT)
    with path.open("rb", buffering=0) as stream:
        yield FileBytes(path, stream)


@settings(deadline=None)
@given(start=places, length=st.integers(-2, 3 * PAGE))
def test_slices_and_numbers_are_those_of_bytes(held: FileBytes, start: int, length: int) -> None:
    """Within a page or over several, also where they go on behind the end."""
    assert held[start : start + length] == CONTENT[start : start + length]
    assert held[:start] == CONTENT[:start]
    if start < len(CONTENT):
        assert held[start] == CONTENT[start]
    else:
        with pytest.raises(IndexError):
            held[start]
    with pytest.raises(IndexError):
        held[start + len(CONTENT) + PAGE]


@settings(deadline=None)
@given(start=places, end=places, sought=st.binary(min_size=1, max_size=12))
def test_what_is_sought_is_found_where_bytes_find_it(
    held: FileBytes, start: int, end: int, sought: bytes
) -> None:
    """The first place within bounds, or none; pieces that are searched overlap."""
    for one in (sought, bytes(byte % 4 for byte in sought)):
        assert held.find(one, start, end) == CONTENT.find(one, start, end)
        assert held.find(one, start) == CONTENT.find(one, start)


def test_what_stands_over_two_searched_pieces_is_found(tmp_path: Path) -> None:
    """Wherever a word stands in a file that is searched piece by piece."""
    path = tmp_path / "f"
    for at in (250, 254, 255, 256, 257, 766, 3 << 20, (1 << 20) + 253):
        path.write_bytes(bytes(at) + b"word")
        with open_file(path) as file:
            assert file.data.find(b"word") == at
            assert file.data.find(b"words") == -1


def test_few_pages_are_kept(tmp_path: Path) -> None:
    """A walk through all of a file takes the memory of some pages."""
    path = tmp_path / "f"
    path.write_bytes(bytes(10 << 20))
    with path.open("rb", buffering=0) as stream:
        data = FileBytes(path, stream)
        assert not any(data[at] for at in range(0, 10 << 20, PAGE))
        assert sum(map(len, data._pages.values())) <= 4 << 20


def test_a_short_read_is_not_an_end(tmp_path: Path) -> None:
    """A system that answers with fewer bytes than asked for is asked again."""

    class Slow(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3)) or b""

    (tmp_path / "f").write_bytes(b"0123456789")
    with Slow(str(tmp_path / "f")) as stream:
        assert FileBytes(tmp_path / "f", stream)[1:9] == b"12345678"


@pytest.mark.parametrize("length", [0, 1, PAGE, 20_000])
def test_a_file_that_became_shorter_is_told(tmp_path: Path, length: int) -> None:
    """Whichever byte is asked for, of those that are gone: an error that says what happened."""
    path = tmp_path / "f"
    path.write_bytes(CONTENT)
    with open_file(path) as file:
        os.truncate(path, length)
        for ask in (
            lambda: file.data[-1:],
            lambda: file.data[length : length + 1],
            lambda: file.data[25_000],
            lambda: file.data[100 : 3 * PAGE + 20_000],
            lambda: file.data.find(b"there is no such text"),
        ):
            with pytest.raises(UnavailableError, match="changed while it was read"):
                ask()


def test_readers_survive_a_file_that_becomes_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it happens, a reader ends with its map or with an error."""
    words = np.zeros(100_000, np.uint32)
    content = safetensors({f"w{number}": ("float32", words) for number in range(60)})
    path = tmp_path / "model"
    real = FileBytes.__getitem__
    outcomes = set()
    for countdown in (1, 2, 3, 10):
        path.write_bytes(content)
        left = countdown

        def shortened(data: FileBytes, key: slice) -> bytes:
            nonlocal left
            left -= 1
            if not left:
                os.truncate(path, 100)
            return real(data, key)

        monkeypatch.setattr(FileBytes, "__getitem__", shortened)
        try:
            open_model(path)
            outcomes.add("read")
        except (UnavailableError, FormatError) as error:
            outcomes.add(error.reason)
        monkeypatch.undo()
    assert "UnavailableError" in outcomes
