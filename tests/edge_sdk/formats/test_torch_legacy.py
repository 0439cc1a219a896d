"""Files of torch.save before 1.6: where their tensors lie."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import FormatError
from edge_sdk.formats import pickle_reader
from tests.support.tensor_maps import contents, opened
from tests.support.torch_files import Storage, Tensor, tensor_of, torch_legacy

W = np.arange(6, dtype=np.float32).reshape(2, 3)
V = np.arange(5, dtype=np.int64)
H = np.linspace(0, 1, 7).astype(np.float16)


@pytest.mark.parametrize("keys", [("94", "1007", "93"), ("2", "10", "1")])
def test_names_lead_to_storages_in_any_order(tmp_path: Path, keys: tuple[str, ...]) -> None:
    """Storages lie in the order of the text of their keys; the pickle says whose they are."""
    value = {
        name: tensor_of(key, one)
        for key, (name, one) in zip(keys, {"w": W, "v": V, "h": H}.items(), strict=True)
    }
    found = opened(tmp_path, torch_legacy(value))
    assert found.format == "torch_legacy"
    assert contents(found) == {"w": W.tobytes(), "v": V.tobytes(), "h": H.tobytes()}
    assert {one.name: (one.dtype, one.shape) for one in found.tensors} == {
        "w": ("float32", (2, 3)),
        "v": ("int64", (5,)),
        "h": ("float16", (7,)),
    }


def test_storages_that_no_tensor_covers_are_passed_over(tmp_path: Path) -> None:
    """A storage that stands in the object by itself has a width all the same."""
    value = {"raw": Storage("1", V), "w": tensor_of("2", W)}
    assert contents(opened(tmp_path, torch_legacy(value))) == {"w": W.tobytes()}


def test_a_storage_of_an_unknown_type_hides_what_follows(tmp_path: Path) -> None:
    """Its width is not known; what lies before it is found."""
    content = torch_legacy({"a": tensor_of("1", W), "b": tensor_of("2", V), "c": tensor_of("3", H)})
    content = content.replace(b"LongStorage", b"LaterStorag")
    assert contents(opened(tmp_path, content)) == {"a": W.tobytes()}


def test_big_endian_numbers_have_no_ranges(tmp_path: Path) -> None:
    """A range is little-endian."""
    found = opened(tmp_path, torch_legacy({"w": tensor_of("0", W)}, little_endian=False))
    assert (found.format, found.tensors) == ("torch_legacy", ())


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    """There was only ever one."""
    content = torch_legacy({"w": tensor_of("0", W)})
    with pytest.raises(FormatError, match="1001"):
        opened(tmp_path, content.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2)))


def test_keys_that_are_no_list_are_refused(tmp_path: Path) -> None:
    """They say the order of the storages."""
    content = torch_legacy({})
    with pytest.raises(FormatError, match="keys"):
        opened(tmp_path, content.replace(pickle.dumps([], 2), pickle.dumps({}, 2)))


def test_a_huge_count_is_refused(tmp_path: Path) -> None:
    """The count of a storage is compared with the file before anything is done with it."""
    content = torch_legacy({"w": tensor_of("0", W)})
    count, data = (6).to_bytes(8, "little"), W.tobytes()
    for bad in (b"\xff" * 8, (7).to_bytes(8, "little")):
        with pytest.raises(FormatError) as error:
            opened(tmp_path, content.replace(count + data, bad + data))
        assert 0 <= error.value.facts["offset"] <= len(content)


def test_a_tensor_outside_of_its_storage_is_refused(tmp_path: Path) -> None:
    """The error names the tensor."""
    with pytest.raises(FormatError) as error:
        opened(tmp_path, torch_legacy({"w": Tensor(Storage("0", W), (2, 3), first=1)}))
    assert error.value.facts["tensor"] == "w"


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    """At every byte from the magic number on."""
    content = torch_legacy({"w": tensor_of("0", W), "v": tensor_of("1", V)})
    for length in range(len(content)):
        if length < 15:
            assert opened(tmp_path, content[:length]).format == "opaque"
            continue
        with pytest.raises(FormatError) as error:
            opened(tmp_path, content[:length])
        assert 0 <= error.value.facts["offset"] <= length


def test_a_pickle_too_large_to_read_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with a large vocabulary beside its weights is no error."""
    content = torch_legacy({"w": tensor_of("0", W), "words": list(range(500))})
    assert len(opened(tmp_path, content).tensors) == 1
    monkeypatch.setattr(pickle_reader, "OPCODES_MAX", 200)
    found = opened(tmp_path, content)
    assert (found.format, found.tensors) == ("torch_legacy", ())
