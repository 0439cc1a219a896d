"""The real inference process: who may come in, by socket and by token."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from device_agent.access import AppTokens, own_token
from device_agent.cli.settings import with_free_port
from device_agent.config import LocalConfig
from device_agent.store import Slot, Store
from edge_sdk.base import UnauthenticatedError
from edge_sdk.client import Model, connect
from tests.support import onnx_models
from tests.support.held_models import hold
from tests.support.inference_process import inference
from tests.support.open_folder import open_folder
from tests.support.processes import wait_for

MODEL = "team/digits"
ONES = np.ones((1, 4), np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    one = Store.create(tmp_path / "state")
    one.slot_files.put(Slot(model=MODEL, active=hold(one, onnx_models.linear(2.0))))
    return one


def test_the_group_of_the_role_infer(store: Store) -> None:
    """Both of its sockets are the group's, and answer without a token."""
    local = LocalConfig(infer_group=str(os.getgid()))
    with open_folder() as folder:
        address = f"unix:{folder}/inference.sock"
        with inference(store, inference_address=address, local=local):
            for name in ("inference.sock", "inference.sock.lane"):
                status = (folder / name).stat()
                assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())
            for fast_lane in (True, False):
                with connect(inference=address, fast_lane=fast_lane) as client:
                    assert client.model(MODEL).infer({"x": ONES}).version == "1.0.0"


def test_over_tcp_a_token(store: Store) -> None:
    """On loopback, too; an app that is added while it runs is let in, and out when removed."""
    tokens = AppTokens(store.root)
    address = with_free_port("127.0.0.1:0")
    with inference(store, inference_address=address):
        with connect(inference=address) as client, pytest.raises(UnauthenticatedError):
            client.model(MODEL).infer({"x": ONES})
        token = tokens.add("camera", ["infer"])
        with connect(inference=address, token=token) as client:
            model = client.model(MODEL)
            assert model.infer({"x": ONES}).version == "1.0.0"
            tokens.remove("camera")
            wait_for(lambda: _is_refused(model), "the removed app to be out")
        with connect(inference=address, token=own_token(store.root, make=True)) as client:
            assert client.model(MODEL).infer({"x": ONES}).version == "1.0.0"


def _is_refused(model: Model) -> bool:
    try:
        model.infer({"x": ONES})
    except UnauthenticatedError:
        return True
    return False
