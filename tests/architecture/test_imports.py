"""Who may import whom: the contracts of pyproject.toml, and what they cannot say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import PACKAGES, ROOT, imports_of, module_name, python_files

# Only here may gRPC and the generated messages be imported (design: doors).
DOORS = (
    "edge_sdk.rpc",
    "edge_sdk.client",
    "edge_sdk.fleet",
    "edge_sdk.identity",
    "device_agent.access.guard",
    "device_agent.access.prompt",
    "device_agent.fleet_link",
    "device_agent.local_api",
    "device_agent.rest",
    "device_agent.serving.doors",
    "distributor.server",
    "distributor.services",
    "distributor.relay",
)
WIRE = ("grpc", "grpc_status", "grpc_health", "grpc_reflection", "edge_sdk.protos")


def within(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def test_contracts_are_kept() -> None:
    """Every import contract holds."""
    ended = subprocess.run(
        [sys.executable, "-c",
         "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:]
    assert "0 broken" in ended.stdout


def test_grpc_stays_in_the_doors() -> None:
    """No module outside the doors imports gRPC or the generated messages, new ones included."""
    found = {
        f"{path}: {name}"
        for path in python_files(*PACKAGES)
        if not within(module_name(path), DOORS)
        for name in imports_of(path)
        if within(name, WIRE)
    }
    assert found == set()


def test_packages_import_no_tests() -> None:
    """Nothing that is installed imports tests, demo or benchmarks."""
    found = {
        f"{path}: {name}"
        for path in python_files(*PACKAGES)
        for name in imports_of(path)
        if within(name, ("tests", "demo", "benchmarks"))
    }
    assert found == set()


def test_python_310_is_enough_for_sdk_and_agent() -> None:
    """The SDK and the agent use no module or name that Python 3.10 lacks."""
    newer = {
        "tomllib", "asyncio.TaskGroup", "asyncio.timeout", "datetime.UTC", "enum.StrEnum",
        "hashlib.file_digest", "typing.Self", "typing.assert_never", "typing.Never",
        "typing.LiteralString", "typing.NotRequired", "typing.override",
    }  # fmt: skip
    found = {
        f"{path}: {name}"
        for path in python_files("edge_sdk", "device_agent")
        for name in imports_of(path)
        if name in newer
    }
    assert found == {f"{Path('edge_sdk/base/command.py')}: tomllib"}  # tomli stands in there


WITHOUT_UNIX = """
import importlib, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None  # as on Windows: importing it fails
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_operators_and_apps_need_no_unix() -> None:
    """edge-fleet, edge-delta and the client import without the modules that only Unix has."""
    names = ["edge_sdk.delta.cli", "edge_sdk.fleet.cli", "edge_sdk.client"]
    subprocess.run([sys.executable, "-c", WITHOUT_UNIX, *names], check=True, timeout=60)


LIGHT = """
import importlib, sys
importlib.import_module(sys.argv[1])
heavy = set(sys.argv[2:]) & set(sys.modules)
assert not heavy, sorted(heavy)
"""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("edge_sdk.delta.cli", ["grpc", "google.protobuf", "onnxruntime", "sqlalchemy"]),
        ("edge_sdk.client", ["onnxruntime", "onnx", "sqlalchemy", "distributor", "device_agent"]),
        ("edge_sdk.fleet.cli", ["onnxruntime", "onnx", "sqlalchemy", "distributor"]),
        ("distributor.cli", ["onnxruntime", "onnx", "device_agent"]),
        ("device_agent.cli", ["onnx", "sqlalchemy", "obstore", "distributor"]),
        ("quantize.cli", ["onnxruntime", "onnx", "grpc"]),
        ("device_agent.supervisor.inference_process", ["grpc", "msgspec", "numpy", "asyncio"]),
        ("device_agent.supervisor.metrics_process", ["grpc", "google.protobuf", "numpy"]),
    ],
)
def test_what_a_command_needs_is_what_it_loads(module: str, heavy: list[str]) -> None:
    """Starting a command loads nothing that its extra does not have, or that --help can wait for."""
    subprocess.run([sys.executable, "-c", LIGHT, module, *heavy], check=True, timeout=60)
