"""Pairs that the bench makes itself: two networks really trained, then fine-tuned at four rates.

``python -m benchmarks.delta.generated FOLDER`` writes them and ``generated.json``. BF16 goes
into safetensors, FP16, FP32 and INT8 into ONNX, INT8 as ``quantize_dynamic`` makes it: one
symmetric scale for each matrix.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.delta.network import MLP, TRANSFORMER, Network, Weights, language, text, train
from benchmarks.delta.pairs import Pair

RATES = (1e-6, 1e-5, 1e-4, 1e-3)
DTYPES = ("bf16", "fp16", "fp32", "int8")
TRAIN_STEPS, TRAIN_RATE, TUNE_STEPS = 300, 2e-3, 60
_TEXT_LENGTH = 60_000
_SOURCES = ("exact.py", "network.py", "generated.py")

Tensors = dict[str, npt.NDArray[Any]]


def make(folder: Path) -> list[Pair]:
    """The generated pairs, made in a process of its own unless they are there already."""
    index = folder / "generated.json"
    version = _version()
    if not index.is_file() or json.loads(index.read_text())["version"] != version:
        folder.mkdir(parents=True, exist_ok=True)
        # One thread: on matrices of this size more of them only wait for each other.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.delta.generated", str(folder)]
        subprocess.run(command, env=environment, check=True)
    pairs = []
    for one in json.loads(index.read_text())["pairs"]:
        old, new = folder / one.pop("old"), folder / one.pop("new")
        pairs.append(Pair(id=one.pop("id"), row=one.pop("row"), old=old, new=new, facts=one))
    return pairs


def _version() -> str:
    """Changes with whatever decides on the bytes of the pairs."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()[:16]


def write_all(folder: Path) -> None:
    before = language(1)
    old_text = text(before, 2, _TEXT_LENGTH)
    new_text = text(language(3, like=before), 4, _TEXT_LENGTH)
    entries = []
    for network in (TRANSFORMER, MLP):
        fresh = network.fresh(5)
        old, loss = train(network, fresh, old_text, steps=TRAIN_STEPS, rate=TRAIN_RATE, seed=6)
        print(f"{network.name}: trained to a loss of {loss:.3f}", file=sys.stderr, flush=True)
        files = {dtype: _write(old, dtype, folder / f"{network.name}.old") for dtype in DTYPES}
        for rate in RATES:
            new, loss = train(network, old, new_text, steps=TUNE_STEPS, rate=rate, seed=7)
            print(f"  tuned at {rate:.0e}: {loss:.3f}", file=sys.stderr, flush=True)
            for dtype in DTYPES:
                path = _write(new, dtype, folder / f"{network.name}.{rate:.0e}")
                one = _entry(
                    network=network,
                    dtype=dtype,
                    rate=rate,
                    weights=(old, new),
                    files=(files[dtype], path),
                )
                entries.append(one)
    document = {"version": _version(), "pairs": entries}
    (folder / "generated.json").write_text(json.dumps(document, indent=1) + "\n")


def _entry(
    *,
    network: Network,
    dtype: str,
    rate: float,
    weights: tuple[Weights, Weights],
    files: tuple[Path, Path],
) -> dict[str, Any]:
    """What is known of a pair whose old and new weights stand in ``files``."""
    before, after = (converted(one, dtype) for one in weights)
    counted = [name for name in after if after[name].size > 1]  # scales are no weights
    changed = sum(int((before[name] != after[name]).sum()) for name in counted)
    count = sum(after[name].size for name in counted)
    return {
        "id": f"{network.name}-{rate:.0e}-{dtype}",
        "row": row_of(dtype, rate, changed / count),
        "old": files[0].name,
        "new": files[1].name,
        "network": network.name,
        "dtype": dtype,
        "rate": rate,
        "weights": count,
        "changed": changed / count,
    }


def row_of(dtype: str, rate: float, changed: float) -> str:
    if dtype == "bf16":
        return "bf16"
    if dtype in {"fp16", "fp32"}:
        return dtype if rate <= 1e-4 else ""
    if changed >= 0.5:
        return "int8-dense"
    return "int8-light" if changed < 1 / 3 else ""


def converted(weights: Weights, dtype: str) -> Tensors:
    """The tensors of a file of ``dtype``; bfloat16 as its bits."""
    if dtype == "bf16":
        return {name: bfloat16_bits(value) for name, value in weights.items()}
    if dtype != "int8":
        kind = np.float16 if dtype == "fp16" else np.float32
        return {name: value.astype(kind) for name, value in weights.items()}
    tensors: Tensors = {}
    for name, value in weights.items():
        if value.ndim < 2:
            tensors[name] = value
            continue
        scale = np.float32(np.abs(value).max() / np.float32(127))
        rounded = np.rint(value / scale)
        tensors[f"{name}_quantized"] = np.clip(rounded, -127, 127).astype(np.int8)
        tensors[f"{name}_scale"] = np.array(scale, np.float32)
        tensors[f"{name}_zero_point"] = np.array(0, np.int8)
    return tensors


def bfloat16_bits(value: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Rounded to nearest even."""
    bits = value.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write(weights: Weights, dtype: str, stem: Path) -> Path:
    suffix = "safetensors" if dtype == "bf16" else "onnx"
    path = stem.with_name(f"{stem.name}.{dtype}.{suffix}")
    tensors = converted(weights, dtype)
    data = safetensors_bytes(tensors) if dtype == "bf16" else onnx_bytes(tensors)
    path.write_bytes(data)
    return path


def safetensors_bytes(tensors: Tensors) -> bytes:
    """A safetensors file of bfloat16 bits."""
    header: dict[str, Any] = {}
    at = 0
    for name, value in tensors.items():
        offsets = [at, at + value.nbytes]
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": offsets}
        at += value.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    body = b"".join(value.astype("<u2").tobytes() for value in tensors.values())
    return len(head).to_bytes(8, "little") + head + body


def onnx_bytes(tensors: Tensors) -> bytes:
    """An ONNX file that holds the tensors; its graph hands each tensor out.

    It is not the network's own graph: what a delta sees is the weights.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Identity", [name], [f"{name}.out"]) for name in tensors]
    outputs = []
    initializers = []
    for name, value in tensors.items():
        initializers.append(numpy_helper.from_array(value, name))
        kind = initializers[-1].data_type
        outputs.append(helper.make_tensor_value_info(f"{name}.out", kind, value.shape))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "weights", inputs, outputs, initializer=initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], producer_name="bench", ir_version=10
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
