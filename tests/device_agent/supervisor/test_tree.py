"""The real process tree: kills, restarts, resumes and ends."""

from __future__ import annotations

import dataclasses
import errno
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from device_agent.access import own_token, running_address
from device_agent.config import AgentConfig
from device_agent.local_api.asking import AgentQuestions
from device_agent.store import Store
from device_agent.supervisor import Supervisor, tree
from edge_sdk.base import ConflictError, UnavailableError
from edge_sdk.rpc import Backoff
from tests.support.artifacts import ArtifactBytes, make_artifact, noise
from tests.support.delivery_server import DeliveryServer
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.processes import Command, wait_for

MIB = 1 << 20
FILES = noise(6 * MIB, "files")
UPDATER = ("updater_process",)
INFERENCE = ("device_agent.serving",)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DeliveryServer]:
    one = DeliveryServer(folder=tmp_path / "server").start()
    yield one
    one.stop()


@pytest.fixture
def command(tmp_path: Path, server: DeliveryServer) -> Iterator[Command]:
    """An agent that is not started yet."""
    arguments = [
        *("run", "--state", str(tmp_path / "s"), "--device", "kiosk-7"),
        *("--distributor", server.address, "--root", str(server.root_file)),
        *("--probation-s", "0.5"),
    ]
    environment = {
        "EDGE_AGENT_PROBATION_DEADLINE_S": "1",
        "EDGE_AGENT_RETRY_BASE_S": "0.05",
        "EDGE_AGENT_RETRY_CAP_S": "0.5",
        "EDGE_AGENT_DISK_RESERVE_BYTES": "0",
    }
    one = Command("device_agent.cli", arguments, tmp_path / "agent.log", environment)
    yield one
    one.stop()


@pytest.fixture
def agent(command: Command) -> Command:
    return command.start()


def ended(server: DeliveryServer, artifact: ArtifactBytes) -> str:
    return wait_for(
        lambda: next(
            (s for s in server.states(artifact) if s in ("committed", "failed", "rolled_back")), ""
        ),
        "the end of an update",
    )


def test_sigkill_in_the_middle_of_a_download_resumes(
    server: DeliveryServer, agent: Command, tmp_path: Path
) -> None:
    """The updater is killed while bytes arrive: at most one chunk is fetched again, inference
    is the same process before and after."""
    whole = make_artifact({"weights.bin": FILES})
    server.gate, server.gate_after_bytes = threading.Event(), 4 * MIB + 1000
    inference = agent.child(*INFERENCE).pid
    server.assign(whole)
    wait_for(server.held_back.is_set, "the stream to be held back")
    partial = tmp_path / "s" / "partial" / str(whole.artifact) / "file.0"
    wait_for(lambda: partial.exists() and partial.stat().st_size >= 4 * MIB, "four chunks")
    agent.child(*UPDATER).send_signal(signal.SIGKILL)
    server.gate.set()
    server.gate = None
    assert ended(server, whole) == "committed"
    _, offset, length = server.fetches[-1]
    again = server.fetches[0][2] - length
    assert offset >= 3 * MIB  # four chunks were here; at most the last is fetched again
    assert again >= 3 * MIB
    assert agent.child(*INFERENCE).pid == inference
    tree = Store(tmp_path / "s").tree(whole.artifact)
    assert (tree / "weights.bin").read_bytes() == FILES


