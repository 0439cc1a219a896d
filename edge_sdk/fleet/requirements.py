"""What an artifact asks of a device: read out of the model, changed by ``KEY=VALUE``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_sdk.base import UsageError
from edge_sdk.manifest import Requirements

# Measured (ONNX Runtime 1.31.1): two loaded versions of one model take 2 to 4 times its file.
MEMORY_FACTOR = 4
ENGINES: Mapping[str, str] = {"onnx": "onnxruntime", "tflite": "litert"}
KEYS = ("accelerator", "architecture", "engine", "ir_version", "memory", "opset")

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_BYTES = re.compile(r"(\d{1,15})\s*([A-Za-z]*)\Z", re.ASCII)
_DEFAULT_DOMAINS = ("", "ai.onnx")


def with_overrides(found: Requirements, wanted: Sequence[str]) -> Requirements:
    """``found`` with each ``KEY=VALUE`` of ``wanted`` in place of what the model says.

    Lists (accelerator, architecture, opset) take several values after commas or by
    repeating the key; an empty value asks for nothing. Raises: UsageError.
    """
    given: dict[str, list[str]] = {}
    for pair in wanted:
        key, equals, value = pair.partition("=")
        if not equals or key not in KEYS:
            raise UsageError(f"--require {pair!r} is not KEY=VALUE with a KEY of {', '.join(KEYS)}")
        given.setdefault(key, []).extend(part.strip() for part in value.split(","))
    values = {key: [part for part in parts if part] for key, parts in given.items()}
    changed = found
    if "accelerator" in values:
        changed = replace(changed, accelerators=tuple(sorted(set(values["accelerator"]))))
    if "architecture" in values:
        changed = replace(changed, architectures=tuple(sorted(set(values["architecture"]))))
    if "engine" in values:
        changed = replace(changed, engine=_single("engine", values["engine"]))
    if "ir_version" in values:
        text = _single("ir_version", values["ir_version"])
        changed = replace(changed, ir_version=_number("ir_version", text) if text else None)
    if "memory" in values:
        changed = replace(changed, memory_bytes=parse_bytes(_single("memory", values["memory"])))
    if "opset" in values:
        changed = replace(changed, opsets=dict(_opset(text) for text in values["opset"]))
    return changed


def parse_bytes(text: str | None) -> int:
    """``512MiB``, ``1.5``... whole numbers with a unit; nothing is 0. Raises: UsageError."""
    match = _BYTES.match(text or "0")
    if not match or match[2] not in _UNITS:
        raise UsageError(f"{text!r} is no number of bytes such as 536870912, 512MiB or 2GB")
    return int(match[1]) * _UNITS[match[2]]


def _single(key: str, parts: Sequence[str]) -> str | None:
    if len(parts) > 1:
        raise UsageError(f"--require {key} takes one value, got {', '.join(parts)}")
    return parts[0] if parts else None


def _number(key: str, text: str) -> int:
    if not text.isdigit() or len(text) > 9:
        raise UsageError(f"--require {key}={text!r} is not a whole number")
    return int(text)


def _opset(text: str) -> tuple[str, int]:
    domain, _, version = text.rpartition(":")
    return ("" if domain in _DEFAULT_DOMAINS else domain, _number("opset", version))
