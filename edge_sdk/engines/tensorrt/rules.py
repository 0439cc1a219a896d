"""Everything about plans that can be decided without a library, a file or a GPU. Pure.

Which flags a plan is built with, which shapes it is built for, by what it is found again,
and whether a new artifact takes one that is there, a refitted copy of one, or a new one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from edge_sdk.base import RefusedError, UsageError

Shape = tuple[int, ...]

# TensorRT's names of the types that it can take and give, and ours. FP8 and the 4-bit types
# live inside of networks only; 64-bit floats and strings it does not have.
DTYPES: Mapping[str, str] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
FLOATS = frozenset({"float32", "float16", "bfloat16"})
# What an unquantised network may hold beside its weights: shapes, axes, indices, masks.
PLAIN = FLOATS | {"int32", "int64", "bool"}

VERSION_MIN = (10, 3)
VERSION_END = (12,)
LEVEL_MAX = 5  # of the builder: the more, the longer it looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How plans are built. ``sizes_max`` bounds dynamic dimensions after the first.

    ``tf32``: float32 products in ten bits of mantissa; off, since a golden sample made
    elsewhere would differ. ``workspace_bytes`` 0: as much as the library wants.
    ``refittable``: weights can be exchanged, at the price of optimisations that need them.
    """

    batch_max: int = 8
    size_max: int = 1024
    refittable: bool = True
    tf32: bool = False
    level: int = 3
    workspace_bytes: int = 0


