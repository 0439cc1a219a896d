"""What a device can do, to the JSON of its row and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributor.planning.model import DecoderFacts, DeviceFacts, EngineFacts


def write_facts(facts: DeviceFacts) -> dict[str, Any]:
    """The JSON form; without name, labels and free disk, which have columns of their own."""
    return {
        "decoder": {
            "versions": sorted(facts.decoder.versions),
            "methods": sorted(facts.decoder.methods),
            "memory_bytes": facts.decoder.memory_bytes,
        },
        "engines": [
            {
                "name": engine.name,
                "version": engine.version,
                "ir_version_max": engine.ir_version_max,
                "opset_max": dict(engine.opset_max),
            }
            for engine in facts.engines
        ],
        "architecture": facts.architecture,
        "memory_bytes": facts.memory_bytes,
        "accelerators": sorted(facts.accelerators),
    }


def read_facts(
    device: str,
    stored: Mapping[str, Any],
    *,
    disk_free_bytes: int | None,
    labels: Mapping[str, str],
) -> DeviceFacts:
    """The value that ``write_facts`` was given, with what has columns of its own."""
    decoder = stored["decoder"]
    return DeviceFacts(
        device=device,
        decoder=DecoderFacts(
            versions=frozenset(decoder["versions"]),
            methods=frozenset(decoder["methods"]),
            memory_bytes=decoder["memory_bytes"],
        ),
        engines=tuple(EngineFacts(**engine) for engine in stored["engines"]),
        architecture=stored["architecture"],
        memory_bytes=stored["memory_bytes"],
        accelerators=frozenset(stored["accelerators"]),
        disk_free_bytes=disk_free_bytes,
        labels=labels,
    )
