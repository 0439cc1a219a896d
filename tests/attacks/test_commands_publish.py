"""``edge-fleet`` and ``edge-quantize`` given hostile models and samples."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.attacked_command import assert_refused, call
from tests.support.fleet_service import FleetInMemory, serving
from tests.support.float_models import mlp_model
from tests.support.onnx_models import save

FLEET, QUANTIZE = "edge_sdk.fleet.cli", "quantize.cli"
DRAFT = ("--model", "team/digits", "--version", "1.0.0", "--variant", "fp32")


class Trap:
    """A pickle of it makes a file named ``sprung`` when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("sprung",)


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one good model, and samples that are not what they seem."""
    folder = tmp_path_factory.mktemp("publish")
    save(mlp_model(hidden=8), folder / "model.onnx")
    os.mkfifo(folder / "fifo")
    np.savez(folder / "object.npz", x=np.array([Trap()], dtype=object))
    for name, data in {
        "trap": pickle.dumps(Trap()),
        "huge": header(f"({2**70},)"),
        "code": header("__import__('os').mkdir('sprung')"),
    }.items():
        with zipfile.ZipFile(folder / f"{name}.npz", "w") as archive:
            archive.writestr("x.npy", data)
    locked = bytearray((folder / "huge.npz").read_bytes())
    locked[6] |= 1
    locked[locked.find(b"PK\x01\x02") + 8] |= 1
    (folder / "locked.npz").write_bytes(locked)
    (folder / "linked").mkdir()
    (folder / "linked" / "passwd").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _distributor() -> Iterator[None]:
    """One that lets everybody publish: who may is asked before a sample is opened."""
    with serving(FleetInMemory()) as address, pytest.MonkeyPatch.context() as patched:
        patched.setenv("EDGE_FLEET_DISTRIBUTOR", address)
        yield


@pytest.mark.parametrize(
    ("command", "sample"),
    [
        *(("publish", name) for name in ("object", "trap", "huge", "code", "locked", "fifo")),
        *(("compile", name) for name in ("object", "fifo")),
    ],
)
def test_hostile_samples_are_refused(made: Path, command: str, sample: str) -> None:
    """A sample with a pickle, an impossible shape, code or a password is refused unread, and
    a pipe is not waited for; nothing is made and nothing runs."""
    file = "fifo" if sample == "fifo" else f"{sample}.npz"
    if command == "publish":
        ended = call(FLEET, "publish", "model.onnx", *DRAFT, "--golden", file, folder=made)
    else:
        options = ("--target", "onnx-cpu-x86", "--calibration", file, "-o", "out")
        ended = call(QUANTIZE, "compile", "model.onnx", *options, folder=made)
    assert_refused(ended, 2 if sample == "fifo" else 3, file)
    assert not (made / "sprung").exists()


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [("linked", 3, "symbolic link"), ("", 2, "empty name"), ("fifo", 3, "fifo")],
)
def test_what_is_no_model_is_refused(made: Path, path: str, code: int, words: str) -> None:
    """A link out of the folder, an empty name and a pipe are refused before anything is sent."""
    assert_refused(call(FLEET, "publish", path, *DRAFT, folder=made), code, words)


def test_negative_seed_is_wrong_usage(made: Path) -> None:
    """A seed that no generator takes is refused by name."""
    refused = call(FLEET, "publish", "model.onnx", *DRAFT, "--seed", "-1", folder=made)
    assert_refused(refused, 2, "--seed")


def test_names_that_cannot_travel_are_refused(made: Path) -> None:
    """An operator's name that gRPC could not carry is wrong usage."""
    arguments = ("--distributor", "127.0.0.1:1", "--operator", "Jürgen", "models", "--json")
    assert_refused(call(FLEET, *arguments, folder=made), 2, "operator", as_json=True)


def test_output_never_takes_the_place_of_the_model(made: Path) -> None:
    """``-o`` with the folder that the model lies in is refused, also with --force."""
    (made / "mine").mkdir()
    (made / "mine" / "model.onnx").write_bytes((made / "model.onnx").read_bytes())
    options = ("--target", "onnx-cpu-x86", "--calibration", "huge.npz", "-o", "mine", "--force")
    ended = call(QUANTIZE, "compile", "mine/model.onnx", *options, folder=made)
    assert_refused(ended, 2, "holds the input mine/model.onnx")
