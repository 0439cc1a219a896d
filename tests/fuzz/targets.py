"""All targets by name; the name is also that of the folder of seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fuzz import (
    apply_targets,
    delta_targets,
    file_targets,
    gate_targets,
    lane_targets,
    page_targets,
    part_targets,
)
from tests.fuzz.examples import SEEDS

TARGETS: dict[str, Callable[[bytes], None]] = {
    "container": delta_targets.container,
    "decoder": delta_targets.decoder,
    "apply": apply_targets.applied,
    "records": delta_targets.records,
    "code_table": delta_targets.code_table,
    "codes": delta_targets.codes,
    "prediction": delta_targets.prediction,
    "low_rank": part_targets.low_rank,
    "text": part_targets.text,
    "patch": part_targets.patch,
    "onnx": file_targets.model,
    "tflite": file_targets.model,
    "torch_legacy": file_targets.model,
    "torch_zip": file_targets.model,
    "npy": file_targets.model,
    "gguf": file_targets.model,
    "ggml": file_targets.model,
    "tflite_bundle": file_targets.model,
    "safetensors": file_targets.safetensors,
    "npz": file_targets.npz,
    "npz_member": file_targets.npz_member,
    "opaque": file_targets.model,
    "manifest": file_targets.manifest,
    "assignment": file_targets.assignment,
    "gate": gate_targets.gate,
    "evidence": gate_targets.evidence,
    "packet": lane_targets.packet,
    "answer": lane_targets.answer,
    "statistics_page": page_targets.statistics_page,
}


def seeds_of(name: str) -> list[Path]:
    """The committed seeds of a target, findings of earlier runs among them."""
    return sorted((SEEDS / name).iterdir())
