"""Records what the bindings of TensorRT and CUDA really have, without their libraries or a GPU.

``python -m tests.support.tensorrt_record`` downloads the bindings' wheels (a network and a C
compiler are needed), puts stubs in the place of TensorRT's libraries, imports each release in
a process of its own, and compares classes, signatures and members with the committed record;
``--write`` writes that record again. Tests hold our code against the record.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support import tensorrt_hollow

RECORD = Path(__file__).parents[1] / "edge_sdk" / "engines" / "tensorrt" / "record.json"
WHEELS = {
    "10.3.0": ("tensorrt-cu12-bindings==10.3.0", 10),
    "10.16.1.11": ("tensorrt-cu12-bindings==10.16.1.11", 10),
    "11.4.0.106": ("tensorrt-cu13-bindings==11.4.0.106", 11),
}
CUDA_WHEELS = {"12.9.10": "cuda-bindings==12.9.10", "13.5.0": "cuda-bindings==13.5.0"}
PATHFINDER = "cuda-pathfinder"  # what cuda-bindings needs to be imported

# All that the bindings take from TensorRT's libraries while they are imported.
STUBS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")

CLASSES = (
    *("Builder", "IBuilderConfig", "INetworkDefinition", "IOptimizationProfile", "ITensor"),
    *("OnnxParser", "ParserError", "OnnxParserRefitter", "Refitter", "Runtime", "ICudaEngine"),
    *("IExecutionContext", "IHostMemory", "ILogger", "IOutputAllocator", "ITimingCache"),
)
ENUMS = (
    *("BuilderFlag", "DataType", "MemoryPoolType", "NetworkDefinitionCreationFlag"),
    *("TensorIOMode", "TensorLocation", "ILogger.Severity"),
)
CUDA_FUNCTIONS = (
    *("cudaDriverGetVersion", "cudaFree", "cudaFreeHost", "cudaGetDeviceCount"),
    *("cudaGetDeviceProperties", "cudaGetErrorString", "cudaHostAlloc", "cudaMalloc"),
    *("cudaMemcpyAsync", "cudaSetDeviceFlags", "cudaStreamCreateWithFlags"),
    *("cudaStreamDestroy", "cudaStreamSynchronize"),
)
CUDA_NUMBERS = ("cudaDeviceScheduleBlockingSync", "cudaHostAllocDefault", "cudaStreamNonBlocking")
CUDA_FACTS = ("name", "major", "minor", "multiProcessorCount", "totalGlobalMem")

_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\) -> (.+)$", re.MULTILINE)
_CALLBACK = re.compile(r"^\s*def (\w+)\(self(?:, )?(.*)\)", re.MULTILINE)


def library_facts() -> dict[str, Any]:
    """Run in a child: what the bindings that can be imported here have."""
    import tensorrt_bindings as library

    classes: dict[str, Any] = {}
    for name in CLASSES:
        cls = getattr(library, name)
        names = sorted(one for one in dir(cls) if one == "__init__" or not one.startswith("_"))
        classes[name] = {one: _facts(getattr(cls, one), one) for one in names}
        # Methods that a derived class brings are no attributes: the text shows them.
        callbacks = dict(_CALLBACK.findall(cls.__doc__ or ""))
        classes[name] |= {f"def {one}": callbacks[one] for one in callbacks if one != "__init__"}
    enums = {}
    for name in ENUMS:
        enum: Any = library
        for part in name.split("."):
            enum = getattr(enum, part)
        enums[name] = {member: int(value) for member, value in enum.__members__.items()}
    return {"version": library.__version__, "classes": classes, "enums": enums}


def _facts(attribute: Any, name: str) -> list[str] | str:
    if isinstance(attribute, property):
        return "property" if attribute.fset is None else "property, settable"
    text = (getattr(attribute, "__doc__", None) or "").replace("tensorrt_bindings.tensorrt.", "")
    found = [f"({inside}) -> {given}" for one, inside, given in _SIGNATURE.findall(text)]
    return found or "other"


def cuda_facts() -> dict[str, Any]:
    """Run in a child: what ``cuda.bindings.runtime`` has; it needs no driver for that."""
    from cuda.bindings import runtime

    functions = {name: getattr(runtime, name).__doc__.split("\n", 1)[0] for name in CUDA_FUNCTIONS}
    facts = runtime.cudaDeviceProp
    return {
        "functions": functions,
        "numbers": {name: int(getattr(runtime, name)) for name in CUDA_NUMBERS},
        "facts": [name for name in CUDA_FACTS if hasattr(facts, name)],
        "copies": {one.name: int(one) for one in runtime.cudaMemcpyKind},
        "errors": {
            name: int(getattr(runtime.cudaError_t, name))
            for name in ("cudaSuccess", "cudaErrorMemoryAllocation")
        },
    }


def ours_on_it() -> str:
    """Run in a child: what of our code needs no GPU works on the real bindings."""
    import tensorrt_bindings as library

    from edge_sdk.base import RefusedError
    from edge_sdk.engines.tensorrt import TensorRt
    from edge_sdk.engines.tensorrt.library import import_tensorrt, make_log
    from edge_sdk.engines.tensorrt.session import make_allocator
    from tests.support.fake_gpu import FakeGpu

    assert import_tensorrt() is library
    log: Any = make_log(import_tensorrt())
    log.log(library.ILogger.Severity.WARNING, "not kept")
    log.log(library.ILogger.Severity.ERROR, "kept")
    assert log.last() == "kept"
    gpu = FakeGpu()
    allocator: Any = make_allocator(import_tensorrt(), gpu)
    assert isinstance(allocator, library.IOutputAllocator)
    address = allocator.reallocate_output_async("y", 0, 10, 256, 1)
    assert len(gpu.memory[address]) == 10
    allocator.notify_shape("y", library.Dims([2, 5]))
    assert allocator.shape == (2, 5)
    try:
        TensorRt(device=gpu)
    except RefusedError as error:
        assert "does not start" in error.message  # the stub gives a null pointer
        return "ok"
    return "a runtime was made of nothing"


def our_cuda() -> str:
    """Run in a child: our device finds a GPU through the real bindings, or says why not."""
    from edge_sdk.base import RefusedError
    from edge_sdk.engines.tensorrt.device import CudaDevice

    try:
        place = CudaDevice().place()
    except RefusedError as error:
        assert "no GPU can be used" in error.message
        return "; ".join(_refused_calls()) or "ok"
    return "ok" if place.gpu and place.driver else f"a GPU without facts: {place}"


def _error_of(call: Callable[[], Any]) -> str:
    try:
        return f"no error, but {call()}"
    except Exception as error:  # noqa: BLE001 - which one is the question
        return f"{type(error).__name__}: {error}"


def _refused_calls() -> Iterator[str]:
    """Calls that do not end in CUDA's own error: the bindings did not take our arguments."""
    from cuda.bindings import runtime

    from edge_sdk.engines.tensorrt.device import CudaDevice

    device = CudaDevice.__new__(CudaDevice)  # its constructor would ask for a GPU first
    device._runtime = runtime
    calls: dict[str, Callable[[], Any]] = {
        "properties": device.place,
        "pinned": lambda: device.take_pinned(100),
        "take": lambda: device.take(100),
        "stream": device.open_stream,
        "copy_in": lambda: device.copy_in(1 << 40, 1 << 41, 100, 1 << 42),
        "copy_out": lambda: device.copy_out(1 << 41, 1 << 40, 100, 1 << 42),
        "wait": lambda: device.wait(1 << 42),
        "free": lambda: device.free(1 << 40),
        "free_pinned": lambda: device.free_pinned(1 << 41),
        "close_stream": lambda: device.close_stream(1 << 42),
    }
    for name, call in calls.items():
        said = _error_of(call)
        if "CUDA failed: cudaError" not in said:
            yield f"{name}: {said}"


