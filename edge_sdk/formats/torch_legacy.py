"""PyTorch before 1.6, and whoever still asks for it: pickles, then storages one after the other.

Five pickles: a magic number, the protocol, facts about the machine, the object, and the keys of
the storages. These follow in the order of the keys (of the text of addresses: it says nothing),
each a count of elements (int64) and the elements. A pickle too large to read shows no ranges.
Source: torch/serialization.py (``_legacy_save``)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.pickle_reader import Dictionary, TooLargeError, read_pickle
from edge_sdk.formats.tensor_map import TensorRange, packed_bytes
from edge_sdk.formats.torch_tensors import Storage, find_tensors, tensor_range

# The first pickle, in every protocol that can have been used: the number 0x1950a86a20f9469cfc6c.
_BEGIN = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_PROTOCOL = 1001
_COUNT_BYTES = 8


def read(file: ModelFile) -> Contents | None:
    """The tensors of the object; None where the file is something else. Raises: FormatError."""
    # Behind the opcode that says the pickle's protocol.
    if file.data[:1] != b"\x80" or file.data[2 : 2 + len(_BEGIN)] != _BEGIN:
        return None
    try:
        return Contents(tensors=_tensors(file))
    except TooLargeError:
        return Contents(tensors=[])


def _tensors(file: ModelFile) -> list[TensorRange]:
    protocol, at = read_pickle(file, 2 + len(_BEGIN))
    if protocol != _PROTOCOL:
        raise file.damaged(2 + len(_BEGIN), f"no protocol of PyTorch but {_PROTOCOL} is known")
    machine, at = read_pickle(file, at)
    is_big = isinstance(machine, Dictionary) and ("little_endian", False) in machine.items
    start = at
    root, at = read_pickle(file, start)
    found = find_tensors(file, start, root)
    keys, at = read_pickle(file, at)
    if not isinstance(keys, list):
        raise file.damaged(start, "the keys of the storages are no list")
    if is_big:
        return []
    places = _places(file, keys, found.storages, at)
    ranges = (
        tensor_range(file, one, *places[one.storage.key])
        for one in found.tensors
        if one.storage.key in places
    )
    return [one for one in ranges if one is not None]


def _places(
    file: ModelFile, keys: Sequence[object], storages: Mapping[str, Storage], at: int
) -> dict[str, tuple[int, int]]:
    """Offset and length of each storage by key."""
    places = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or not storage.dtype:
            # Nothing is known of it, not even its width: what follows cannot be found.
            break
        count = int.from_bytes(file.data[at : at + _COUNT_BYTES], "little")
        start = at + _COUNT_BYTES
        length = packed_bytes(storage.dtype, (count,))
        if start + length > file.size_bytes:
            end = min(at, file.size_bytes)
            raise file.damaged(end, "truncated: a storage ends beyond the file")
        places[storage.key] = (start, length)
        at = start + length
    return places


FORMAT = Format(name="torch_legacy", read=read)
