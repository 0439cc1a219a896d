"""``edge-fleet``: each command ends with the right code, one document, and one line of error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest

from edge_sdk.base import UnavailableError
from edge_sdk.fleet import connection
from edge_sdk.fleet.bearer import Bearer
from edge_sdk.fleet.cli import cli, main, pairs
from edge_sdk.protos import fleet_v1_pb2 as wire
from tests.support.commands import Ran, run_main
from tests.support.fleet_messages import a_device, a_storage, a_verdict
from tests.support.fleet_service import FleetInMemory
from tests.support.onnx_models import linear, save, sequence
from tests.support.processes import unmeasured

EdgeFleet = Callable[..., Ran]
NAMES = ("--model", "team/digits", "--version", "1.0.0", "--variant", "fp32")


@pytest.fixture
def edge_fleet(
    address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> EdgeFleet:
    """Runs ``edge-fleet`` against the service in memory."""
    monkeypatch.setenv("EDGE_FLEET_DISTRIBUTOR", address)
    return lambda *arguments: run_main(main, [str(one) for one in arguments], capsys, monkeypatch)


def test_publish_and_models(edge_fleet: EdgeFleet, model: Path) -> None:
    """Publishing says what was made and how the sample came about; models lists it."""
    ran = edge_fleet("publish", model, *NAMES)
    assert ran.code == 0
    assert "team/digits 1.0.0 fp32 published: artifact" in ran.out
    assert "seeded inputs" in ran.err
    assert "was there already" in edge_fleet("publish", model, *NAMES).out
    listed = edge_fleet("models")
    assert "team/digits" in listed.out
    assert "fp32" in listed.out


def test_publish_as_json(edge_fleet: EdgeFleet, model: Path) -> None:
    """--json prints one document and nothing else on standard output."""
    document = edge_fleet("publish", model, *NAMES, "--json").document
    assert document["created"] is True
    assert document["sent_bytes"] == document["size_bytes"]
    assert len(document["notes"]) == 1
    (artifact,) = edge_fleet("models", "team/digits", "--json").document["artifacts"]
    assert artifact["artifact"] == document["artifact"]


def test_publish_with_everything(
    edge_fleet: EdgeFleet, service: FleetInMemory, tmp_path: Path
) -> None:
    """Every option of publish arrives in the manifest."""
    save(linear(3.0), tmp_path / "m" / "net.onnx")
    np.savez(tmp_path / "inputs.npz", x=np.ones((1, 4), np.float32))
    ran = edge_fleet(
        *("publish", tmp_path / "m", *NAMES, "--parent", "0.9.0", "--entry", "net.onnx"),
        *("--golden", tmp_path / "inputs.npz", "--tolerance", "y=0.5,0", "--serve", "inference"),
        *("--require", "memory=1MiB", "--require", "accelerator=vnni"),
        *("--label", "commit=abc", "--label", "branch=main", "--json"),
    )
    assert ran.code == 0
    (stored,) = service.artifacts.values()
    from edge_sdk.manifest import decode_manifest

    manifest = decode_manifest(stored.manifest)
    assert str(manifest.parent) == "0.9.0"
    assert manifest.entry == "net.onnx"
    assert manifest.requires.memory_bytes == 1 << 20
    assert manifest.requires.accelerators == ("vnni",)
    assert manifest.labels == {"commit": "abc", "branch": "main"}
    assert manifest.golden is not None
    assert manifest.golden.origin == "given"
    assert manifest.golden.tolerances["y"].atol == "0.5"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["publish", "gone.onnx", *NAMES], 7, "gone.onnx"),
        (["publish", "{model}", "--model", "digits", *NAMES[2:]], 2, "namespace"),
        (["publish", "{model}", *NAMES, "--version", "v1"], 2, "v1"),
        (["publish", "{model}", *NAMES, "--parent", "1"], 2, "--parent"),
        (["publish", "{model}", *NAMES, "--variant", "FP 32"], 2, "FP 32"),
        (["publish", "{model}", *NAMES, "--label", "A B=1"], 2, "A B"),
        (["models", "digits"], 2, "namespace"),
        (["explain", "Gate 7"], 2, "Gate 7"),
        (["explain", "gate-7", "--model", "digits"], 2, "--model"),
        (["devices", "label", "gate-7", "Site=x"], 2, "Site"),
        (["devices", "label", "gate-7", "--remove", "Site"], 2, "Site"),
        (["rollout", "plan", "digits", "1.0.0"], 2, "namespace"),
        (["rollout", "create", "team/digits", "1"], 2, "semantic version"),
        (["rollout", "create", "team/digits", "1.0.0", "--device", "A B"], 2, "A B"),
        (["rollout", "list", "--model", "digits"], 2, "namespace"),
        (["publish", "{model}", *NAMES, "--tolerance", "y"], 2, "--tolerance"),
        (["publish", "{model}", *NAMES, "--tolerance", "y=1"], 2, "OUTPUT=ATOL,RTOL"),
        (["publish", "{model}", *NAMES, "--tolerance", "y=much,0"], 3, "decimal"),
        (["publish", "{model}", *NAMES, "--label", "a=1", "--label", "a=2"], 2, "twice"),
        (["publish", "{model}", *NAMES, "--require", "gpu=1"], 2, "--require"),
        (["publish", "{sequence}", *NAMES], 6, "'y'"),
        (["publish", "{model}", "--model", "team/digits"], 2, "--version"),
        (["devices", "label", "gate-7"], 2, "nothing to change"),
        (["devices", "label", "ghost", "a=b"], 7, "ghost"),
        (["explain", "ghost"], 7, "ghost"),
        (["nonsense"], 2, "nonsense"),
        (["--distributor", "nowhere", "models"], 2, "nowhere"),
        (["--distributor", "192.0.2.1:7444", "models"], 6, "192.0.2.1"),
        (["--config", "gone.toml", "models"], 2, "gone.toml"),
    ],
)
def test_bad_input(
    edge_fleet: EdgeFleet,
    service: FleetInMemory,
    model: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    """Bad input ends in one line on standard error, the documented code and nothing published."""
    places = {"model": model, "sequence": save(sequence(), tmp_path / "s.onnx")}
    ran = edge_fleet(*(one.format(**places) for one in arguments))
    assert ran.code == code
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    assert service.artifacts == {}


def test_models_of_an_unknown_name(edge_fleet: EdgeFleet) -> None:
    """A name under which nothing is published is said to be unknown, with exit code 7; where
    nothing at all is published, the list of all is empty."""
    ran = edge_fleet("models", "team/nobody")
    assert (ran.code, ran.out) == (7, "")
    assert "team/nobody" in ran.err
    assert edge_fleet("models", "team/nobody", "--json").document["error"]["exit_code"] == 7
    assert edge_fleet("models", "--json").document == {"artifacts": []}


def test_models_with_their_storage(edge_fleet: EdgeFleet, service: FleetInMemory) -> None:
    """What is kept and why, what could go, and the sums; for people and as one document."""
    assert edge_fleet("models", "team/nobody", "--storage").code == 7
    service.storage = a_storage()
    shown = edge_fleet("models", "--storage")
    assert shown.code == 0
    for text in (
        *("12 devices run it", "4.0 kB", "rollout r3 needs it; 12 devices run the source"),
        "its target is no longer brought to devices",
        "files 9.0 MB, deltas 4.0 MB (all models: at most 20.0 MB); of these 3.5 MB could go",
    ):
        assert text in shown.out
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["team/digits", "fp32", "nothing", "1.0.0", "3.5", "MB", "0", "B", "yes"] in [
        row[:9] for row in rows
    ]
    document = edge_fleet("models", "team/digits", "--storage", "--json").document
    assert document["could_go_bytes"] == 3_500_000
    assert [one["could_go"] for one in document["deltas"]] == [True, False]
    assert document["deltas"][1]["reasons"][0] == "rollout r3 needs it"
    assert document["versions"][0]["golden_bytes"] == 4_000
    service.storage.budget_bytes = 0
    assert "deltas 4.0 MB; of these" in edge_fleet("models", "--storage").out


def test_error_as_json(edge_fleet: EdgeFleet) -> None:
    """With --json an error is a document too, with the name of its class."""
    ran = edge_fleet("explain", "ghost", "--json")
    assert ran.document["error"]["reason"] == "NotFoundError"
    assert ran.document["error"]["exit_code"] == ran.code == 7


def test_devices(edge_fleet: EdgeFleet, service: FleetInMemory) -> None:
    """Devices show assigned and running apart, also without any model, in both forms."""
    service.devices["gate-7"] = a_device()
    service.devices["gate-8"] = a_device("gate-8", online=False, last_seen_ms=0)
    del service.devices["gate-8"].models[:]
    service.devices["gate-8"].refusal.MergeFrom(
        wire.Refusal(at_ms=60_000, reason="TrustError", check="floor", message="too \x1b[1mold")
    )
    table = edge_fleet("devices").out
    (refused,) = (line for line in table.splitlines() if "refused" in line)
    assert refused.startswith("gate-8 refused, 1970-01-01 00:01")
    assert refused.endswith("TrustError (floor): too \ufffd[1mold")
    row = next(line for line in table.splitlines() if line.startswith("gate-7"))
    assert row.split()[:7] == [
        *("gate-7", "online", "site=berlin", "team/digits", "2.0.0", "1.0.0", "fetching"),
    ]
    assert "away" in table
    listed = edge_fleet("devices", "list", "--selector", "site=berlin", "--json").document
    assert [one["device"] for one in listed["devices"]] == ["gate-7", "gate-8"]
    assert listed["devices"][0]["models"][0]["running_version"] == "1.0.0"
    assert listed["devices"][0]["refusal"] is None
    assert listed["devices"][1]["refusal"]["check"] == "floor"
    assert edge_fleet("devices", "--json").document == listed


def test_label(edge_fleet: EdgeFleet, service: FleetInMemory) -> None:
    """Labels are set and removed in one call."""
    service.devices["gate-7"] = a_device()
    said = edge_fleet("devices", "label", "gate-7", "tier=gold", "--remove", "site").out
    assert said == "gate-7: tier=gold\n"
    document = edge_fleet("devices", "label", "gate-7", "--remove", "tier", "--json").document
    assert document["labels"] == {}


def test_explain(edge_fleet: EdgeFleet, service: FleetInMemory) -> None:
    """Each variant has its verdict and its reasons."""
    service.devices["gate-7"] = a_device()
    service.verdicts = [
        a_verdict(),
        a_verdict("fp16", chosen=False),
        a_verdict("int8", fits=False, chosen=False, reasons=["needs accelerator vnni"]),
        a_verdict("big", fits=False, chosen=False, reasons=["needs 2000000 bytes of memory"]),
    ]
    table = edge_fleet("explain", "gate-7", "--model", "team/digits", "--version", "2.0.0").out
    for words in (
        "chosen",
        "fits",
        "does not fit",
        "needs accelerator vnni",
        "1.1 GB",
        "needs 2.0 MB of",
    ):
        assert words in table
    service.devices["gate-7"].memory_bytes = 0
    assert "not said" in edge_fleet("explain", "gate-7").out
    verdicts = edge_fleet("explain", "gate-7", "--json").document["verdicts"]
    assert [one["variant"] for one in verdicts] == ["fp32", "fp16", "int8", "big"]
    assert verdicts[-1]["reasons"] == ["needs 2000000 bytes of memory"]


def test_config_show_says_where_from(
    edge_fleet: EdgeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags win over the environment, that over the file, that over defaults; a key that
    nothing knows is said."""
    file = tmp_path / "fleet.toml"
    file.write_text('[fleet]\noperator = "ci"\ndistributr = "x:1"\n')
    ran = edge_fleet("--config", file, "config", "show", "--json")
    settings = ran.document["fleet"]
    assert settings["operator"] == {"value": "ci", "from": f"file {file}"}
    assert settings["distributor"]["from"] == "environment EDGE_FLEET_DISTRIBUTOR"
    assert settings["identity"]["from"] == "default"
    assert "unknown key 'distributr'" in ran.err
    monkeypatch.setenv("EDGE_FLEET_CONFIG", str(file))
    table = edge_fleet("--operator", "ada", "config", "show").out
    assert next(line for line in table.splitlines() if "operator" in line).split() == [
        *("operator", "ada", "flag"),
    ]


