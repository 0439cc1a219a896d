"""What was found out, in ``tuned.json`` of the state folder: settings by model, and for what.

A tuning holds for one engine of one version on one processor; for anything else it is a guess
and is not used. A file that cannot be read is as none: it must not keep an agent from starting.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from device_agent.store.durable import write_whole
from device_agent.store.filesystem import FileSystem
from device_agent.tuning.choose import Setting
from edge_sdk.base.processor import processor

FILE = "tuned.json"
_FORMAT = 1

_Count = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """What a tuning was measured with. ``package`` and ``version``: of the engine's library."""

    processor: str
    cores: int
    engine: str
    package: str
    version: str
    providers: tuple[str, ...] = ()
    engine_options: dict[str, int | bool] = {}


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """Settings found best for ``goal``; ``artifact`` is what they were measured on, ``figures``
    what was measured, for people."""

    threads: _Count
    loading: Literal["auto", "mapped", "prepacked"]
    batch_max: _Count
    basis: Basis
    goal: str
    artifact: str
    version: str
    at: str
    figures: dict[str, Any] = {}

    @property
    def setting(self) -> Setting:
        return Setting(threads=self.threads, loading=self.loading, batch_max=self.batch_max)


class _File(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    models: dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """By model. ``problem``: why the file, or a model in it, was passed over."""

    models: Mapping[str, Tuned] = field(default_factory=dict)
    problem: str = ""


def read_kept(root: Path) -> Kept:
    """Never raises for what stands in the file."""
    path = root / FILE
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return Kept(problem=f"{path} cannot be read: {error}")
    if document.format != _FORMAT:
        return Kept(problem=f"{path} has format {document.format}, this release reads {_FORMAT}")
    models, wrong = {}, []
    for model, raw in document.models.items():
        tuned = _tuned(raw)
        if isinstance(tuned, Tuned):
            models[model] = tuned
        else:
            wrong.append(f"{model} ({tuned})")
    problem = f"{path} cannot be read for {', '.join(wrong)}" if wrong else ""
    return Kept(models=models, problem=problem)


def keep(root: Path, model: str, tuned: Tuned) -> None:
    """From the next start of the agent on; durable when this returns."""
    _write(root, {**read_kept(root).models, model: tuned})


def forget(root: Path, model: str) -> bool:
    """Whether there was anything to forget."""
    models = dict(read_kept(root).models)
    if models.pop(model, None) is None:
        return False
    _write(root, models)
    return True


def basis_here(
    engine: str,
    package: str,
    providers: tuple[str, ...] = (),
    engine_options: Mapping[str, int | bool] | None = None,
) -> Basis:
    """What would be measured with now. ``package`` of no version here: an empty one."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return Basis(
        processor=processor(),
        cores=len(os.sched_getaffinity(0)),
        engine=engine,
        package=package,
        version=version,
        providers=providers,
        engine_options=dict(engine_options or {}),
    )


def package_of(library: str) -> str:
    """The installed package that a module comes from, such as onnxruntime-gpu."""
    top = library.partition(".")[0]
    return (importlib.metadata.packages_distributions().get(top) or [top])[0]


def why_not(tuned: Tuned, here: Basis) -> str:
    """Why a tuning is not for here; empty: it is."""
    was = tuned.basis
    if was.processor != here.processor or was.cores != here.cores:
        return f"it was measured on another processor ({was.cores} cores; here {here.cores})"
    if (was.package, was.version) != (here.package, here.version):
        now = here.version or "none"
        return f"it was measured with {was.package} {was.version}; here is {now}"
    if was.providers != here.providers:
        return f"it was measured with providers {list(was.providers)}; now {list(here.providers)}"
    if was.engine_options != here.engine_options:
        return f"it was measured with {was.engine_options}; now {here.engine_options}"
    return ""


def _tuned(raw: msgspec.Raw) -> Tuned | str:
    try:
        return msgspec.json.decode(raw, type=Tuned)
    except msgspec.DecodeError as error:
        return str(error)


def _write(root: Path, models: Mapping[str, Tuned]) -> None:
    encoded = {model: msgspec.Raw(msgspec.json.encode(one)) for model, one in models.items()}
    document = msgspec.json.encode(_File(format=_FORMAT, models=dict(sorted(encoded.items()))))
    write_whole(FileSystem(), root / FILE, msgspec.json.format(document, indent=1))
