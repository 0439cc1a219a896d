"""Files as torch.save and TorchScript write them, by hand: PyTorch is no dependency.

What torch.save pickles is pickled here by Python's own pickler, with names in the place of
PyTorch's classes and functions, in the protocol that torch.save uses.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

PROTOCOL = 2
_ALIGNMENT = 64
_LOCAL_BYTES = 30
_STORAGES = {
    **{"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage"},
    **{"int64": "LongStorage", "int8": "CharStorage", "uint8": "ByteStorage"},
    "bool": "BoolStorage",
}


@dataclass(frozen=True)
class Named:
    """A class or function that is known by its name alone."""

    module: str
    name: str

    def __call__(self) -> None:
        """Only what is callable may rebuild something."""
        raise AssertionError("a pickle was executed")


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Named("torch._utils", "_rebuild_parameter")
_CLASSES = {name: Named("torch", storage) for name, storage in _STORAGES.items()}
_MAGIC = 0x1950A86A20F9469CFC6C


class Storage:
    """Numbers that the file keeps outside of the pickle."""

    def __init__(self, key: str, values: NDArray[Any]) -> None:
        self.key = key
        self.values = np.ascontiguousarray(values).reshape(-1)

    @property
    def data(self) -> bytes:
        return self.values.tobytes()


class Tensor:
    """A part of a storage; by default all of it, row by row."""

    def __init__(
        self,
        storage: Storage,
        shape: Sequence[int],
        *,
        first: int = 0,
        strides: Sequence[int] | None = None,
    ) -> None:
        plain = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        self.arguments = (
            storage,
            first,
            tuple(shape),
            tuple(plain if strides is None else strides),
            False,
            OrderedDict(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return REBUILD, self.arguments


class Parameter:
    """A tensor as a parameter of a module is pickled."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return PARAMETER, (self.tensor, True, OrderedDict())


class Instance:
    """An object of a class that nobody here has."""

    def __init__(self, kind: Named, state: object) -> None:
        self.kind = kind
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return self.kind, (), self.state


def tensor_of(key: str, values: NDArray[Any]) -> Tensor:
    return Tensor(Storage(key, values), values.shape)


class Pickler(pickle._Pickler):
    """Writes names as globals and storages by their keys; ``view`` as the legacy format does."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def __init__(self, out: io.BytesIO, *, view: bool = False, protocol: int = PROTOCOL) -> None:
        super().__init__(out, protocol)
        self.storages: dict[str, Storage] = {}
        self._view = (None,) if view else ()

    def persistent_id(self, value: object) -> object:
        if not isinstance(value, Storage):
            return None
        self.storages.setdefault(value.key, value)
        kind = _CLASSES[value.values.dtype.name]
        return ("storage", kind, value.key, "cpu", len(value.values), *self._view)

    def save_named(self, value: Named) -> None:
        self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    dispatch[Named] = save_named


def pickled(value: object, **options: Any) -> tuple[bytes, dict[str, Storage]]:
    """A pickle and the storages that it names."""
    out = io.BytesIO()
    pickler = Pickler(out, **options)
    pickler.dump(value)
    return out.getvalue(), pickler.storages


def torch_zip(value: object, *, folder: str = "archive", byteorder: bytes = b"little") -> bytes:
    """What torch.save writes."""
    content, storages = pickled(value)
    entries = {"data.pkl": content, "byteorder": byteorder}
    entries |= {f"data/{key}": storage.data for key, storage in sorted(storages.items())}
    return archive({**entries, "version": b"3\n"}, folder)


def torch_script(value: object, constants: object = (), *, folder: str = "net") -> bytes:
    """What torch.jit.save writes: storages first, a folder of code, constants."""
    content, storages = pickled(value)
    constant, constant_storages = pickled(constants)
    entries = {f"data/{key}": storage.data for key, storage in storages.items()}
    entries |= {"data.pkl": content, "code/__torch__/net.py": b"class Net(Module):\n  pass\n"}
    entries |= {f"constants/{key}": storage.data for key, storage in constant_storages.items()}
    return archive({**entries, "constants.pkl": constant, "version": b"3\n"}, folder)


def archive(entries: Mapping[str, bytes], folder: str, way: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP file of which every entry begins at a multiple of 64, by padding before it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        for name, data in entries.items():
            info = zipfile.ZipInfo(f"{folder}/{name}")
            bare = out.tell() + _LOCAL_BYTES + len(info.filename) + 4
            padding = -bare % _ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            written.writestr(info, data, way)
    return out.getvalue()


def torch_legacy(value: object, *, little_endian: bool = True) -> bytes:
    """What torch.save wrote before 1.6."""
    machine = {
        "protocol_version": 1001,
        "little_endian": little_endian,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    content, storages = pickled(value, view=True)
    keys = sorted(storages)
    parts = [pickle.dumps(one, PROTOCOL) for one in (_MAGIC, 1001, machine)]
    parts += [content, pickle.dumps(keys, PROTOCOL)]
    for key in keys:
        parts += [len(storages[key].values).to_bytes(8, "little"), storages[key].data]
    return b"".join(parts)
