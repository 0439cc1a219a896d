"""Writes down what a real Triton answers to the calls of ``triton_cases``.

benchmarks/runtime/install_peers.sh && python -m tests.support.triton_record
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.runtime.triton import TritonModel, python_model, serve
from tests.support.rest_requests import REQUESTS, REST_ANSWERS, ask
from tests.support.triton_calls import ANSWERS, FLOATS, LABELS, TYPES, observe, peer, unspaced
from tests.support.triton_cases import CASES

_MODEL = """
import time
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            if {slow}:
                time.sleep(float(x.ravel()[0]))
            y = x if {factor} == 1 else x * x.dtype.type({factor})
            answers.append(pb.InferenceResponse([pb.Tensor("y", y)]))
        return answers
"""
_CONFIG = """
max_batch_size: {batch_max}
input [{{ name: "x" data_type: TYPE_{kind} dims: {dims} }}]
output [{{ name: "y" data_type: TYPE_{kind} dims: {dims} {labels} }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
{more}
"""
_QUEUE = "dynamic_batching { default_queue_policy { max_queue_size: 2 } }"


def main() -> None:
    models = [model(name) for name in (*FLOATS, *TYPES)]
    with (
        tempfile.TemporaryDirectory(prefix="edge-triton-") as folder,
        serve(Path(folder), models) as triton,
        peer(triton.grpc_address, version="1", other="9", prefix="edge-record-") as to,
    ):
        told = {name: observe(case, to) for name, case in CASES.items()}
        rest = {
            name: ask(triton.http_address, one, version="1", other="9")
            for name, one in REQUESTS.items()
        }
    REST_ANSWERS.write_text(json.dumps(rest, indent=1, sort_keys=True) + "\n")
    for name, case in CASES.items():
        message = unspaced(str(told[name].get("message", "")))
        missing = [part for part in case.says if unspaced(part) not in message]
        if missing:
            print(f"{name}: {missing} not in {told[name]}")
    ANSWERS.write_text(json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def model(name: str) -> TritonModel:
    batched, labelled = name == "batched", name in ("batched", "named")
    kind = TYPES.get(name, "FP32").replace("BYTES", "STRING")
    whole = "[-1, 4]" if kind == "FP32" else "[-1]"
    config = _CONFIG.format(
        batch_max=8 if batched else 0,
        kind=kind,
        dims="[4]" if batched else whole,
        labels='label_filename: "labels.txt"' if labelled else "",
        more=_QUEUE if name == "slow" else "dynamic_batching {}" if batched else "",
    )
    code = _MODEL.format(slow=name == "slow", factor=FLOATS.get(name, 1))
    return python_model(name, config, code, labels_txt="".join(f"{one}\n" for one in LABELS))


if __name__ == "__main__":
    main()