def _download(wanted: str, folder: Path) -> None:
    """Fetches a wheel by pip, and unpacks it."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "-d", str(folder / "wheels"), wanted], check=True)
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()


def _build_stubs(folder: Path, major: int, text: str) -> None:
    """Libraries of that source in the place of TensorRT's."""
    source = folder / "stubs.c"
    source.write_text(text)
    for name in LIBRARIES:
        target = folder / f"{name}.so.{major}"
        compiler = os.environ.get("CC", "cc")
        soname = f"-Wl,-soname,{target.name}"
        subprocess.run(
            [compiler, "-shared", "-fPIC", soname, "-o", str(target), str(source)], check=True
        )


def _ask(what: str, folder: Path) -> Any:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parents[2]))),
        "LD_LIBRARY_PATH": str(folder),
    }
    command = [sys.executable, "-m", "tests.support.tensorrt_record", "--facts", what]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def record(top: Path) -> dict[str, Any]:
    """Everything, from wheels that are downloaded into ``top``."""
    found: dict[str, Any] = {"tensorrt": {}, "cuda": {}}
    for version, (wheel, major) in WHEELS.items():
        folder = top / f"tensorrt-{version}"
        _download(wheel, folder)
        empty = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in STUBS)
        _build_stubs(folder, major, empty)
        found["tensorrt"][version] = _ask("tensorrt", folder)
        assert _ask("ours", folder) == "ok"
        _build_stubs(folder, major, tensorrt_hollow.SOURCE)
        found["tensorrt"][version]["holds_the_gil"] = _ask("calls", folder)
    for version, wheel in CUDA_WHEELS.items():
        folder = top / f"cuda-{version}"
        _download(wheel, folder)
        _download(PATHFINDER, folder)
        found["cuda"][version] = _ask("cuda", folder)
        said = _ask("our-cuda", folder)
        assert said == "ok", said
    return found


ASKED: dict[str, Callable[[], Any]] = {
    "tensorrt": library_facts,
    "ours": ours_on_it,
    "calls": tensorrt_hollow.calls_on_it,
    "cuda": cuda_facts,
    "our-cuda": our_cuda,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--facts", choices=sorted(ASKED))
    arguments = parser.parse_args()
    if arguments.facts:
        print(json.dumps(ASKED[arguments.facts]()), flush=True)
        os._exit(0)  # destructors of a hollow library would crash
    with tempfile.TemporaryDirectory() as top:
        text = json.dumps(record(Path(top)), indent=1, sort_keys=True) + "\n"
    if arguments.write:
        RECORD.write_text(text)
        return 0
    same = text == RECORD.read_text()
    print("the bindings are as recorded" if same else "THE BINDINGS DIFFER FROM THE RECORD")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
