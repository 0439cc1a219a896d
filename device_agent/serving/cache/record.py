"""A request and its answer as bytes, for the file."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from device_agent.serving.cache.kept import Kept, size_bytes
from device_agent.serving.cache.request_key import RequestKey
from edge_sdk.base import Digest
from edge_sdk.engines.contract import STORAGE, Array

Content = bytes | tuple[str, ...]
Tensor = tuple[str, str, tuple[int, ...], Content]  # name, type, shape, content

_KINDS = {kind.str: kind for kind in STORAGE.values() if kind != np.dtype(object)}
_TEXTS = "O"
_NO_ARTIFACT = Digest.of(b"")


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    wanted: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


_decoder = msgspec.msgpack.Decoder(_Record)


def encode_record(key: RequestKey, kept: Kept) -> bytes | None:
    """None where a text cannot be written (half of a surrogate pair)."""
    outputs = tuple(_tensor(name, array) for name, array in kept.outputs.items())
    try:
        return msgspec.msgpack.encode(_Record(key.wanted, key.parts, outputs))
    except UnicodeEncodeError:
        return None


def decode_record(data: bytes, artifact: Digest | None) -> tuple[RequestKey, Kept] | None:
    """Request (as one to ``artifact``) and answer; None where the bytes are not a record."""
    try:
        record = _decoder.decode(data)
        outputs = {name: _array(kind, shape, data) for name, kind, shape, data in record.outputs}
    except (msgspec.DecodeError, ValueError, KeyError, TypeError):
        return None
    key = RequestKey(artifact or _NO_ARTIFACT, record.wanted, record.inputs)
    return key, Kept(outputs=outputs, size_bytes=sum(map(size_bytes, outputs.values())))


def _tensor(name: str, array: Array) -> Tensor:
    if array.dtype == object:
        return (name, _TEXTS, array.shape, tuple(array.flat))
    return (name, array.dtype.str, array.shape, array.tobytes())


def _array(kind: str, shape: tuple[int, ...], data: Content) -> Array:
    if min(shape, default=0) < 0:
        raise ValueError("a negative size")
    if kind == _TEXTS:
        if isinstance(data, bytes) or len(data) != math.prod(shape):
            raise ValueError("texts and shape do not go together")
        texts = np.empty(len(data), object)
        texts[:] = data
        texts.setflags(write=False)
        return texts.reshape(shape)
    if not isinstance(data, bytes):
        raise TypeError("numbers are bytes")
    return np.frombuffer(data, _KINDS[kind]).reshape(shape)
