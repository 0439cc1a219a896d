"""What is fed with hostile model files and documents; as in ``delta_targets.py``."""

from __future__ import annotations

import io
import tempfile
import zipfile
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from edge_sdk.base import FormatError
from edge_sdk.formats import TensorMap, open_model, read_npz, read_safetensors
from edge_sdk.manifest import (
    decode_assignment,
    decode_manifest,
    encode_assignment,
    encode_manifest,
)

# A file of external data beside each model.
BESIDE = "weights.bin"
_BESIDE_BYTES = 4096
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def model(data: bytes) -> None:
    """Any file through the readers in their order: ranges lie in files and do not overlap."""
    _check_map(open_model(written("model", data)))


def safetensors(data: bytes) -> None:
    """As a model, and read whole: the tensors have the lengths of their ranges."""
    path = written("model", data)
    with suppress(FormatError):
        _check_map(open_model(path))
    arrays = read_safetensors(path)
    assert sum(array.nbytes for array in arrays.values()) <= len(data)


def npz(data: bytes) -> None:
    """As arrays."""
    read_npz(written("arrays.npz", data))


def npz_member(data: bytes) -> None:
    """As the one member of an archive that is right, behind a byte: how it is compressed."""
    way = _COMPRESSIONS[(data[0] if data else 0) % len(_COMPRESSIONS)]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.npy"), data[1:], way)
    npz(out.getvalue())


def manifest(data: bytes) -> None:
    """As a manifest: one that is taken has this one spelling."""
    assert encode_manifest(decode_manifest(data)) == data


def assignment(data: bytes) -> None:
    """As an assignment: likewise."""
    assert encode_assignment(decode_assignment(data)) == data


def _check_map(found: TensorMap) -> None:
    sizes = {"model": found.size_bytes, BESIDE: _BESIDE_BYTES}
    assert set(found.external_files) <= {BESIDE}, "an external file that is not there"
    names = [tensor.name for tensor in found.tensors]
    assert len(names) == len(set(names)), "two tensors of one name"
    for tensor in found.tensors:
        assert 0 <= tensor.offset < tensor.end <= sizes[tensor.file], "a tensor outside"
    for one, after in pairwise(found.tensors):
        assert one.file < after.file or (one.file == after.file and one.end <= after.offset)


@lru_cache(maxsize=1)
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Lives as long as the process, in memory where the system has such a folder."""
    shared = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
    (Path(folder.name) / BESIDE).write_bytes(bytes(range(256)) * (_BESIDE_BYTES // 256))
    return folder


def written(name: str, data: bytes) -> Path:
    path = Path(_folder().name) / name
    path.write_bytes(data)
    return path
