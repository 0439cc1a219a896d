"""Finding the agent, and what is said where it is not."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from device_agent.serving.doors import InferenceDoor
from edge_sdk.base import FormatError, RefusedError, UnavailableError, UsageError
from edge_sdk.client import NotAnAgentError, connect
from tests.support import onnx_models
from tests.support.agent_service import fake_agent
from tests.support.processes import wait_for
from tests.support.serving_door import listening, serving


def test_without_an_address_the_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither argument nor environment: the error says which to give."""
    for name in ("EDGE_AGENT_ADDRESS", "EDGE_INFERENCE_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="EDGE_AGENT_ADDRESS"):
        connect()


def test_the_environment_names_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EDGE_AGENT_ADDRESS is enough."""
    with fake_agent(tmp_path) as agent:
        agent.models["team/digits"] = ("1.0.0", tmp_path)
        monkeypatch.setenv("EDGE_AGENT_ADDRESS", agent.address)
        with connect() as client:
            assert client.models() == ("team/digits",)


def test_the_inference_address_is_learnt_from_the_agent(tmp_path: Path) -> None:
    """Asked once and kept; before it is known the error says to wait."""
    with fake_agent(tmp_path) as agent, connect(agent.address) as client:
        with pytest.raises(UnavailableError, match="no inference"):
            client.inference()
        agent.inference_address = f"unix:{tmp_path}/i.sock"
        assert client.inference() is client.inference()
        assert "i.sock" in client.inference().peer


def test_the_lane_is_where_the_agent_says(tmp_path: Path) -> None:
    """Also beside TCP; but not one that another machine's agent names, and not if unwanted."""
    model, x = "team/linear", {"x": np.ones((1, 4), np.float32)}
    with (
        listening(tmp_path, {model: onnx_models.linear(2.0)}) as made,
        fake_agent(tmp_path) as agent,
    ):
        tcp = InferenceDoor(made.table, made.dispatcher)
        tcp.open("127.0.0.1:0")
        agent.inference_address, agent.lane_address = tcp.address, made.door.address
        try:
            for fast_lane, connections in ((True, 1), (False, 0)):
                with connect(agent.address, fast_lane=fast_lane) as client:
                    assert (client.model(model).infer(x).outputs["y"] == 2).all()
                    assert made.lane.connections == connections
                wait_for(lambda: made.lane.connections == 0, "its end")
            with connect(agent.address) as client:
                assert client._lane_beside("unix:/x") == "unix:/x"
            with connect("127.0.0.1:1") as client:
                assert client._lane_beside("unix:/x") == ""
        finally:
            tcp.close()


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    """An agent that is not running is an UnavailableError that names the address."""
    with (
        connect(f"unix:{tmp_path}/none.sock") as client,
        pytest.raises(UnavailableError, match=r"none\.sock"),
    ):
        client.models()


def test_what_needs_the_agent_says_so(tmp_path: Path) -> None:
    """With the inference address alone, files cannot be held."""
    with (
        connect(inference=f"unix:{tmp_path}/i.sock") as client,
        pytest.raises(UsageError, match="agent"),
        client.model("team/digits").files(),
    ):
        pass


def test_the_inference_address_is_no_agents(tmp_path: Path) -> None:
    """Where inference's address was given as the agent's, each call says so and what to give."""
    door = serving(tmp_path).door
    door.open("127.0.0.1:0")
    address = door.address
    with contextlib.closing(door), connect(address) as client:
        model = client.model("team/digits")
        for ask in (client.models, client.inference, lambda: model.version):
            with pytest.raises(NotAnAgentError, match="inference=") as refused:
                ask()
            assert refused.value.facts == {"address": address}
            assert isinstance(refused.value, UsageError)
        with pytest.raises(NotAnAgentError), model.files():
            pass
        with pytest.raises(NotAnAgentError):
            next(model.events())


def test_addresses_and_names_are_checked() -> None:
    """Another machine, a malformed address and a malformed model name are refused at once."""
    with pytest.raises(RefusedError):
        connect("192.0.2.1:7000")
    with pytest.raises(UsageError):
        connect("agent")
    with connect("127.0.0.1:1") as client, pytest.raises(FormatError):
        client.model("digits")
