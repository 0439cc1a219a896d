"""AgentService over its real server, with an updater behind it and one that is scripted."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.access import own_token
from device_agent.config import AgentConfig, LocalConfig
from device_agent.local_api import LocalApi
from device_agent.local_api.asking import AgentQuestions
from device_agent.supervisor.updater_process import Door
from edge_sdk.base import (
    BusyError,
    ConflictError,
    NotFoundError,
    RefusedError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
)
from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.protos import agent_v1_pb2_grpc as stubs
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.open_folder import open_folder
from tests.support.updater_rig import Rig

V1 = model_artifact(linear(1.0), version="1.0.0", extra={"labels.txt": b"a\n"})
V2 = model_artifact(linear(2.0), version="2.0.0")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path)
    one.server.assign(V1)
    one.start()
    try:
        one.wait_for_end(V1, "committed")
        yield one
    finally:
        one.close()


@pytest.fixture
def uri(rig: Rig) -> Iterator[str]:
    with LocalApi(Door(rig.updater), rig.config) as api:
        yield api.address


@pytest.fixture
def agent(uri: str) -> Iterator[AgentQuestions]:
    with AgentQuestions(uri) as one:
        yield one


def test_status_and_models(rig: Rig, agent: AgentQuestions) -> None:
    """What runs, how the agent is, and where inference listens."""
    status = agent.status()
    assert status["device"] == "kiosk-7"
    assert status["distributor"] == rig.server.address
    assert status["inference_address"] == rig.config.inference_uri
    assert (status["connected"], status["inference_ready"]) == (True, True)
    (model,) = agent.models()
    assert status["models"] == [model]
    assert (model["model"], model["version"], model["state"]) == (
        "team/digits",
        "1.0.0",
        "committed",
    )
    assert model["artifact"] == str(V1.artifact)


def test_update_now_takes_up_what_is_new(rig: Rig, agent: AgentQuestions) -> None:
    """The answer comes when the assignment was accepted."""
    rig.server.assign(V2)
    assert agent.update_now() == 2
    rig.wait_for_end(V2, "committed")
    rig.server.stop()
    with pytest.raises(UnavailableError):
        agent.update_now()


def test_rollback(rig: Rig, agent: AgentQuestions) -> None:
    """Names what will serve; an unknown model is NotFoundError, as in Python."""
    with pytest.raises(NotFoundError, match="team/other"):
        agent.roll_back("team/other")
    rig.server.assign(V2)
    rig.wait_for_end(V2, "committed")
    assert agent.roll_back("team/digits") == {"version": "1.0.0", "artifact": str(V1.artifact)}
    rig.wait(lambda: rig.active() == V1.artifact, "v1")


def test_rollback_of_an_update_in_progress(rig: Rig, agent: AgentQuestions) -> None:
    """Refused while it is fetched: nothing of it serves yet."""
    rig.server.assign(V2)
    rig.wait_for_end(V2, "committed")
    rig.server.gate = threading.Event()
    v3 = model_artifact(linear(3.0), version="3.0.0")
    rig.server.assign(v3)
    rig.wait(rig.server.held_back.is_set, "the stream")
    assert agent.models()[0]["candidate_version"] == "3.0.0"
    with pytest.raises(RefusedError):
        agent.roll_back("team/digits")


def test_events_are_kept_and_go_on(rig: Rig, agent: AgentQuestions) -> None:
    """All kept ones in order, then new ones; from a number on; of one model."""
    seen = agent.events(0, "", wait_s=30)
    first = [next(seen) for _ in range(8)]
    assert [event["number"] for event in first] == list(range(1, 9))
    assert first[-1]["state"] == "committed"
    rig.server.assign(V2)
    following = next(seen)
    assert (following["number"], following["version"]) == (9, "2.0.0")
    rig.wait_for_end(V2, "committed")
    assert next(agent.events(5, "team/digits", wait_s=30))["number"] == 6
    with pytest.raises(UnavailableError):
        list(agent.events(0, "team/other", wait_s=0.7))


def test_hold_keeps_the_folder_while_the_stream_is_open(rig: Rig, uri: str) -> None:
    """Two versions later the folder is still there; when the stream ends it goes."""
    channel = open_channel(uri, Credentials())
    stream = stubs.AgentServiceStub(channel).Hold(wire.HoldRequest(model="team/digits"))
    held = next(iter(stream))
    assert held.version == "1.0.0"
    assert "labels.txt" in held.files
    for version in (V2, model_artifact(linear(3.0), version="3.0.0")):
        rig.server.assign(version)
        rig.wait_for_end(version, "committed")
    assert (Path(held.folder) / "labels.txt").read_bytes() == b"a\n"
    stream.cancel()
    rig.wait(lambda: not Path(held.folder).exists(), "the folder to be collected")
    with pytest.raises(NotFoundError), typed_errors("the agent"):
        next(iter(stubs.AgentServiceStub(channel).Hold(wire.HoldRequest(model="a/b"))))
    channel.close()


def test_streams_do_not_use_up_the_server(uri: str, agent: AgentQuestions) -> None:
    """Beyond the limit a stream is refused; calls are answered still."""
    channels = [open_channel(uri, Credentials(), options=[("number", n)]) for n in range(25)]
    streams = [
        stubs.AgentServiceStub(channel).Hold(wire.HoldRequest(model="team/digits"))
        for channel in channels[:24]
    ]
    for stream in streams:
        next(iter(stream))
    with pytest.raises(BusyError), typed_errors("the agent"):
        extra = stubs.AgentServiceStub(channels[24]).Hold(wire.HoldRequest(model="team/digits"))
        next(iter(extra))
    assert agent.status()["device"] == "kiosk-7"
    for stream in streams:
        stream.cancel()
    for channel in channels:
        channel.close()


def test_a_tcp_address_with_a_free_port(rig: Rig) -> None:
    """Port 0 is answered by the real one, and only to those who show a token."""
    config = replace(rig.config, local_address="127.0.0.1:0")
    token = own_token(Path(config.state_dir), make=True)
    with LocalApi(Door(rig.updater), config) as api:
        assert not api.address.endswith(":0")
        with AgentQuestions(api.address, token) as agent:
            assert agent.status()["device"] == "kiosk-7"
        with AgentQuestions(api.address) as agent, pytest.raises(UnauthenticatedError):
            agent.status()


def test_a_role_has_a_socket_of_its_own(rig: Rig) -> None:
    """Where roles have groups, each has its socket: there it may do what is its own, no more."""
    gid = str(os.getgid())
    local = LocalConfig(infer_group=gid, observe_group=gid, control_group=gid)
    with open_folder() as folder:
        config = replace(rig.config, local=local, local_address=f"unix:{folder}/agent.sock")
        _check_roles(rig, config)
        assert list(folder.iterdir()) == []


def _check_roles(rig: Rig, config: AgentConfig) -> None:
    with LocalApi(Door(rig.updater), config) as api:
        sockets = {"control": api.address, "observe": config.observe_uri, "infer": config.apps_uri}
        for role, uri in sockets.items():
            status = Path(uri.removeprefix("unix:")).stat()
            assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, os.getgid())
            with AgentQuestions(uri) as agent:
                assert agent.status()["device"] == "kiosk-7"
                acts = {"control": agent.update_now, "observe": agent.statistics}
                for needed, act in acts.items():
                    if role in ("control", needed):
                        act()
                    else:
                        with pytest.raises(TrustError, match=f"not for the role {role}"):
                            act()
            with open_channel(uri, Credentials()) as channel:
                held = stubs.AgentServiceStub(channel).Hold(wire.HoldRequest(model="team/digits"))
                if role == "observe":
                    with pytest.raises(TrustError), typed_errors("the agent"):
                        next(iter(held))
                else:
                    assert next(iter(held)).version == "1.0.0"
                    held.cancel()


def test_without_configuration_the_socket_is_the_owners(rig: Rig, uri: str) -> None:
    """One socket, nobody else's, whatever the umask."""
    names = [path.name for path in Path(rig.config.state_dir).iterdir() if path.is_socket()]
    assert names == ["agent.sock"]
    assert stat.S_IMODE(Path(uri.removeprefix("unix:")).stat().st_mode) == 0o600


