"""Which variant of a version a device gets: a total order over those that it fits.

Of the variants that fit, the first in this order is chosen:

1. made for an accelerator that the device has, the more of them the better;
2. made for named architectures before made for any;
3. fewer bytes: less to send, to hold and to read through for an answer (an INT8 variant
   thereby comes before FP16, and that before FP32);
4. variant name, then artifact digest, so that no two are ever equal.

Pure: the same facts give the same answer with the same reasons, in whatever order the
candidates come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from distributor.planning.model import (
    ArtifactFacts,
    DeviceFacts,
    EngineFacts,
    MemoryInUse,
    Resolution,
    Verdict,
)

_NOTHING_IN_USE = MemoryInUse()


def resolve(
    device: DeviceFacts,
    candidates: Sequence[ArtifactFacts],
    *,
    in_use: MemoryInUse = _NOTHING_IN_USE,
) -> Resolution:
    """The best variant of one version for ``device``, and a verdict on each candidate."""
    obstacles = {facts.artifact: tuple(_obstacles(device, facts, in_use)) for facts in candidates}
    unique = {facts.artifact: facts for facts in candidates}
    ranked = sorted(
        unique.values(), key=lambda facts: (bool(obstacles[facts.artifact]), _rank(facts))
    )
    chosen = ranked[0] if ranked and not obstacles[ranked[0].artifact] else None
    verdicts = tuple(
        Verdict(
            facts=facts,
            fits=not obstacles[facts.artifact],
            chosen=facts is chosen,
            reasons=obstacles[facts.artifact] or _merits(facts, chosen),
        )
        for facts in ranked
    )
    return Resolution(chosen=chosen, verdicts=verdicts)


def _rank(facts: ArtifactFacts) -> tuple[int, int, int, str, str]:
    requires = facts.requires
    return (
        -len(set(requires.accelerators)),
        0 if requires.architectures else 1,
        facts.size_bytes,
        facts.variant,
        str(facts.artifact),
    )


def _merits(facts: ArtifactFacts, chosen: ArtifactFacts | None) -> tuple[str, ...]:
    """Why a variant that fits has its rank, against the one that was chosen."""
    merits = []
    if facts.requires.accelerators:
        merits.append(f"made for {', '.join(sorted(set(facts.requires.accelerators)))}")
    if facts.requires.architectures:
        merits.append(f"made for {', '.join(sorted(facts.requires.architectures))}")
    merits.append(f"{facts.size_bytes} bytes")
    if chosen is not None and facts is not chosen:
        merits.append(f"ranked behind {chosen.variant}")
    return tuple(merits)


def _obstacles(device: DeviceFacts, facts: ArtifactFacts, in_use: MemoryInUse) -> Iterator[str]:
    """Each reason for which ``device`` cannot run ``facts``; none means that it fits."""
    yield from _engine_obstacles(device, facts)
    wanted = facts.requires.architectures
    if wanted and device.architecture not in wanted:
        has = device.architecture or "an unknown architecture"
        yield f"needs architecture {' or '.join(sorted(wanted))}, the device has {has}"
    missing = sorted(set(facts.requires.accelerators) - device.accelerators)
    if missing:
        yield f"needs accelerator {', '.join(missing)}, which the device does not have"
    yield from _memory_obstacles(device, facts, in_use)


def _engine_obstacles(device: DeviceFacts, facts: ArtifactFacts) -> Iterator[str]:
    wanted = facts.requires.engine
    if wanted is None or facts.serve == "none":
        return  # the application brings its own runtime
    engines = [engine for engine in device.engines if engine.name == wanted]
    if not engines:
        names = ", ".join(sorted({engine.name for engine in device.engines})) or "none"
        yield f"needs engine {wanted}, the device has {names}"
        return
    # Several builds of one engine: the device can run what any one of them can.
    limits = [tuple(_file_limits(engine, facts)) for engine in engines]
    yield from min(limits, key=lambda found: (len(found), found))


def _file_limits(engine: EngineFacts, facts: ArtifactFacts) -> Iterator[str]:
    """A model file newer than the engine fails to load, or loads and answers wrongly."""
    name = f"{engine.name} {engine.version}".strip()
    wanted_ir = facts.requires.ir_version
    if wanted_ir is not None and engine.ir_version_max and wanted_ir > engine.ir_version_max:
        yield f"needs IR version {wanted_ir}, {name} loads up to {engine.ir_version_max}"
    for domain, wanted in sorted(facts.requires.opsets.items()):
        limit = engine.opset_max.get(domain)
        if limit is not None and wanted > limit:
            yield f"needs operator set {domain or 'ai.onnx'} {wanted}, {name} knows up to {limit}"


def _memory_obstacles(
    device: DeviceFacts, facts: ArtifactFacts, in_use: MemoryInUse
) -> Iterator[str]:
    if not device.memory_bytes:
        return
    # The version that serves and the candidate are loaded beside each other: whatever the
    # publisher asked for, they cannot take less than the bytes of both.
    both = facts.size_bytes + in_use.active_bytes if facts.serve == "inference" else 0
    wanted = max(facts.requires.memory_bytes, both)
    free = max(0, device.memory_bytes - in_use.other_bytes)
    if wanted > free:
        taken = (
            f", {in_use.other_bytes} bytes of them taken by other models"
            if in_use.other_bytes
            else ""
        )
        yield (f"needs {wanted} bytes of memory, the device has {device.memory_bytes} bytes{taken}")