def test_config_show_says_where_a_token_leads(
    edge_fleet: EdgeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token file says itself where it is taken: that wins, and that is shown."""
    file = tmp_path / "ci.token"
    Bearer(address="fleet.example:7446", authorities="", secret="s", expires_ms=1).save(file)
    monkeypatch.setenv("EDGE_FLEET_BEARER_FILE", str(file))
    settings = edge_fleet("--distributor", "x:1", "config", "show", "--json").document["fleet"]
    assert settings["distributor"] == {"value": "fleet.example:7446", "from": f"token file {file}"}


def test_default_address_and_operator(
    edge_fleet: EdgeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any setting it is the embedded distributor on this machine, as the login name."""
    monkeypatch.delenv("EDGE_FLEET_DISTRIBUTOR")
    monkeypatch.setattr(connection.getpass, "getuser", lambda: "ada")
    settings = edge_fleet("config", "show", "--json").document["fleet"]
    assert settings["distributor"]["value"] == "127.0.0.1:7444"
    assert settings["operator"]["value"] == "ada"


@pytest.mark.parametrize("name", [None, "", "zoë"])
def test_login_name_that_cannot_travel(
    edge_fleet: EdgeFleet, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """A user without a name, or with one that metadata cannot carry, is just an operator."""

    def getuser() -> str:
        if name is None:
            raise KeyError("no such user")
        return name

    monkeypatch.setattr(connection.getpass, "getuser", getuser)
    settings = edge_fleet("config", "show", "--json").document["fleet"]
    assert settings["operator"]["value"] == "operator"


def test_distributor_that_is_away(edge_fleet: EdgeFleet, service: FleetInMemory) -> None:
    """A distributor that is not ready ends in exit 5: trying again can help."""
    service.breakdowns = [UnavailableError("not ready yet")] * 99
    ran = edge_fleet("rollout", "create", "team/digits", "1.0.0")
    assert ran.code == 5
    assert ran.err == "edge-fleet: not ready yet\n"


def test_pairs_keep_what_follows_the_first_sign() -> None:
    """A value may hold '=' itself."""
    assert pairs(["a=b=c", "d="], "--label") == {"a": "b=c", "d": ""}


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            found += every_command(sub, (*path, name))
    return found


@pytest.mark.parametrize("path", every_command(cli), ids=" ".join)
def test_help_of_every_command(edge_fleet: EdgeFleet, path: tuple[str, ...]) -> None:
    """Every command explains itself; each that does something has an example and --json."""
    ran = edge_fleet(*path, "--help")
    assert ran.code == 0
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    if not isinstance(command, click.Group) or path == ("devices",):
        assert (
            f"edge-fleet {' '.join(path)}"[:40] in ran.out.split("Usage", 1)[1][20:]
            or "config show" in ran.out
        )
        assert "Example" in ran.out
        assert "--json" in ran.out


def test_program_starts_and_shows_its_version(tmp_path: Path) -> None:
    """The installed program runs as a process of its own, and nothing of it follows."""
    environment = {**os.environ, "EDGE_FLEET_DISTRIBUTOR": f"unix:{tmp_path}/nobody.sock"}
    version = subprocess.run(
        [sys.executable, "-m", "edge_sdk.fleet.cli", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert version.stdout.startswith("edge-fleet, version ")
    away = subprocess.run(
        [sys.executable, "-m", "edge_sdk.fleet.cli", "rollout", "undo", "r-1", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert away.returncode == 5
    assert '"UnavailableError"' in away.stdout


ELSEWHERE = """
import sys
for name in ("fcntl", "grp", "pwd", "resource", "syslog"):  # what Windows does not have
    sys.modules[name] = None
from edge_sdk.fleet.cli import main
sys.argv = ["edge-fleet", "config", "show", "--json"]
main()
"""


def test_imports_where_linux_is_not() -> None:
    """The command starts without the modules that only Unix has."""
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert '"distributor"' in ran.stdout


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_publish_leaves_nothing(
    address: str, service: FleetInMemory, model: Path, sign: signal.Signals, code: int
) -> None:
    """Ctrl-C or a stop in the middle of an upload ends at once, and nothing is published."""
    service.hold_publish = True
    command = [sys.executable, "-m", "edge_sdk.fleet.cli", "--distributor", address]
    process = subprocess.Popen(
        [*command, "publish", str(model), *NAMES],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=unmeasured(),
    )
    with process:
        deadline = time.monotonic() + 30
        while "Publish" not in service.calls:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(sign)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == b""
    assert b"Traceback" not in err
    assert service.artifacts == {}
