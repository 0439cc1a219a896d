"""Whether an artifact fits this device, known before the first byte of it is fetched. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from device_agent.fleet_link.values import Capabilities, EngineCapability
from edge_sdk.base.errors import RefusedError, ResourceError
from edge_sdk.manifest.model import Manifest

_MEMORY_FACTOR = 4  # measured: a loaded model takes 2 to 4 times its file
_FILE_OVERHEAD_BYTES = 4096


def check_name(manifest: Manifest, model: str, version: str) -> None:
    """It is what it was assigned as. Raises: RefusedError."""
    if str(manifest.model) != model or str(manifest.version) != version:
        raise RefusedError(
            f"the artifact assigned as {model} {version} says of itself that it is "
            f"{manifest.model} {manifest.version}"
        )


def check_engine(manifest: Manifest, own: Capabilities) -> None:
    """Engine, model format limits, architecture. Raises: RefusedError."""
    wanted = manifest.requires
    if wanted.architectures and own.architecture not in wanted.architectures:
        raise RefusedError(
            f"{manifest.model} {manifest.version} ({manifest.variant}) is for "
            f"{', '.join(wanted.architectures)}; this device is {own.architecture}"
        )
    missing = set(wanted.accelerators) - set(own.accelerators)
    if missing:
        raise RefusedError(f"this device has no {', '.join(sorted(missing))}")
    if manifest.serve == "none" or wanted.engine is None:
        return
    engine = next((one for one in own.engines if one.name == wanted.engine), None)
    if engine is None:
        raise RefusedError(f"engine {wanted.engine!r} is not installed on this device")
    _check_limits(manifest, engine)


def _check_limits(manifest: Manifest, engine: EngineCapability) -> None:
    wanted = manifest.requires
    if wanted.ir_version and engine.ir_version_max and wanted.ir_version > engine.ir_version_max:
        raise RefusedError(
            f"the model's IR version {wanted.ir_version} is newer than {engine.name} "
            f"{engine.version} reads ({engine.ir_version_max})"
        )
    for domain, version in wanted.opsets.items():
        limit = engine.opset_max.get(domain)
        if limit is not None and version > limit:
            raise RefusedError(
                f"the model's operator set {domain or 'ai.onnx'} {version} is newer than "
                f"{engine.name} {engine.version} knows ({limit})"
            )


def memory_bytes(manifest: Manifest) -> int:
    """What the loaded artifact needs."""
    if manifest.serve == "none":
        return 0
    return manifest.requires.memory_bytes or _MEMORY_FACTOR * manifest.size_bytes


def mapped_memory_bytes(manifest: Manifest) -> int:
    """The same where its weights stay in its files: their pages once, and no copies of them."""
    copies = (_MEMORY_FACTOR - 1) * manifest.size_bytes
    whole = memory_bytes(manifest)
    return max(whole - copies, min(whole, manifest.size_bytes))


def check_memory(
    manifest: Manifest,
    loaded: Sequence[Manifest],
    limit_bytes: int,
    *,
    mapped: Collection[str] = (),
) -> None:
    """The candidate is loaded beside everything that serves. Raises: ResourceError.

    ``limit_bytes`` 0: no limit. ``mapped``: models that are to be loaded so.
    """
    if not limit_bytes or manifest.serve == "none":
        return
    needed = sum(
        mapped_memory_bytes(one) if str(one.model) in mapped else memory_bytes(one)
        for one in (manifest, *loaded)
    )
    if needed > limit_bytes:
        raise ResourceError(
            f"loading {manifest.model} {manifest.version} beside what serves needs {needed} "
            f"bytes of memory; models may use {limit_bytes} here",
            what="memory",
            needed_bytes=needed,
            limit_bytes=limit_bytes,
        )


def disk_bytes(manifest: Manifest, present: int) -> int:
    """What the artifact still needs on disk; ``present`` bytes of its files are here already."""
    return max(manifest.size_bytes - present, 0) + _FILE_OVERHEAD_BYTES * (len(manifest.files) + 4)


def check_disk(manifest: Manifest, needed_bytes: int, free_bytes: int) -> None:
    """Raises: ResourceError."""
    if needed_bytes > free_bytes:
        raise ResourceError(
            f"{manifest.model} {manifest.version} needs {needed_bytes} more bytes of disk; "
            f"{free_bytes} may be used",
            what="disk",
            needed_bytes=needed_bytes,
            free_bytes=free_bytes,
        )
