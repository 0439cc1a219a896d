"""``python -m benchmarks.runtime.peers``: MLServer and LitServe, measured once and recorded.

After ``install_peers.sh --once``. Ours stands beside them in the same run, in turns; what is
recorded in peers_once.json with its versions becomes rows of every later run.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from benchmarks.rows import Row, machine, row, show
from benchmarks.runtime import clients, figures, models, processes, served, triton, ways
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.ways import Way
from edge_sdk.base.command import run

RECORD = Path(__file__).with_name("peers_once.json")
_READY_S = 60.0
_CALLS = 400
_CLIENTS = 8
_FOR_S = 1.5

_MLSERVER_MODEL = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Small(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession({path!r}, options)
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self.session.run(None, {{"x": x}})
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="y", payload=y)]
        )
"""
_LITSERVE_SERVER = """
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import litserve
import numpy
import onnxruntime


class Small(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession({path!r}, options)

    def decode_request(self, request):
        return numpy.array(request["x"], numpy.float32)

    def predict(self, x):
        return self.session.run(None, {{"x": x}})[0]

    def encode_response(self, output):
        return {{"y": output.tolist()}}


if __name__ == "__main__":
    server = litserve.LitServer(Small(), accelerator="cpu")
    server.run(host="127.0.0.1", port={port}, generate_client_file=False, log_level="warning")
"""


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(rounds: int) -> None:
    """Measures the peers beside ours and writes peers_once.json.

    Example: python -m benchmarks.runtime.peers
    """
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        rows = measure(Path(folder), rounds=rounds)
    record = {
        "measured": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "rows": [asdict(one) for one in rows],
    }
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    show("Recorded", rows)


def recorded() -> list[Row]:
    """The rows that were measured once; none where that was never done."""
    if not RECORD.is_file():
        return []
    record = json.loads(RECORD.read_text())
    return [
        Row(**{**one, "what": f"{one['what']} (once, {record['measured']})"})
        for one in record["rows"]
    ]


def measure(folder: Path, *, rounds: int) -> list[Row]:
    path = models.write_models(folder / "models")[models.SMALL]
    given = np.random.default_rng(1).random((1, 64), np.float32)
    _, answer = ways.prebound(path, given)
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        artifact = Artifact(model=models.SMALL, path=path)
        ours = enter(served.serve(folder / "ours", [artifact]))
        grpc_address, mlserver_pid = enter(_mlserver(folder / "mlserver", path))
        port, litserve_pid = enter(_litserve(folder / "litserve", path))
        listed = {
            "lane": clients.way("lane", ours.address, models.SMALL, (1, 64)),
            "ours-grpc": clients.way("stock", ours.address, models.SMALL, (1, 64)),
            "mlserver": clients.way("stock", grpc_address, "small", (1, 64)),
            "litserve": clients.way("http", f"127.0.0.1:{port}", "small", (1, 64)),
        }
        pids = {
            **{"lane": ours.pid, "ours-grpc": ours.pid},
            **{"mlserver": mlserver_pid, "litserve": litserve_pid},
        }
        calls = {
            "lane": enter(ways.ours(ours.address, models.SMALL, given)),
            "ours-grpc": enter(ways.stock(ours.address, models.SMALL, given)),
            "mlserver": enter(ways.stock(grpc_address, "small", given)),
            "litserve": enter(ways.http_json(f"127.0.0.1:{port}", given)),
        }
        for name, call in calls.items():
            ways.check(name, call, answer)
        one = {name: Way(call=calls[name], pid=pids[name], calls=_CALLS) for name in calls}
        places = {"free": processes.places()["free"]}
        rows = _one_rows(ways.sample(one, rounds=rounds, at=places)["free"])
        asking = enter(clients.crowd(_CLIENTS, listed))
        turns = [clients.in_turns(asking, pids, for_s=_FOR_S) for _ in range(rounds)]
        rates = {name: [turn[name].rate for turn in turns] for name in listed}
        return [*rows, *(_rate_row(name, values) for name, values in rates.items())]


def _one_rows(rounds: list[ways.Round]) -> list[Row]:
    return [
        row(
            f"runtime.once.{name}.{figure}",
            f"{_named(name)}, one client, 64 floats: {figure}",
            values,
            "us",
            "<=",
        )
        for name in rounds[0]
        for figure, values in (
            ("p50", figures.percentiles(ways.by_round(rounds, name), 50)),
            ("cpu", ways.cpu_by_round(rounds, name)),
        )
    ]


def _rate_row(name: str, values: list[float]) -> Row:
    what = f"{_named(name)}, eight clients, 64 floats"
    return row(f"runtime.once.{name}.rate", what, values, "requests/s", ">=")


def _named(name: str) -> str:
    version = {"mlserver": _version("mlserver"), "litserve": _version("litserve")}.get(name, "")
    words = {
        **{"lane": "fast lane beside the peers", "ours-grpc": "our gRPC beside the peers"},
        **{"mlserver": "MLServer", "litserve": "LitServe"},
    }
    return f"{words[name]} {version}".strip()


def _version(package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [str(_python(package)), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def _python(peer: str) -> Path:
    return triton.PEERS / peer / "bin" / "python"


@contextlib.contextmanager
def _mlserver(folder: Path, path: Path) -> Iterator[tuple[str, int]]:
    """Its gRPC address and process id; one process, which is faster than its workers."""
    folder.mkdir(parents=True)
    rest, grpc, metrics = (served.free_port() for _ in range(3))
    settings = {
        **{"host": "127.0.0.1", "http_port": rest, "grpc_port": grpc, "metrics_port": metrics},
        **{"parallel_workers": 0, "debug": False},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "small.py").write_text(_MLSERVER_MODEL.format(path=str(path)))
    model = {"name": "small", "implementation": "small.Small"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(_python("mlserver").with_name("mlserver")), "start", str(folder)]
    with _started(command, folder, f"127.0.0.1:{rest}", "/v2/models/small/ready") as pid:
        yield f"127.0.0.1:{grpc}", pid


@contextlib.contextmanager
def _litserve(folder: Path, path: Path) -> Iterator[tuple[int, int]]:
    folder.mkdir(parents=True)
    port = served.free_port()
    (folder / "server.py").write_text(_LITSERVE_SERVER.format(path=str(path), port=port))
    command = [str(_python("litserve")), "server.py"]
    with _started(command, folder, f"127.0.0.1:{port}", "/health") as pid:
        yield port, pid


@contextlib.contextmanager
def _started(command: list[str], folder: Path, address: str, path: str) -> Iterator[int]:
    """Raises: RuntimeError where it does not become ready."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=processes.environment(),
        )
    try:
        end_s = time.monotonic() + _READY_S
        while not _is_ready(address, path):
            if process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"{command[0]} is not ready:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        below = processes.tree(process.pid)[1:]
        processes.end(process)
        processes.kill_left(below)


def _is_ready(address: str, path: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    run(cli, "bench-runtime-peers")


if __name__ == "__main__":
    main()