def with_options(options: Options, wanted: Mapping[str, int | bool]) -> Options:
    """``options`` with what was set by name. Raises: RefusedError (no such option or value)."""
    for name, value in wanted.items():
        default = getattr(options, name, None)
        if default is None:
            known = ", ".join(field.name for field in fields(Options))
            raise RefusedError(f"engine tensorrt has no option {name!r}, only {known}")
        if type(value) is not type(default) or value < 0 or (name == "level" and value > LEVEL_MAX):
            raise RefusedError(f"option {name} of engine tensorrt cannot be {value!r}")
    changed: dict[str, Any] = dict(wanted)
    return replace(options, **changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The device as far as plans depend on it. All modules of Jetson Orin call themselves
    "Orin": their processors and memory tell them apart. Not by UUID: an equal card will do."""

    gpu: str
    compute: tuple[int, int]
    processors: int
    memory_bytes: int
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Bounds of one input's shape; a plan is fastest at ``best``."""

    name: str
    least: Shape
    best: Shape
    most: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanKey:
    """All that decides whether a plan fits; plans of different keys are never exchanged."""

    artifact: str
    library: str
    place: Place
    flags: tuple[str, ...]
    level: int
    workspace_bytes: int
    profiles: tuple[Profile, ...]

    @property
    def name(self) -> str:
        """Of the files of such a plan: SHA-256 of the key, in hexadecimal."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def maker(self) -> str:
        """A name for what was measured while building, which holds for all models here."""
        text = json.dumps([self.library, asdict(self.place)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differs_in_weights_only(self, other: PlanKey) -> bool:
        """Whether the two are built alike; what the artifacts hold has to be compared too."""
        return asdict(self) | {"artifact": ""} == asdict(other) | {"artifact": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A line of our index: a plan's key, the structure it was built from, its bytes' hash."""

    key: PlanKey
    structure: str
    sha256: str
    size_bytes: int
    made_by: Literal["build", "refit"]
    changed_ns: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next for a session. ``kept`` is the plan to load, or to refit a copy of."""

    do: Literal["load", "refit", "build"]
    kept: Kept | None = None


def choose(
    key: PlanKey, structure: str, kept: Sequence[Kept], *, can_refit: bool, has_golden: bool
) -> Step:
    """The cheapest step that can be trusted.

    A plan of this very key is loaded. A plan built alike from the same structure is refitted,
    but only where a golden sample can tell whether the copy took every weight: TensorRT may
    have folded some into others, and says of a refit only that it accepted the names.
    """
    for one in kept:
        if one.key == key:
            return Step(do="load", kept=one)
    if can_refit and has_golden and structure:
        alike = [
            one
            for one in kept
            if one.structure == structure and one.key.differs_in_weights_only(key)
        ]
        if alike:
            return Step(do="refit", kept=max(alike, key=lambda one: (one.changed_ns, one.sha256)))
    return Step(do="build")


def to_drop(
    kept: Sequence[Kept],
    key: PlanKey,
    size_bytes: int,
    *,
    room_bytes: int,
    held: Collection[str],
) -> tuple[Kept, ...] | None:
    """Which plans go so that one of ``size_bytes`` fits; None: it does not fit at all.

    In any case those of artifacts that the device no longer has, and those made with another
    library or driver or for another GPU; then, until there is room, the ones unused longest.
    """
    dropped = [
        one
        for one in kept
        if one.key.artifact not in held
        or (one.key.library, one.key.place) != (key.library, key.place)
    ]
    room_bytes += sum(one.size_bytes for one in dropped)
    for one in sorted(kept, key=lambda one: (one.changed_ns, one.sha256)):
        if size_bytes <= room_bytes:
            break
        if one not in dropped:
            dropped.append(one)
            room_bytes += one.size_bytes
    return tuple(dropped) if size_bytes <= room_bytes else None


def check_version(version: str) -> tuple[int, ...]:
    """The numbers of a version's text. Raises: RefusedError where we do not know its names."""
    numbers = tuple(int(part) for part in version.split(".")[:4] if part.isdigit())
    if not VERSION_MIN <= numbers < VERSION_END:
        raise RefusedError(
            f"TensorRT {version} is installed; this engine knows 10.3 to 11", engine="tensorrt"
        )
    return numbers


def builder_flags(options: Options) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of BuilderFlag to set, and to clear. The same in 10.3 to 11.

    Never the flags of precision (FP16, INT8, ...), which 11 has no more: the network says of
    each tensor what it is, and INT8 means explicit Q and DQ nodes.
    """
    wanted = ("REFIT",) if options.refittable else ()
    return (*wanted, "TF32") if options.tf32 else wanted, () if options.tf32 else ("TF32",)


def profiles_of(
    inputs: Mapping[str, Shape], samples: Mapping[str, Shape], options: Options
) -> tuple[Profile, ...]:
    """Bounds for every input that has a dynamic dimension, from its signature and a sample.

    The first dimension is the batch, from 1 to ``batch_max``; others go from 1 to
    ``size_max``. What the golden sample has is always within, and what the plan is tuned for.
    """
    return tuple(
        _profile(name, shape, samples.get(name), options)
        for name, shape in sorted(inputs.items())
        if -1 in shape
    )


def _profile(name: str, shape: Shape, sample: Shape | None, options: Options) -> Profile:
    fits = sample is not None and len(sample) == len(shape)
    seen = sample if sample is not None and fits else tuple(max(size, 1) for size in shape)
    least, best, most = [], [], []
    for place, (size, one) in enumerate(zip(shape, seen, strict=True)):
        bound = options.batch_max if place == 0 else options.size_max
        least.append(min(1, one) if size < 0 else size)
        best.append(one if size < 0 else size)
        most.append(max(bound, one) if size < 0 else size)
    return Profile(name=name, least=tuple(least), best=tuple(best), most=tuple(most))


def check_profile(profiles: Mapping[str, Profile], name: str, shape: Shape) -> None:
    """Raises: UsageError with the bounds, where the plan was not built for a shape."""
    profile = profiles.get(name)
    if profile is None:
        return
    bounds = zip(profile.least, shape, profile.most, strict=True)
    if not all(low <= size <= high for low, size, high in bounds):
        raise UsageError(
            f"input {name!r} may have shapes from {list(profile.least)} to {list(profile.most)} "
            f"in this plan, got {list(shape)}"
        )


def dtype_of(name: str, tensor: str) -> str:
    """Our name of a type of TensorRT's. Raises: RefusedError."""
    if name not in DTYPES:
        raise RefusedError(
            f"tensor {tensor!r} is {name}; TensorRT can be given and asked {', '.join(DTYPES)}",
            tensor=tensor,
        )
    return DTYPES[name]