def test_sigkill_in_the_middle_of_an_apply_resumes(
    server: DeliveryServer, agent: Command, tmp_path: Path
) -> None:
    """The same with a delta: proved chunks stay, the result is right byte for byte."""
    first = make_artifact({"weights.bin": FILES})
    server.assign(first)
    assert ended(server, first) == "committed"
    fresh, step = noise(6 * MIB, "fresh"), 64 << 10
    blocks = [
        (fresh if number % 2 else FILES)[number * step : (number + 1) * step]
        for number in range(len(FILES) // step)
    ]
    second = make_artifact({"weights.bin": b"".join(blocks)}, version="2.0.0")
    server.publish(second)
    methods = tuple(server.check_ins[-1].capabilities.delta_methods)
    size = len(server.deltas[server.delta(first.artifact, second.artifact, methods)])
    server.frame_bytes = 4096
    server.gate, server.gate_after_bytes = threading.Event(), size * 2 // 3
    server.held_back.clear()
    server.assign(second)
    wait_for(server.held_back.is_set, "the stream to be held back")
    partial = tmp_path / "s" / "partial" / str(second.artifact) / "file.0"
    wait_for(lambda: partial.exists() and partial.stat().st_size >= 3 * MIB, "three chunks")
    agent.child(*UPDATER).send_signal(signal.SIGKILL)
    server.gate.set()
    server.gate = None
    assert ended(server, second) == "committed"
    assert server.fetches[-1][1] >= size // 4
    tree = Store(tmp_path / "s").tree(second.artifact)
    assert (tree / "weights.bin").read_bytes() == second.files["weights.bin"]


def test_inference_is_started_again(server: DeliveryServer, agent: Command) -> None:
    """Killed inference comes back and serves what its slot names."""
    v1 = model_artifact(linear(1.0))
    server.assign(v1)
    assert ended(server, v1) == "committed"
    old = agent.child(*INFERENCE)
    old.kill()
    psutil.wait_procs([old])
    wait_for(lambda: agent.child(*INFERENCE).pid != old.pid, "another process")
    with AgentQuestions(agent.ready["agent_address"]) as questions:
        wait_for(lambda: questions.status()["inference_ready"], "inference")
        assert questions.models()[0]["version"] == "1.0.0"


# Python imports it at the start of each process: an engine that has come to hate version 2, and
# a supervisor that does not wait long.
HATES_VERSION_2 = """
import os, signal, sys
from pathlib import Path

if "device_agent.serving" in sys.orig_argv and Path({marker!r}).exists():
    from device_agent.serving.load import Loader

    right = Loader.load

    def load(self, order):
        if order.version == "2.0.0":
            os.kill(os.getpid(), signal.SIGKILL)
        return right(self, order)

    Loader.load = load
if "run" in sys.orig_argv:
    from device_agent.supervisor import tree
    from edge_sdk.rpc import Backoff

    tree._BACKOFF = Backoff(base_s=0.01, cap_s=0.05)  # the pauses between starts are not the point
"""


def test_a_committed_model_that_inference_dies_of_is_left_by_itself(
    server: DeliveryServer, command: Command, tmp_path: Path
) -> None:
    """After some starts that end in its loading, the version before serves, and the one that
    killed them is reported as rolled back."""
    marker = tmp_path / "marker"
    (tmp_path / "sitecustomize.py").write_text(HATES_VERSION_2.format(marker=str(marker)))
    command.extra_environment["PYTHONPATH"] = str(tmp_path)
    agent = command.start()
    v1 = model_artifact(linear(1.0))
    v2 = model_artifact(linear(2.0), version="2.0.0")
    for artifact in (v1, v2):
        server.assign(artifact)
        assert ended(server, artifact) == "committed"
    marker.touch()
    agent.child(*INFERENCE).kill()
    wait_for(lambda: server.states(v2)[-1] == "rolled_back", "the report")
    event = server.last_event(v2)
    assert event is not None
    assert event.reason == "CandidateRefusedError"
    with AgentQuestions(agent.ready["agent_address"]) as questions:
        wait_for(lambda: questions.status()["inference_ready"], "inference")
        assert questions.models()[0]["version"] == "1.0.0"


def test_a_candidate_that_kills_its_trial_is_refused(
    server: DeliveryServer, agent: Command, tmp_path: Path
) -> None:
    """An artifact that cannot even be loaded: failed with a reason, the old one serves on."""
    v1 = model_artifact(linear(1.0))
    server.assign(v1)
    assert ended(server, v1) == "committed"
    bad = model_artifact(linear(2.0), version="2.0.0", golden_of=linear(3.0))
    server.assign(bad)
    assert ended(server, bad) == "failed"
    event = server.last_event(bad)
    assert event is not None
    assert event.reason == "CandidateRefusedError"
    with AgentQuestions(agent.ready["agent_address"]) as questions:
        model = questions.models()[0]
    assert (model["version"], model["state"]) == ("1.0.0", "failed")


def test_nothing_outlives_a_killed_supervisor(agent: Command) -> None:
    """SIGKILL of the supervisor ends updater and inference too."""
    children = [agent.child(*UPDATER), agent.child(*INFERENCE)]
    agent.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_second_agent_does_not_steal_the_socket(
    server: DeliveryServer, agent: Command, tmp_path: Path
) -> None:
    """On the same folder it ends with a clear error; the first goes on."""
    second = Command("device_agent.cli", agent.arguments, tmp_path / "second.log").start()
    assert second.process.wait(20) == 7
    assert second.ready["error"]["reason"] == "ConflictError"
    assert "already runs" in second.said()
    assert "Traceback" not in second.said()
    with AgentQuestions(agent.ready["agent_address"]) as questions:
        assert questions.status()["device"] == "kiosk-7"


@pytest.mark.processes_measured
def test_sigterm_ends_cleanly(agent: Command, tmp_path: Path) -> None:
    """Exit 0, no process, no socket left, and the folder starts again."""
    assert agent.stop() == 0
    assert not (tmp_path / "s" / "agent.sock").exists()
    again = Command("device_agent.cli", agent.arguments, tmp_path / "again.log").start()
    assert again.stop() == 0


def test_ctrl_c_ends_cleanly(agent: Command, tmp_path: Path) -> None:
    """SIGINT ends it as SIGTERM does, with the exit code of every interrupted command."""
    children = agent.descendants()
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(30) == 130
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not (tmp_path / "s" / "agent.sock").exists()
    assert "Traceback" not in agent.said()


READY_THEN_REFUSED = (
    "import os, sys; handle = int(sys.argv[sys.argv.index('--ready-fd') + 1]);"
    "os.write(handle, b'unix:/nowhere\\n'); sys.exit(6)"
)


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Not run: its one child is tended by the test, and started again without pause."""
    monkeypatch.setattr(tree, "_BACKOFF", Backoff(base_s=0.0, cap_s=0.0))
    config = AgentConfig(state_dir=str(tmp_path), device="kiosk-7")
    one = Supervisor(config, serve=False, say=lambda line: None)
    yield one
    if one._updater_end.fileno() >= 0:
        one._stop()


def starts(supervisor: Supervisor, count: int) -> int:
    """Tends the child until it was started ``count`` times, or is given up."""
    child = supervisor._children[0]
    started = 0
    deadline_s = time.monotonic() + 60
    while started < count and not supervisor._stopping and time.monotonic() < deadline_s:
        before = child.process
        supervisor._tend(child)
        started += before is None and child.process is not None
        supervisor._listen(0.01)
    return started


def test_an_updater_that_was_ready_never_ends_the_agent(supervisor: Supervisor) -> None:
    """Whatever it dies of afterwards, inference goes on serving and it is started again."""
    supervisor._children[0].command = [sys.executable, "-c", READY_THEN_REFUSED]
    assert starts(supervisor, 8) == 8
    assert not supervisor._stopping


def test_an_updater_that_cannot_start_ends_the_agent(supervisor: Supervisor) -> None:
    """A wrong setting is said by the exit code, not by an endless row of starts."""
    supervisor._children[0].command = [sys.executable, "-c", "import sys; sys.exit(6)"]
    starts(supervisor, 8)
    assert supervisor._stopping
    assert supervisor._exit_code == 6


def test_a_process_that_does_not_end_leaves_no_socket(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at last, it could not clean up: its supervisor does. A stranger's live
    socket at an address of ours stays."""
    monkeypatch.setattr(tree, "_STOP_S", 0.2)
    path = Path(supervisor._config.agent_uri.removeprefix("unix:"))
    deaf = (
        "import signal, socket, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"door = socket.socket(socket.AF_UNIX); door.bind({str(path)!r}); door.listen();"
        "time.sleep(600)"
    )
    supervisor._children[0].command = [sys.executable, "-c", deaf]
    assert starts(supervisor, 1) == 1
    wait_for(lambda: path.exists() and tree.is_open(supervisor._config.agent_uri), "the socket")
    with socket.socket(socket.AF_UNIX) as stranger:
        theirs = Path(supervisor._config.inference_uri.removeprefix("unix:"))
        stranger.bind(str(theirs))
        stranger.listen()
        supervisor._stop()
        assert not path.exists()
        assert theirs.is_socket()


def test_a_process_that_cannot_be_made_is_tried_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory or descriptors short for a moment: what runs goes on."""
    child = supervisor._children[0]
    child.command = [sys.executable, "-c", "import time; time.sleep(60)"]

    def short(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", short)
        supervisor._tend(child)
    assert (child.process, child.failures) == (None, 1)
    assert starts(supervisor, 1) == 1


def test_every_signal_has_words() -> None:
    """Real-time signals have no name."""
    assert tree._how(-9) == "signal SIGKILL"
    assert tree._how(-40) == "signal 40"


def test_an_updater_started_again_answers_at_the_same_port(
    server: DeliveryServer, tmp_path: Path
) -> None:
    """Port 0 is chosen once: a killed updater comes back where its clients ask."""
    arguments = [
        *("run", "--state", str(tmp_path / "s"), "--device", "kiosk-7"),
        *("--local-address", "127.0.0.1:0", "--inference-address", "127.0.0.1:0"),
    ]
    agent = Command("device_agent.cli", arguments, tmp_path / "agent.log").start()
    try:
        old = agent.child(*UPDATER)
        old.kill()
        psutil.wait_procs([old])
        token = own_token(tmp_path / "s")
        assert running_address(tmp_path / "s") == agent.ready["agent_address"]
        with AgentQuestions(agent.ready["agent_address"], token) as questions:
            status = wait_for(lambda: answered(questions), "the updater")
        assert status["inference_address"] == agent.ready["inference_address"]
    finally:
        agent.stop()


DOOR = (
    "import os, socket, sys, time; door = socket.create_server((sys.argv[1], int(sys.argv[2])));"
    "os.write(int(sys.argv[4]), b'here\\n'); time.sleep(600)"
)


def test_ready_means_what_it_says(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and REST are named where they answer, neither before nor when their address is
    somebody else's: a stranger who came in between is not taken for them."""
    told: list[dict[str, str]] = []
    supervisor._on_ready = lambda agent, inference, doors: told.append(dict(doors))
    supervisor._agent_address = "unix:/somewhere"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        doors = []
        for name, where in (("metrics", address), ("rest", taken)):
            supervisor._config = dataclasses.replace(
                supervisor._config, **{f"{name}_address": where}
            )
            door = getattr(supervisor, f"_{name}")()
            door.command = [sys.executable, "-c", DOOR, *where.split(":")]
            doors.append(door)
        supervisor._children = doors
        supervisor._listen(0.01)
        assert told == []
        for door in doors:
            supervisor._tend(door)

        def ready() -> bool:
            supervisor._listen(0.01)
            supervisor._tend(doors[1])
            return bool(told)

        wait_for(ready, "the word that it is ready")
    assert told == [{"metrics": address}]


def answered(questions: AgentQuestions) -> dict[str, object] | None:
    try:
        return questions.status()
    except UnavailableError:
        return None


@pytest.mark.parametrize(
    "which", ["local_address", "inference_address", "metrics_address", "rest_address"]
)
def test_a_stranger_on_an_address_ends_the_start(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who listens there is never taken for a process of ours; nothing is started."""
    monkeypatch.setattr(tree, "_ADDRESS_FREE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        config = AgentConfig(state_dir=str(tmp_path / "s"), device="kiosk-7", **{which: address})
        Store.create(tmp_path / "s")
        previous = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        before = psutil.Process().children()
        try:
            with pytest.raises(ConflictError, match="another program listens") as refused:
                Supervisor(config).run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    assert address in refused.value.message
    assert psutil.Process().children() == before
