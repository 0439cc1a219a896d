"""The values of a manifest and of an assignment. Pure: no file, clock or socket here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge_sdk.base.digest import Digest
from edge_sdk.base.names import ModelName, Version

SCHEMA = 1
GOLDEN_PATH = "golden.safetensors"  # where publishing puts the sample that it makes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of an artifact. ``digest`` is the SHA-256 of the concatenated ``chunks``."""

    path: str
    size_bytes: int
    chunks: tuple[Digest, ...]
    digest: Digest
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor of the signature.

    dtype: NumPy's name (``float32``, ``int64``, ...), ``bfloat16`` or ``string``. A dimension
    of -1 is dynamic.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a device must have. An empty tuple, ``None`` or 0 asks for nothing."""

    engine: str | None = None
    architectures: tuple[str, ...] = ()
    memory_bytes: int = 0
    ir_version: int | None = None
    opsets: Mapping[str, int] = field(default_factory=dict)
    accelerators: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Decimal strings; an output passes where ``|got - want| <= atol + rtol * |want|``."""

    atol: str
    rtol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The golden sample: a safetensors file with ``input.<name>`` and ``output.<name>``."""

    path: str
    origin: Literal["given", "seeded"]
    tolerances: Mapping[str, Tolerance]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact is. Its identity is the SHA-256 of its canonical JSON."""

    schema: int = SCHEMA
    model: ModelName
    version: Version
    variant: str
    parent: Version | None
    files: tuple[FileEntry, ...]
    format: str
    entry: str
    requires: Requirements
    signature: Signature
    golden: Golden | None
    serve: Literal["inference", "none"]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)

    def file(self, path: str) -> FileEntry | None:
        return next((entry for entry in self.files if entry.path == path), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignedModel:
    """One model that a device should run.

    ``attempt`` counts how often an operator ordered this very artifact for this device: a
    device that remembers a failed trial tries again only on a higher number.

    ``downgrade_from``: this version is below what the device was assigned before, on purpose;
    the highest version that it goes down from. Without it a device goes to no lower version.
    """

    model: ModelName
    version: Version
    variant: str
    artifact: Digest
    floor: Version | None
    rollout: str
    attempt: int
    downgrade_from: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One device's whole desired state. A model that is absent is unloaded.

    ``counter`` only ever grows for a device; ``expires_s`` is in seconds since 1970 (UTC).
    ``groups``: models that switch together or not at all; each sorted, of at least two, and no
    model in two of them.
    """

    schema: int = SCHEMA
    device: str
    counter: int
    models: tuple[AssignedModel, ...]
    expires_s: int | None
    groups: tuple[tuple[ModelName, ...], ...] = ()
