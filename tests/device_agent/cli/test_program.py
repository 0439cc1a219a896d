"""``edge-agent``: every command against a running agent, and without one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from device_agent.access import AppTokens, listening
from device_agent.cli import main
from device_agent.cli.settings import read_config, with_free_port
from device_agent.config import CacheConfig, LocalConfig, ModelConfig, ProbationConfig
from device_agent.local_api import LocalApi
from device_agent.records import Cached, Loading, Switch
from device_agent.store import Store
from device_agent.supervisor.updater_process import Door
from device_agent.updater.probation import Probation
from edge_sdk.base import ResourceError, UnavailableError, UsageError
from tests.support.commands import Ran, run_main
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig, mirrored

V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")
V3 = model_artifact(linear(3.0), version="3.0.0")


@pytest.fixture
def edge_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Runs the command in this process."""
    return lambda *arguments: run_main(main, list(arguments), capsys, monkeypatch)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path)
    one.start()
    try:
        for version in (V1, V2):
            one.server.assign(version)
            one.wait_for_end(version, "committed")
        with LocalApi(Door(one.updater), one.config):
            yield one
    finally:
        one.close()


def test_status_models_update(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """For people and as one JSON document."""
    state = ("--state", str(rig.state))
    shown = edge_agent("status", *state)
    assert shown.code == 0
    assert "kiosk-7" in shown.out
    assert "team/digits" in shown.out
    document = edge_agent("status", *state, "--json").document
    assert document["models"][0]["version"] == "2.0.0"
    listed = edge_agent("models", *state, "--json").document
    assert listed["models"] == document["models"]
    assert "2.0.0" in edge_agent("models", *state).out
    updated = edge_agent("update", *state, "--json")
    assert updated.document == {"assignment_counter": 2}
    assert "2" in edge_agent("update", *state).out


def test_status_shows_the_use_of_caches(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """Nothing for a model without a cache; else counts, and for each level its hits per request
    that asked it."""
    state = ("--state", str(rig.state))
    assert edge_agent("status", *state, "--json").document["models"][0]["cache"] is None
    assert "cache" not in edge_agent("status", *state).out
    said = Cached(model="team/digits", memory_hits=6, shared=1, misses=3, entries=3)
    rig.updater.loop.put(lambda: rig.updater.peer.hear(said))
    cache = edge_agent("status", *state, "--json").document["models"][0]["cache"]
    assert (cache["memory_hits"], cache["shared"], cache["misses"]) == (6, 1, 3)
    assert (cache["memory_hit_rate"], cache["file_hit_rate"]) == (0.6, 0.0)
    shown = edge_agent("models", *state).out.splitlines()[-1]
    assert shown.startswith("cache of team/digits: memory 60% of requests (3 entries, ")
    empty = Cached(model="team/digits")
    rig.updater.loop.put(lambda: rig.updater.peer.hear(empty))
    assert "memory - of requests" in edge_agent("models", *state).out


def test_status_shows_a_canary(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """Its share, and what both versions gave to the same requests; nothing at rest."""
    state = ("--state", str(rig.state))
    assert edge_agent("status", *state, "--json").document["models"][0]["watching"] is None
    config = ProbationConfig(mode="canary", share=0.25)
    probation = Probation(config, comparable=True, mode="canary")
    order = Switch(model="team/digits", artifact=V2.artifact, probation=True)

    def watched() -> None:
        probation.take(mirrored(order, pairs=40, slower=1.5, agreed=30))
        rig.updater.updates["team/digits"].probation = probation

    rig.updater.loop.ask(watched)
    watching = edge_agent("status", *state, "--json").document["models"][0]["watching"]
    assert (watching["mode"], watching["share"]) == ("canary", 0.25)
    assert watching["ratio"] == pytest.approx(1.5, abs=1e-3)
    assert (watching["requests"], watching["mirrored"], watching["agreed"]) == (40, 40, 30)
    assert edge_agent("status", *state).out.splitlines()[-1] == (
        "canary of team/digits: answers 25%, 40 requests (0 failed), 40 run on both (0 left out): "
        "1.50 of the time before, 30 the same, 100% of first choices the same"
    )


def test_status_says_what_is_not_served(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """A model that inference cannot load is not shown as one that serves: the reason stands in
    table and document, and is the exit code's. Once it answers, nothing is left of it."""
    state = ("--state", str(rig.state))
    inference = rig.inference
    assert inference is not None
    document = edge_agent("status", *state, "--json").document
    assert (document["models"][0]["serves"], document["models"][0]["unserved_reason"]) == (True, "")
    inference.reason, inference.refuses = "ResourceError", {V2.artifact}
    inference.pid, inference.serving = inference.pid + 1, {"team/digits": V1.artifact}
    inference.hello()
    rig.wait(lambda: "ResourceError" in edge_agent("models", *state).out, "the reason")
    told = "2.0.0 is not served: ResourceError: as the test wants; 1.0.0 answers instead"
    shown = edge_agent("status", *state)
    assert shown.code == ResourceError.exit_code
    assert f"team/digits: {told}" in shown.out.splitlines()
    assert told in shown.err
    failed = edge_agent("status", *state, "--json")
    assert failed.code == ResourceError.exit_code
    (model,) = failed.document["models"]
    assert (model["serves"], model["unserved_reason"]) == (False, "ResourceError")
    assert model["state"] == "committed"
    inference.refuses = set()
    inference.hello()
    rig.wait(lambda: edge_agent("status", *state).code == 0, "an answer with version 2")
    assert "not served" not in edge_agent("status", *state).out


def test_status_waits_for_inference(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """While inference is started again nothing is served, and status ends as for a peer that
    does not answer."""
    state = ("--state", str(rig.state))
    loading = Loading(pid=7, model="team/digits", artifact=V2.artifact)
    rig.updater.loop.ask(lambda: rig.updater.peer.hear(loading))
    shown = edge_agent("status", *state)
    assert shown.code == UnavailableError.exit_code
    assert "2.0.0 is not served: UnavailableError" in shown.err


def test_status_shows_what_serves_beside_what_failed(
    rig: Rig, edge_agent: Callable[..., Ran]
) -> None:
    """A refused candidate is shown as such, with its reason; what serves is shown as before."""
    state = ("--state", str(rig.state))
    assert rig.inference is not None
    rig.inference.refuses = {V3.artifact}
    rig.server.assign(V3)
    rig.wait_for_end(V3, "failed")
    shown = edge_agent("status", *state)
    assert shown.code == 0
    told = next(line for line in shown.out.splitlines() if "1.0.0" in line)
    assert told.split() == ["team/digits", "2.0.0", "fp32", "yes", "1.0.0", "3.0.0", "failed"]
    assert "team/digits: 3.0.0 failed: EngineError: as the test wants" in shown.out.splitlines()
    (model,) = edge_agent("status", *state, "--json").document["models"]
    assert (model["version"], model["serves"]) == ("2.0.0", True)
    assert (model["candidate_version"], model["state"]) == ("3.0.0", "failed")


def test_rollback(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """Back to the version before; an unknown model ends with exit 7."""
    state = ("--state", str(rig.state))
    back = edge_agent("rollback", "team/digits", *state, "--json")
    assert back.document["version"] == "1.0.0"
    rig.wait(lambda: rig.active() == V1.artifact, "v1")
    other = edge_agent("rollback", "team/other", *state)
    assert (other.code, other.out) == (7, "")
    assert "team/other" in other.err


def test_events(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """What is kept, in order, as lines or one document."""
    state = ("--state", str(rig.state), "--after", "8")
    shown = edge_agent("events", *state)
    assert shown.code == 0
    assert len(shown.out.splitlines()) == 8
    assert "committed" in shown.out.splitlines()[-1]
    document = edge_agent("events", *state, "--json").document
    assert [event["number"] for event in document["events"]] == list(range(9, 17))


@pytest.mark.parametrize("command", ["status", "models", "update", "events"])
def test_no_agent_there(tmp_path: Path, command: str, edge_agent: Callable[..., Ran]) -> None:
    """Exit 5 and one line that says where it looked."""
    ran = edge_agent(command, "--state", str(tmp_path))
    assert ran.code == 5
    assert ran.err == (
        f"edge-agent: no agent runs at unix:{tmp_path}/agent.sock: start it with 'edge-agent "
        "run', or say where it is with --state or --local-address\n"
    )


@pytest.mark.parametrize("command", ["status", "models", "update", "events", "bench"])
def test_a_running_agent_is_found_by_its_folder(
    tmp_path: Path, command: str, edge_agent: Callable[..., Ran]
) -> None:
    """Wherever it listens, over TCP too; who names an address asks there."""
    with listening(tmp_path, f"unix:{tmp_path}/one.sock"):
        ran = edge_agent(command, "--state", str(tmp_path))
        assert (ran.code, f"unix:{tmp_path}/one.sock" in ran.err) == (5, True), ran.err
        there = ("--local-address", f"unix:{tmp_path}/other.sock")
        ran = edge_agent(command, "--state", str(tmp_path), *there)
        assert (ran.code, f"unix:{tmp_path}/other.sock" in ran.err) == (5, True), ran.err


def test_an_agent_that_is_gone(tmp_path: Path, edge_agent: Callable[..., Ran]) -> None:
    """A socket at which nobody listens any more: the cause in a few words, nothing of gRPC."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "agent.sock"))
    ran = edge_agent("status", "--state", str(tmp_path))
    assert ran.code == 5
    assert ran.err == (
        f"edge-agent: cannot reach the agent at unix:{tmp_path}/agent.sock: Connection refused; "
        "is it running there?\n"
    )


def test_config_show_says_where_from(
    tmp_path: Path, edge_agent: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag before environment before file before default."""
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\ndevice = "from-file"\ncheck_in_s = 5\nlabels = {site = "oslo"}\n')
    monkeypatch.setenv("EDGE_AGENT_DEVICE", "from-env")
    arguments = ("config", "show", "--config", str(file), "--state", "/x")
    document = edge_agent(*arguments, "--json").document
    assert document["device"] == {"value": "from-env", "from": "environment EDGE_AGENT_DEVICE"}
    assert document["state_dir"]["from"] == "flag"
    assert document["check_in_s"]["from"] == f"file {file}"
    assert document["watch"]["from"] == "default"
    assert "from-env" in edge_agent(*arguments).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name"),
        (["run", "--device", "Bad Name"], "Bad Name"),
        (["run", "--device", "d", "--label", "x"], "key=value"),
        (["run", "--device", "d", "--local-address", "nonsense"], "nonsense"),
        (["run", "--device", "d", "--memory-bytes", "-1"], "memory_bytes"),
        (["run", "--device", "d", "--label", "Bad=x"], "Bad"),
        (["run", "--device", "d", "--cache", "team/digits"], "MODEL=MEMORY_BYTES"),
        (["run", "--device", "d", "--cache", "team/digits=5:"], "MODEL=MEMORY_BYTES"),
        (["run", "--device", "d", "--cache", "digits=5"], "namespace"),
        (["run", "--device", "d", "--probation-mode", "half"], "switch, canary, shadow"),
        (["run", "--device", "d", "--probation-share", "0"], "share of a canary"),
        (["rollback", "digits"], "namespace"),
        (["events", "--model", "digits"], "namespace"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, arguments: list[str], said: str, edge_agent: Callable[..., Ran]
) -> None:
    """Exit 2, also for a name that cannot be; one line, nothing made."""
    more = ["--state", str(tmp_path / "s")] if arguments[0] == "run" else []
    ran = edge_agent(*arguments, *more)
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "s").exists()


def test_a_misspelt_key_is_noticed(tmp_path: Path, edge_agent: Callable[..., Ran]) -> None:
    """A key that nothing asks for is most likely a mistake."""
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\ndevcie = "x"\n')
    ran = edge_agent("config", "show", "--config", str(file))
    assert ran.code == 2
    assert "devcie" in ran.err


def test_a_folder_of_another_release(tmp_path: Path, edge_agent: Callable[..., Ran]) -> None:
    """Refused with what to do, before a process starts."""
    Store.create(tmp_path / "s")
    (tmp_path / "s" / "FORMAT").write_text("99\n")
    arguments = ("run", "--state", str(tmp_path / "s"), "--device", "d")
    ran = edge_agent(*arguments)
    assert ran.code == 3
    assert "format 99" in ran.err


def test_a_folder_of_another_device(rig: Rig, edge_agent: Callable[..., Ran]) -> None:
    """A folder that holds another device's assignment ends the start at once, with one line
    that names the owner; no process is started."""
    rig.stop()
    before = psutil.Process().children()
    ran = edge_agent("run", "--state", str(rig.state), "--device", "kiosk-8")
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert "belongs to device 'kiosk-7', not 'kiosk-8'" in ran.err
    assert psutil.Process().children() == before


def test_doctor(rig: Rig, tmp_path: Path, edge_agent: Callable[..., Ran]) -> None:
    """All well, then a factory root that rotted, then a rotten active file, then no folder."""
    state = ("--state", str(rig.state))
    assert edge_agent("doctor", *state).code == 0
    copies = [rig.state / "trust" / name for name in ("root.json", "root.copy.json")]
    whole = copies[0].read_bytes()
    for copy in copies:
        copy.write_bytes(b"rot")
    assert "factory root" in edge_agent("doctor", *state).err
    copies[0].write_bytes(whole)
    assert edge_agent("doctor", *state).code == 0
    path = Store(rig.state).tree(V2.artifact) / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(b"rot")
    bad = edge_agent("doctor", *state)
    assert bad.code == 6
    assert "team/digits" in bad.err
    none = edge_agent("doctor", "--state", str(tmp_path / "no"))
    assert none.code == 6


def test_settings_as_a_value(tmp_path: Path) -> None:
    """Flags become the configuration that the processes get."""
    config, _ = read_config(
        {
            "state_dir": str(tmp_path),
            "device": "kiosk-7",
            "labels": ("site=oslo", "kind=b"),
            "probation_s": 7.0,
            "probation_mode": "canary",
            "probation_share": 0.5,
        }
    )
    assert config.labels == {"site": "oslo", "kind": "b"}
    assert config.probation.duration_s == 7.0
    assert (config.probation.mode, config.probation.share) == ("canary", 0.5)
    with pytest.raises(UsageError):
        read_config({"state_dir": str(tmp_path)})


def test_the_lane_can_be_turned_off(tmp_path: Path) -> None:
    """By flag or file; a flag wins."""
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\ndevice = "d"\nfast_lane = false\n')
    assert read_config({"device": "d"})[0].fast_lane
    assert not read_config({"device": "d", "fast_lane": False})[0].fast_lane
    assert not read_config({"file": file})[0].fast_lane
    assert read_config({"file": file, "fast_lane": True})[0].fast_lane


def test_free_ports() -> None:
    """Port 0 becomes a real one; other addresses stay."""
    assert with_free_port("127.0.0.1:7") == "127.0.0.1:7"
    assert with_free_port("unix:/x:0") == "unix:/x:0"
    host, _, port = with_free_port("127.0.0.1:0").rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)


def test_apps(edge_agent: Callable[..., Ran], tmp_path: Path) -> None:
    """A token is shown once, or written to a file of the owner's; lists never have it."""
    state = ("--state", str(tmp_path))
    made = edge_agent("apps", "add", "camera", "--role", "infer", *state, "--json")
    token = made.document["token"]
    assert AppTokens(tmp_path).roles_of(token) == {"infer"}
    file = tmp_path / "wall.token"
    roles = ("--role", "observe", "--role", "control")
    written = edge_agent("apps", "add", "wall", *roles, "--output", str(file), *state)
    assert (written.code, written.out) == (0, "")
    assert AppTokens(tmp_path).roles_of(file.read_text().strip()) == {"observe", "control"}
    assert file.stat().st_mode & 0o777 == 0o600
    listed = edge_agent("apps", "list", *state)
    assert "camera" in listed.out
    assert "observe, control" in listed.out
    assert token not in listed.out
    rows = edge_agent("apps", "list", *state, "--json").document["apps"]
    assert [row["app"] for row in rows] == ["camera", "wall"]
    assert edge_agent("apps", "remove", "camera", *state).code == 0
    assert AppTokens(tmp_path).roles_of(token) == set()
    assert edge_agent("apps", "remove", "camera", *state).code == 7
    assert edge_agent("apps", "add", "wall", "--role", "infer", *state).code == 7
    assert edge_agent("apps", "add", "x", "--role", "root", *state).code == 2
    assert edge_agent("apps", "list", "--state", str(tmp_path / "none")).code == 7


def test_groups_of_roles_come_from_the_file(tmp_path: Path) -> None:
    """The table [agent.local]; without it every role is the owner's."""
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\ndevice = "d"\n[agent.local]\ninfer_group = "video"\n')
    config = read_config({"file": file, "state_dir": "/s"})[0]
    assert config.local == LocalConfig(infer_group="video")
    assert (config.apps_uri, config.observe_uri) == ("unix:/s/apps.sock", "")
    file.write_text('[agent]\ndevice = "d"\n[agent.local]\ninfer_groups = "video"\n')
    with pytest.raises(UsageError, match=r"\[agent.local\]: infer_groups \(is infer_group meant"):
        read_config({"file": file})


def test_help_has_an_example(edge_agent: Callable[..., Ran]) -> None:
    """Each command shows one."""
    for command in ("run", "status", "models", "update", "rollback", "events", "apps", "doctor"):
        ran = edge_agent(command, "--help")
        assert ran.code == 0
        assert f"Example: edge-agent {command}" in " ".join(ran.out.split())


def test_how_models_are_served_comes_from_the_file(tmp_path: Path) -> None:
    """A table by model becomes its settings; a misspelt key or a wrong kind is told."""
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\ndevice = "d"\n[agent.models."team/a"]\nbatch_max = 8\n')
    assert read_config({"file": file})[0].models == {"team/a": ModelConfig(batch_max=8)}
    for wrong in ("batch_mx = 8", 'batch_max = "8"', "priority = 4", "weight = 0"):
        file.write_text(f'[agent]\ndevice = "d"\n[agent.models."team/a"]\n{wrong}\n')
        with pytest.raises(UsageError, match=wrong.split()[0]):
            read_config({"file": file})


def test_caches_by_flag_and_file(tmp_path: Path) -> None:
    """A flag for each model, or a table in the file; what is no size is refused."""
    by_flag = read_config({"device": "d", "caches": ("team/a=100", "team/b=0:65536")})[0].caches
    assert by_flag == {
        "team/a": CacheConfig(memory_bytes=100),
        "team/b": CacheConfig(file_bytes=65536),
    }
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\ndevice = "d"\n[agent.caches."team/a"]\nmemory_bytes = 100\n')
    assert read_config({"file": file})[0].caches == {"team/a": CacheConfig(memory_bytes=100)}
    file.write_text('[agent]\ndevice = "d"\n[agent.caches."team/a"]\nmemory_bytes = "much"\n')
    with pytest.raises(UsageError, match="caches"):
        read_config({"file": file})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('device_ = "e"', "device_ .is device meant"),
        ("colour = 1", "colour; known are .*check_in_s"),
        ('[agent.caches."team/a"]\nmemory_byte = 1', "team/a.*memory_byte .is memory_bytes meant"),
        ('[agent.models."team/a"]\nzzz = 1', "zzz; known are batch_max, engine_options"),
        ("caches = 5", "caches"),
        ("models = 5", "models 5 are no tables"),
        ('models = { "team/a" = 5 }', "team/a"),
    ],
)
def test_misspelt_keys_are_told(tmp_path: Path, text: str, told: str) -> None:
    """In each table of the file, with the key that was meant, or all that there are."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\ndevice = "d"\n{text}\n')
    with pytest.raises(UsageError, match=told):
        read_config({"file": file})
