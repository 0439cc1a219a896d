"""Reads the profile of a target."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

from edge_sdk.base import FormatError, NotFoundError

_FOLDER = Path(__file__).parent


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a target can run and how a model is made for it.

    ``calibration_batch`` is in samples; ``ir_version_max`` and the opsets are ONNX's.
    """

    name: str
    summary: str
    engine: Literal["onnxruntime"]
    architectures: tuple[str, ...]
    ir_version_max: int
    opset_min: int
    opset_max: int
    activations: Literal["uint8", "int8"]
    weights: Literal["uint8", "int8"]
    reduce_range: bool
    per_channel: bool
    calibration_method: Literal["minmax"]
    calibration_batch: int


def profile_names() -> tuple[str, ...]:
    """The targets that this release knows, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_profile(name: str) -> Profile:
    """Raises: NotFoundError where there is no such target, FormatError for a damaged file."""
    if name not in profile_names():
        raise NotFoundError(f"no target {name!r}; there are: {', '.join(profile_names())}")
    return read_profile(_FOLDER / f"{name}.toml")


def read_profile(path: Path) -> Profile:
    """Raises: FormatError that names the file and the field."""
    try:
        profile = msgspec.convert(tomllib.loads(path.read_text("utf-8")), type=Profile)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise FormatError(f"profile {path.name}: {error}") from None
    if profile.name != path.stem:
        raise FormatError(f"profile {path.name} calls itself {profile.name!r}")
    return profile
