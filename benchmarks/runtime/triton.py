"""Triton 2.51 out of the PyTriton wheel: on the CPU, with its Python backend. An anchor.

``install_peers.sh`` puts it into build/peers-runtime. The wheel has no ONNX Runtime backend, so
a model is Python code that calls onnxruntime; what stands here is therefore Triton's doors and
scheduler around one Python process, not the best that Triton can do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VERSION = "2.51.0"
PEERS = Path(__file__).parents[2] / "build" / "peers-runtime"
_READY_S = 60.0
_END_S = 10.0

_RUN_ONNX = """
import os, sys
sys.path.insert(0, {packages!r})
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession({path!r}, options)

    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "x").as_numpy()
            (y,) = self.session.run(None, {{"x": x}})
            answers.append(pb.InferenceResponse([pb.Tensor("y", y)]))
        return answers
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonModel:
    """A model of the repository: the text of its config.pbtxt (without name and backend), the
    text of its model.py, and files beside the configuration such as labels."""

    name: str
    config: str
    code: str
    files: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Triton:
    """A running server. Its Python models are processes under ``pid``."""

    grpc_address: str
    http_address: str
    metrics_address: str
    pid: int


def is_installed(peers: Path = PEERS) -> bool:
    return _server(peers).is_file() and _packages(peers).is_dir()


def onnx_model(
    name: str, path: Path, given: Sequence[int], answered: Sequence[int], peers: Path = PEERS
) -> TritonModel:
    """One that answers ``y`` for ``x``, both float32, by running an ONNX file on one thread."""
    return TritonModel(
        name=name,
        config=f"""max_batch_size: 0
input [{{ name: "x" data_type: TYPE_FP32 dims: {list(given)} }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: {list(answered)} }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
""",
        code=_RUN_ONNX.format(packages=str(_packages(peers)), path=str(path.absolute())),
    )


def python_model(name: str, config: str, code: str, **files: str) -> TritonModel:
    """One of given code, which finds NumPy 1 before anything else."""
    packages = str(_packages(PEERS))
    return TritonModel(
        name=name,
        config=config,
        code=f"import sys\nsys.path.insert(0, {packages!r})\n{code}",
        files={name.replace("_txt", ".txt"): text for name, text in files.items()},
    )


@contextlib.contextmanager
def serve(
    folder: Path, models: Sequence[TritonModel], *options: str, peers: Path = PEERS
) -> Iterator[Triton]:
    """Starts it on ports of its own with all models loaded, and ends it after the block.

    Raises: RuntimeError, with the end of its log, when it does not become ready.
    """
    repository, backends = folder / "repository", folder / "backends"
    for model in models:
        _write(repository, model)
    _write_backend(backends, peers)
    ports = _free_ports(3)
    with (folder / "triton.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(_server(peers)),
                *("--model-repository", str(repository), "--backend-directory", str(backends)),
                *("--model-control-mode=explicit", "--load-model=*"),
                "--disable-auto-complete-config",
                *(f"--{door}-address=127.0.0.1" for door in ("http", "grpc", "metrics")),
                *(
                    f"--{door}-port={port}"
                    for door, port in zip(("http", "grpc", "metrics"), ports, strict=True)
                ),
                *options,
            ],
            env={**os.environ, "LD_LIBRARY_PATH": _libraries(peers)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    http, grpc, metrics = (f"127.0.0.1:{port}" for port in ports)
    try:
        _wait_until_ready(process, f"http://{http}/v2/health/ready", folder / "triton.log")
        yield Triton(grpc_address=grpc, http_address=http, metrics_address=metrics, pid=process.pid)
    finally:
        _end(process)


def offered(
    held: contextlib.ExitStack, folder: Path, models: Sequence[TritonModel]
) -> Triton | None:
    """Serves until ``held`` ends. None where it is not installed or does not start: rows that
    compare with it are then not measured, and the others are."""
    if not is_installed():
        return None
    try:
        return held.enter_context(serve(folder, models))
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return None


def _server(peers: Path) -> Path:
    return peers / "triton" / "pytriton" / "tritonserver" / "bin" / "tritonserver"


def _packages(peers: Path) -> Path:
    """What Python models import; the folder's name also says which Python's stub they need."""
    found = sorted((peers / "stub" / "lib").glob("python3.*"))
    return (found[0] if found else peers / "stub" / "lib" / "none").absolute() / "site-packages"


def _libraries(peers: Path) -> str:
    """The wheel's libraries, and libpython's folder for the stub."""
    settings = (peers / "stub" / "pyvenv.cfg").read_text().splitlines()
    home = next(line.partition("=")[2].strip() for line in settings if line.startswith("home"))
    own = (peers / "triton" / "nvidia_pytriton.libs").absolute()
    return f"{own}:{Path(home).parent / 'lib'}"


def _write(repository: Path, model: TritonModel) -> None:
    folder = repository / model.name
    (folder / "1").mkdir(parents=True)
    header = f'name: "{model.name}"\nbackend: "python"\n'
    (folder / "config.pbtxt").write_text(header + model.config)
    (folder / "1" / "model.py").write_text(model.code)
    for name, text in (model.files or {}).items():
        (folder / name).write_text(text)


def _write_backend(backends: Path, peers: Path) -> None:
    """The wheel's Python backend with the stub of the Python that the models need."""
    given = peers / "triton" / "pytriton" / "tritonserver"
    shutil.copytree(given / "backends" / "python", backends / "python")
    version = _packages(peers).parent.name.removeprefix("python")
    stub = given / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, backends / "python")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        return ports


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end_s = time.monotonic() + _READY_S
    while process.poll() is None and time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise RuntimeError(f"Triton did not become ready:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
