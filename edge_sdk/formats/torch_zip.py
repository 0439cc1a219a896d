"""PyTorch since 1.6, and TorchScript: a ZIP file of pickles, and storages as they are.

Everything lies in one folder: ``data.pkl`` names storages that are ``data/KEY``, and in
TorchScript ``constants.pkl`` those that are ``constants/KEY``. A ZIP file with such a pickle is
one. What is packed or big-endian has no ranges, nor has a
file with a pickle that is too large to read.
Source: torch/serialization.py (``_save``), torch/csrc/jit/serialization/export_module.cpp
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_sdk.base import FormatError
from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.pickle_reader import TooLargeError, read_pickle
from edge_sdk.formats.tensor_map import TensorRange
from edge_sdk.formats.torch_tensors import find_tensors, tensor_range
from edge_sdk.formats.zip_archive import BEGIN, Entry, first_name, read_entries

_PICKLE = "/data.pkl"
_ORDER = "/byteorder"
_STEMS = ("data", "constants")


def read(file: ModelFile) -> Contents | None:
    """The tensors that the pickles name; None where the file is something else.

    Raises: FormatError.
    """
    if file.data[: len(BEGIN)] != BEGIN:
        return None
    try:
        entries = read_entries(file)
    except FormatError:
        if first_name(file).endswith(_PICKLE):  # as torch.save begins
            raise
        return None
    folder = _folder(entries)
    if folder is None:
        return None
    order = entries.get(folder + _ORDER)
    if order and order.is_stored and file.data[order.offset : order.offset + 3] == b"big":
        return Contents(tensors=[])
    try:
        tensors = [one for stem in _STEMS for one in _tensors(file, entries, folder, stem)]
    except TooLargeError:
        tensors = []
    return Contents(tensors=tensors)


def _folder(entries: Mapping[str, Entry]) -> str | None:
    for name in entries:
        folder, slash, rest = name.partition("/")
        if slash + rest == _PICKLE:
            return folder
    return None


def _tensors(
    file: ModelFile, entries: Mapping[str, Entry], folder: str, stem: str
) -> Iterator[TensorRange]:
    pickled = entries.get(f"{folder}/{stem}.pkl")
    if pickled is None or not pickled.is_stored:
        return
    end = pickled.offset + pickled.length
    root, _ = read_pickle(file, pickled.offset, end)
    prefix = "" if stem == _STEMS[0] else f"{stem}."
    for tensor in find_tensors(file, pickled.offset, root, prefix).tensors:
        held = entries.get(f"{folder}/{stem}/{tensor.storage.key}")
        if held is None:
            what = f"tensor {tensor.name[:200]!r} is in a storage that is not there"
            raise file.damaged(pickled.offset, what, tensor=tensor.name)
        ranged = tensor_range(file, tensor, held.offset, held.length) if held.is_stored else None
        if ranged is not None:
            yield ranged


FORMAT = Format(name="torch_zip", read=read)
