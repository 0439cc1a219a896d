"""``edge-agent enrol`` and ``identity``, against a distributor in this process."""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_agent.cli import cli
from device_agent.cli.enrolment import (
    Newcomer,
    identified,
    look_for_root,
    make_store,
    named,
    read_newcomer,
)
from device_agent.config import AgentConfig
from device_agent.errors import StateError
from device_agent.identity import enrolling, newer_root
from device_agent.store import Store
from device_agent.trust import open_gate, read_factory_root
from edge_sdk.base import EdgeError, ResourceError, TrustError, UnavailableError, UsageError
from edge_sdk.identity import Anchors
from tests.support.enrolled import SecuredFleet, factory_device, secured_fleet
from tests.support.metadata_files import MetadataFiles
from tests.support.recording_files import RecordingFiles
from tests.support.trust import SignedFleet

pytestmark = pytest.mark.distributor


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredFleet]:
    from distributor.identity import make_authority

    folder = tmp_path_factory.mktemp("s")
    maker = make_authority()
    (folder / "makers.pem").write_bytes(maker.certificate)
    device = factory_device(maker, "SN-7")
    (folder / "idevid.pem").write_bytes(device.chain)
    (folder / "idevid.key").write_bytes(device.key)
    with secured_fleet(folder, factory_authorities=str(folder / "makers.pem")) as one:
        yield one


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def _token_file(fleet: SecuredFleet, path: Path, **wanted: object) -> str:
    path.write_text(fleet.token(**wanted).encode())
    path.chmod(0o600)
    return str(path)


def test_enrolling_and_looking(fleet: SecuredFleet, tmp_path: Path) -> None:
    """The name comes from the token; afterwards the state is shown, and no secret."""
    state = str(tmp_path / "state")
    assert json.loads(_run("identity", "--state", state, "--json").stdout)["state"] == "none"
    file = _token_file(fleet, tmp_path / "t", name="gate-1")
    done = _run("enrol", "--state", state, "--token-file", file, "--json")
    shown = json.loads(done.stdout)
    assert (shown["state"], shown["device"]) == ("enrolled", "gate-1")
    assert shown["distributor"] == fleet.server.serving.device_address
    assert not shown["expired_by_this_clock"]
    text = _run("identity", "--state", state).stdout
    assert "gate-1" in text
    assert "PRIVATE" not in text + done.stdout
    again = _run("enrol", "--state", state)  # there is nothing left to do
    assert again.exit_code == 0
    other = _run("enrol", "--state", state, "--device", "gate-2")
    assert isinstance(other.exception, StateError)


def test_enrolling_on_a_full_disk(fleet: SecuredFleet, tmp_path: Path) -> None:
    """It is said which folder is full, and the same token brings the device in afterwards; what
    others could get at is closed by the way."""
    file = _token_file(fleet, tmp_path / "t", name="gate-12")
    files = RecordingFiles()
    store = Store.create(tmp_path / "state", files=files)
    config = AgentConfig(device="gate-12", state_dir=str(tmp_path / "state"))
    flags = {"token_file": file, "factory_certificate": None, "factory_key": None}
    files.fail = lambda name, _: errno.ENOSPC if name == "write_private" else None
    with pytest.raises(ResourceError, match="identity"):
        identified(config, store, read_newcomer(dict(flags)), wait=False)
    files.fail = lambda name, _: None
    (store.root / "identity").chmod(0o777)
    assert identified(config, store, read_newcomer(dict(flags)), wait=False).distributor
    assert stat.S_IMODE((store.root / "identity").stat().st_mode) == 0o755


def test_waiting_for_an_operator(fleet: SecuredFleet, tmp_path: Path) -> None:
    """Without waiting it ends, says what is missing, and goes on with the same key later."""
    state = str(tmp_path / "state")
    file = _token_file(fleet, tmp_path / "t", approval=True)
    asked = ("enrol", "--state", state, "--device", "gate-3", "--token-file", file, "--no-wait")
    waits = _run(*asked)
    assert isinstance(waits.exception, UnavailableError)
    assert "devices approve gate-3" in waits.exception.message
    with fleet.operator() as operator:
        operator.identities.approve("gate-3")
    assert _run(*asked).exit_code == 0


def test_a_factory_certificate(fleet: SecuredFleet, tmp_path: Path) -> None:
    """With a token that has no secret; without a certificate that is no use."""
    with fleet.operator() as operator:
        operator.identities.approve("gate-4", factory_serial="SN-7")
        (tmp_path / "t").write_text(operator.identities.factory_token())
    where = ["--state", str(tmp_path / "state"), "--device", "gate-4", "--token-file"]
    where.append(str(tmp_path / "t"))
    folder = fleet.data.parent
    factory = ["--factory-certificate", str(folder / "idevid.pem")]
    assert isinstance(_run("enrol", *where).exception, UsageError)
    assert isinstance(_run("enrol", *where, *factory).exception, UsageError)
    factory += ["--factory-key", str(folder / "idevid.key")]
    assert _run("enrol", *where, *factory, "--no-wait").exit_code == 0


