"""Canonical JSON of manifests and assignments: the one reader and the one writer.

UTF-8, keys sorted, no insignificant white space, integers and decimal strings, no floats,
every field present. A reader decodes, checks, encodes again and compares: any other
spelling of the same value (white space, key order, duplicate or unknown keys, escapes) is
refused, so that one value has one digest.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar, cast

import msgspec

from edge_sdk.base.digest import Digest, chunk_count, file_digest
from edge_sdk.base.errors import FormatError
from edge_sdk.base.names import ModelName, Version, check_path, check_paths, check_segment
from edge_sdk.manifest.model import SCHEMA, Assignment, FileEntry, Manifest, TensorSpec

MANIFEST_BYTES_MAX = 64 << 20
ASSIGNMENT_BYTES_MAX = 4 << 20
_NUMBER_MAX = 2**53 - 1
_DECIMAL = re.compile(r"\d{1,20}(\.\d{1,40})?(e-?\d{1,3})?\Z", re.ASCII)
_LABEL_VALUE_MAX = 1024
_NO_BYTES = Digest.of(b"")

T = TypeVar("T")


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes that a manifest is. Raises: FormatError where a value breaks a rule."""
    _check_manifest(manifest)
    return _encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Reads a manifest. Raises: FormatError that names the field."""
    manifest = _decode(data, Manifest, "manifest", MANIFEST_BYTES_MAX)
    _check_manifest(manifest)
    return manifest


def encode_assignment(assignment: Assignment) -> bytes:
    """The bytes that an assignment is. Raises: FormatError."""
    _check_assignment(assignment)
    return _encode(assignment)


def decode_assignment(data: bytes) -> Assignment:
    """Reads an assignment. Raises: FormatError."""
    assignment = _decode(data, Assignment, "assignment", ASSIGNMENT_BYTES_MAX)
    _check_assignment(assignment)
    return assignment


def _to_json(value: object) -> object:
    if isinstance(value, (Digest, ModelName, Version)):
        return str(value)
    raise NotImplementedError(type(value))


def _from_json(wanted: type, value: object) -> object:
    if wanted in (Digest, ModelName, Version):
        if not isinstance(value, str):
            raise FormatError("expected a string")
        return cast(Any, wanted).parse(value)
    raise NotImplementedError(wanted)


def _encode(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_to_json, order="sorted")
    except (UnicodeEncodeError, OverflowError) as error:
        raise FormatError(f"a value cannot be written as JSON: {error}") from None


def _decode(data: bytes, wanted: type[T], what: str, limit: int) -> T:
    if len(data) > limit:
        raise FormatError(f"the {what} has {len(data)} bytes; at most {limit} are allowed")
    try:
        value = msgspec.json.decode(data, type=wanted, dec_hook=_from_json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"the {what} cannot be read: {error}") from None
    if _encode(value) != data:
        raise FormatError(
            f"the {what} is not canonical JSON: another spelling of the same value, or unknown keys"
        )
    return value


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise FormatError(problem)


def _check_number(value: int, what: str) -> None:
    _check(0 <= value <= _NUMBER_MAX, f"{what} {value} is out of range")


def _check_manifest(manifest: Manifest) -> None:
    _check(
        manifest.schema == SCHEMA,
        f"manifest schema {manifest.schema} is unknown here; this release knows {SCHEMA}",
    )
    check_segment(manifest.variant, "variant")
    check_segment(manifest.format, "format")
    _check(bool(manifest.files), "a manifest needs at least one file")
    paths = [entry.path for entry in manifest.files]
    check_paths(paths)
    _check(paths == sorted(paths), "the files of a manifest are sorted by path")
    stated: dict[Digest, FileEntry] = {}
    for entry in manifest.files:
        _check_file(entry)
        same = stated.setdefault(entry.digest, entry)
        _check(
            (same.size_bytes, same.sha256) == (entry.size_bytes, entry.sha256),
            f"files {same.path!r} and {entry.path!r} have one digest and differ in size or SHA-256",
        )
    _check(manifest.file(manifest.entry) is not None, f"entry {manifest.entry!r} is not a file")
    _check_number(manifest.requires.memory_bytes, "requires.memory_bytes")
    for tensor in (*manifest.signature.inputs, *manifest.signature.outputs):
        _check_tensor(tensor)
    if manifest.golden is not None:
        check_path(manifest.golden.path)
        _check(
            manifest.file(manifest.golden.path) is not None,
            f"golden sample {manifest.golden.path!r} is not among the files",
        )
        for name, tolerance in manifest.golden.tolerances.items():
            for text in (tolerance.atol, tolerance.rtol):
                _check(
                    bool(_DECIMAL.match(text)), f"tolerance {text!r} of {name!r} is not a decimal"
                )
    for key, label in manifest.labels.items():
        check_segment(key, "label")
        _check(len(label) <= _LABEL_VALUE_MAX, f"label {key!r} is longer than {_LABEL_VALUE_MAX}")


def _check_file(entry: FileEntry) -> None:
    _check_number(entry.size_bytes, f"size of {entry.path!r}")
    _check(
        len(entry.chunks) == chunk_count(entry.size_bytes),
        f"file {entry.path!r} of {entry.size_bytes} bytes cannot have {len(entry.chunks)} chunks",
    )
    _check(
        file_digest(entry.chunks) == entry.digest,
        f"the digest of file {entry.path!r} is not that of its chunks",
    )
    if len(entry.chunks) < 2:
        whole = entry.chunks[0] if entry.chunks else _NO_BYTES
        _check(
            entry.sha256 == whole, f"the SHA-256 of file {entry.path!r} is not that of its chunk"
        )


def _check_tensor(tensor: TensorSpec) -> None:
    _check(0 < len(tensor.name) <= 1024, "a tensor of the signature has no usable name")
    _check(len(tensor.shape) <= 64, f"tensor {tensor.name!r} has too many dimensions")
    _check(
        all(-1 <= size <= _NUMBER_MAX for size in tensor.shape),
        f"tensor {tensor.name!r} has an impossible shape",
    )


def _check_assignment(assignment: Assignment) -> None:
    _check(assignment.schema == SCHEMA, f"assignment schema {assignment.schema} is unknown here")
    check_segment(assignment.device, "device")
    _check_number(assignment.counter, "counter")
    if assignment.expires_s is not None:
        _check_number(assignment.expires_s, "expires_s")
    names = [str(assigned.model) for assigned in assignment.models]
    _check(
        names == sorted(set(names)), "the models of an assignment are sorted, each named only once"
    )
    for assigned in assignment.models:
        check_segment(assigned.variant, "variant")
        _check_number(assigned.attempt, "attempt")
        top = assigned.downgrade_from
        _check(top is None or assigned.version < top, f"{assigned.model} goes down from {top}")
    grouped = [str(model) for group in assignment.groups for model in group]
    _check(
        len(grouped) == len(set(grouped)) and set(grouped) <= set(names),
        "a model of a group is assigned, and in no other group",
    )
    _check(
        all(len(group) > 1 and list(group) == sorted(group) for group in assignment.groups)
        and list(assignment.groups) == sorted(assignment.groups),
        "groups are of two models at least, and sorted",
    )
