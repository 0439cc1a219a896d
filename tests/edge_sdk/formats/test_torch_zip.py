"""Files of torch.save and TorchScript: where their tensors lie."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.base import FormatError
from edge_sdk.formats import pickle_reader
from tests.support.tensor_maps import contents, opened
from tests.support.torch_files import (
    Instance,
    Named,
    Storage,
    Tensor,
    archive,
    pickled,
    tensor_of,
    torch_script,
    torch_zip,
)

W = np.arange(6, dtype=np.float32).reshape(2, 3)
V = np.arange(5, dtype=np.int64)
H = np.linspace(0, 1, 7).astype(np.float16)


def test_a_state_dict_is_found_in_place(tmp_path: Path) -> None:
    """Names, types, shapes and bytes; every storage at a multiple of 64."""
    value = {"a.w": tensor_of("0", W), "a.v": tensor_of("1", V), "h": tensor_of("10", H)}
    found = opened(tmp_path, torch_zip(value))
    assert found.format == "torch_zip"
    assert contents(found) == {"a.w": W.tobytes(), "a.v": V.tobytes(), "h": H.tobytes()}
    assert {one.name: (one.dtype, one.shape) for one in found.tensors} == {
        "a.w": ("float32", (2, 3)),
        "a.v": ("int64", (5,)),
        "h": ("float16", (7,)),
    }
    assert all(one.offset % 64 == 0 for one in found.tensors)


def test_tensors_that_share_a_storage_are_there_once(tmp_path: Path) -> None:
    """Tied weights; parts of one storage each."""
    storage = Storage("0", np.arange(10, dtype=np.float32))
    value = {
        "one": Tensor(storage, (6,)),
        "tied": Tensor(storage, (2, 3)),
        "rest": Tensor(storage, (4,), first=6),
    }
    found = opened(tmp_path, torch_zip(value))
    assert [(one.name, one.shape) for one in found.tensors] == [("one", (6,)), ("rest", (4,))]


def test_a_script_module_is_found_with_its_constants(tmp_path: Path) -> None:
    """TorchScript: attributes of objects, and a folder of constants."""
    net = Instance(Named("__torch__.net", "Net"), {"training": False, "fc": tensor_of("0", W)})
    found = opened(tmp_path, torch_script(net, (tensor_of("0", V),)))
    assert contents(found) == {"fc": W.tobytes(), "constants.0": V.tobytes()}


def test_big_endian_numbers_have_no_ranges(tmp_path: Path) -> None:
    """A range is little-endian."""
    found = opened(tmp_path, torch_zip({"w": tensor_of("0", W)}, byteorder=b"big"))
    assert (found.format, found.tensors) == ("torch_zip", ())


def test_packed_storages_have_no_ranges(tmp_path: Path) -> None:
    """Somebody packed the archive again."""
    content, storages = pickled({"w": tensor_of("0", np.zeros(100, np.float32))})
    entries = {"data.pkl": content, "data/0": storages["0"].data}
    assert len(opened(tmp_path, archive(entries, "m")).tensors) == 1
    assert opened(tmp_path, archive(entries, "m", zipfile.ZIP_DEFLATED)).tensors == ()


def test_other_archives_are_opaque(tmp_path: Path) -> None:
    """A ZIP file without the pickle in one folder is none of PyTorch."""
    for entries, folder in (({"a.txt": b"a"}, "f"), ({"f/data.pkl": b"N."}, "g"), ({}, "f")):
        assert opened(tmp_path, archive(entries, folder)).format == "opaque"


def test_a_tensor_without_its_storage_is_refused(tmp_path: Path) -> None:
    """The error names the tensor."""
    content, _ = pickled({"w": tensor_of("0", W)})
    with pytest.raises(FormatError) as error:
        opened(tmp_path, archive({"data.pkl": content}, "m"))
    assert error.value.facts["tensor"] == "w"


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    """At every byte: what began as torch.save begins is no other file."""
    content = torch_zip({"w": tensor_of("0", W)})
    for length in range(len(content)):
        if length < 30 + len("archive/data.pkl"):
            assert opened(tmp_path, content[:length]).format == "opaque"
            continue
        with pytest.raises(FormatError) as error:
            opened(tmp_path, content[:length])
        assert 0 <= error.value.facts["offset"] <= length


def test_the_longest_of_overlapping_tensors_stays(tmp_path: Path) -> None:
    """Many views of one storage do not become many ranges."""
    storage = Storage("0", np.arange(1000, dtype=np.float32))
    views: dict[str, Any] = {f"v{first}": Tensor(storage, (5,), first=first) for first in range(99)}
    found = opened(tmp_path, torch_zip({**views, "all": Tensor(storage, (1000,))}))
    assert [one.name for one in found.tensors] == ["all"]


def test_a_pickle_too_large_to_read_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a large vocabulary beside its weights is no error."""
    content = torch_zip({"w": tensor_of("0", W), "words": list(range(500))})
    assert len(opened(tmp_path, content).tensors) == 1
    monkeypatch.setattr(pickle_reader, "OPCODES_MAX", 200)
    found = opened(tmp_path, content)
    assert (found.format, found.tensors) == ("torch_zip", ())