def test_those_who_fill_one_socket_keep_nobody_from_another(rig: Rig) -> None:
    """Calls that never say what they want take all threads of the role infer; control answers."""
    local = LocalConfig(infer_group=str(os.getgid()))
    with open_folder() as folder, ExitStack() as stack:
        config = replace(rig.config, local=local, local_address=f"unix:{folder}/agent.sock")
        api = stack.enter_context(LocalApi(Door(rig.updater), config))
        over = threading.Event()

        def silent() -> Iterator[bytes]:
            over.wait(30)
            yield b""

        with open_channel(config.apps_uri, Credentials()) as channel:
            ask = channel.stream_unary("/edge.agent.v1.AgentService/Status")
            waiting = [ask.future(silent()) for _ in range(40)]
            with AgentQuestions(api.address) as agent:
                assert agent.status()["device"] == "kiosk-7"
            for one in waiting:
                one.cancel()
            over.set()


def test_a_live_address_is_not_stolen(rig: Rig, uri: str, tmp_path: Path) -> None:
    """Neither a socket nor a port."""
    with pytest.raises(ConflictError), LocalApi(Door(rig.updater), rig.config):
        pass
    with AgentQuestions(uri) as agent:
        assert agent.status()["device"] == "kiosk-7"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = replace(rig.config, local_address=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConflictError), LocalApi(Door(rig.updater), config):
            pass


def test_an_address_of_another_machine_is_refused(rig: Rig) -> None:
    """Plaintext goes no further than this device, token or not."""
    config = replace(rig.config, local_address="203.0.113.9:80")
    with pytest.raises(RefusedError), LocalApi(Door(rig.updater), config):
        pass