def test_what_cannot_be(fleet: SecuredFleet, tmp_path: Path) -> None:
    """No token, no name, a token that was used: each is said, and no agent is started."""
    state = str(tmp_path / "state")
    assert isinstance(_run("enrol", "--state", state, "--device", "g").exception, UsageError)
    file = _token_file(fleet, tmp_path / "t")
    unnamed = _run("enrol", "--state", state, "--token-file", file)
    assert isinstance(unnamed.exception, UsageError)
    named_so = ("--device", "gate-5", "--token-file", file)
    assert _run("enrol", "--state", state, *named_so).exit_code == 0
    used = _run("enrol", "--state", str(tmp_path / "other"), *named_so)
    assert isinstance(used.exception, TrustError)


def test_without_an_identity(fleet: SecuredFleet, tmp_path: Path) -> None:
    """An agent without one speaks to no distributor; without a distributor it needs none."""
    flags = {"token_file": None, "factory_certificate": None, "factory_key": None}
    newcomer = read_newcomer(dict(flags))
    config = AgentConfig(state_dir=str(tmp_path / "s"), device="gate-6")
    store = make_store(tmp_path / "s")
    assert identified(named(config, newcomer), store, newcomer) == config
    config = AgentConfig(
        state_dir=str(tmp_path / "s"), device="gate-6", distributor="127.0.0.1:7443"
    )
    with pytest.raises(UsageError, match="not enrolled"):
        identified(config, store, newcomer)


def test_a_root_that_came_after_the_device(
    fleet: SecuredFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who enrolled before the fleet had a root is told so by every command, and takes it from a
    newer token of the same fleet, of which no use is spent; other tokens bring it nothing."""
    state = str(tmp_path / "state")
    file = _token_file(fleet, tmp_path / "t", name="gate-20")
    came = _run("enrol", "--state", state, "--token-file", file)
    assert came.exit_code == 0
    assert "has no whole factory root" in came.stderr
    checked = _run("doctor", "--state", state)
    assert "factory root" in checked.exception.message
    assert "edge-agent enrol --token-file" in checked.stdout
    rootless = _run("enrol", "--state", state, "--token-file", file)
    assert isinstance(rootless.exception, UsageError)
    assert "keys init" in rootless.exception.message

    signed, token = SignedFleet(), fleet.token(uses=2)
    root = signed.root
    newer = replace(token, root=hashlib.sha256(root).hexdigest())
    anchors = Anchors(authority=b"", root=root)
    monkeypatch.setattr(enrolling, "first_contact", lambda given: anchors)
    for wrong in (replace(newer, authority="0" * 64), replace(newer, name="gate-21")):
        with pytest.raises(EdgeError):
            newer_root(fleet.enrolled("gate-20", token=fleet.token(name="gate-20")), wrong)
    (tmp_path / "n").write_text(newer.encode())
    (tmp_path / "n").chmod(0o600)
    flags = {"token_file": str(tmp_path / "n"), "factory_certificate": None, "factory_key": None}
    store, newcomer = Store(tmp_path / "state"), read_newcomer(dict(flags))
    config = identified(named(AgentConfig(device="", state_dir=state), newcomer), store, newcomer)
    gate = open_gate(store.files, store.root / "trust", MetadataFiles(signed.files))
    with pytest.raises(TrustError, match="edge-agent enrol"):
        gate.look()
    look_for_root(config, store, newcomer)
    assert read_factory_root(store.files, store.root / "trust") == root
    gate.look()  # an agent that runs finds it as well
    assert _run("doctor", "--state", state).exit_code == 0
    used = [one for one in fleet.operator().identities.tokens() if one.token == token.token]
    assert [one.used_by for one in used] == [()]


def test_an_agent_without_a_root_starts_and_says_so(
    fleet: SecuredFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A token that brings none, of another fleet or at an address where nobody is, is no reason
    not to serve what is held."""
    file = _token_file(fleet, tmp_path / "t", name="gate-22")
    assert _run("enrol", "--state", str(tmp_path / "s"), "--token-file", file).exit_code == 0
    token = replace(fleet.token(), root="1" * 64, enrolment_address="127.0.0.1:1")
    config = AgentConfig(device="gate-22", state_dir=str(tmp_path / "s"), distributor="h:1")
    for wrong in (token, replace(token, authority="0" * 64), None):
        newcomer = Newcomer(token=wrong, factory=None)
        look_for_root(config, Store(tmp_path / "s"), newcomer)
        said = capsys.readouterr().err
        assert "has no whole factory root: nothing new is believed" in said
        assert ("no factory root came with the token" in said) == (wrong is not None)
