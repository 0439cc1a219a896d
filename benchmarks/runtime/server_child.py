"""``python -m benchmarks.runtime.server_child FOLDER NAME=PATH ...``: the serving room alone.

The same table, dispatcher, pool and doors as the agent's, without store and updater. Says one
line when it is ready, and ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from device_agent.serving import Dispatcher, ModelTable
from device_agent.serving.__main__ import SWITCH_INTERVAL_S
from device_agent.serving.doors import FastLaneDoor, InferenceDoor
from device_agent.serving.load import Loader, LoadOrder
from edge_sdk.base import Digest
from edge_sdk.tensor_pool import TensorPool

_POOL_BYTES = 256 << 20


def main() -> None:
    folder, *models = sys.argv[1:]
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    pool = TensorPool(budget_bytes=_POOL_BYTES)
    table = ModelTable()
    dispatcher = Dispatcher(table, running_max=os.cpu_count() or 1)
    loader = Loader(pool, threads=1)
    for given in models:
        name, _, path = given.partition("=")
        order = LoadOrder(
            model=name,
            artifact=Digest.of(name.encode()),
            version="1.0.0",
            variant="fp32",
            folder=Path(path).parent,
            entry=Path(path).name,
            engine="onnxruntime",
            golden_path=None,
        )
        table.switch(loader.load(order))
    table.set_ready()
    door, lane = InferenceDoor(table, dispatcher), FastLaneDoor(dispatcher, pool)
    door.open(f"unix:{folder}/inference.sock")
    lane.open(door.address)
    print(door.address, flush=True)
    sys.stdin.read()
    lane.close()
    door.close()


if __name__ == "__main__":
    main()
