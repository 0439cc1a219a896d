"""What is installed only where the right people signed it, and what is told when they did not.

Each refusal is played once more with exactly the check that refused taken out: then the bad
artifact is installed, so the check, and no accident, is what stands in its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.store.filesystem import FileSystem
from device_agent.trust import assignment as rules
from device_agent.trust import gate, keep_factory_root
from edge_sdk.base import EdgeError, ResourceError, TrustError
from edge_sdk.manifest import encode_assignment
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.trust import SignedFleet, new_key
from tests.support.updater_rig import Rig

V1 = make_artifact({"model.bin": b"1" * 5000}, version="1.0.0")
V2 = make_artifact({"model.bin": b"2" * 5000}, version="2.0.0")
V3 = make_artifact({"model.bin": b"3" * 5000}, version="3.0.0")
BAD = make_artifact({"model.bin": b"evil" * 1200}, version="2.0.0")


@pytest.fixture
def signed(rig: Rig) -> Iterator[Rig]:
    """A device with a factory root that runs version 1 of what was signed."""
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    rig.server.fetches.clear()
    yield rig


def fleet_of(rig: Rig) -> SignedFleet:
    assert rig.server.signed is not None
    return rig.server.signed


def refused(rig: Rig) -> str:
    """Waits for the refusal to be told; the check that refused."""
    events = rig.server.events
    event = rig.wait(
        lambda: next((one for one in events if one.state == "refused"), None), "the refusal"
    )
    assert event.reason in rig.updater.status().refusal
    assert rig.active() == V1.artifact
    assert rig.server.fetches == []
    return str(event.facts.get("check", event.reason))


def unsigned(rig: Rig, artifact: ArtifactBytes) -> None:
    """The distributor has it, and no publisher signed it."""
    fleet, rig.server.signed = fleet_of(rig), None
    rig.server.publish(artifact)
    rig.server.signed = fleet
    fleet.publish = lambda document, *, floor=None: ""  # type: ignore[method-assign]


def nothing(*_: object) -> None:
    """A check that never refuses."""


def test_what_was_signed_is_installed(signed: Rig) -> None:
    """And the metadata that say so are asked for once, before anything of it is fetched."""
    signed.server.assign(V2)
    assert signed.wait_for_end(V2) == "committed"
    assert signed.active() == V2.artifact
    assert signed.updater.status().refusal == ""
    assert signed.server.asked.count("timestamp.json") == 2


def test_an_assignment_signed_by_nobody(signed: Rig) -> None:
    """Neither a document without envelope nor one that another key signed."""
    plain = fleet_of(signed)
    plain.assign = encode_assignment  # type: ignore[method-assign]
    signed.server.assign(V2)
    assert refused(signed) == "FormatError"
    signed.server.events.clear()
    del plain.assign
    plain.assignment_key = new_key()
    signed.server.assign(V2)
    assert refused(signed) == "TrustError"


def test_control_an_assignment_signed_by_nobody(
    signed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check of its signature it is installed."""
    monkeypatch.setattr(gate, "check_signed", lambda envelope, targets: envelope)
    fleet_of(signed).assign = encode_assignment  # type: ignore[method-assign]
    signed.server.assign(V2)
    assert signed.wait_for_end(V2) == "committed"


@pytest.mark.parametrize("other", ["unsigned", "another artifact"])
def test_an_artifact_that_no_publisher_signed(signed: Rig, other: str) -> None:
    """Whoever holds the distributor, with all its keys, cannot install what it made itself."""
    if other == "another artifact":
        fleet_of(signed).publish(V2.document)
    unsigned(signed, BAD)
    signed.server.assign(BAD)
    assert refused(signed) == "target"


def test_control_an_artifact_that_no_publisher_signed(
    signed: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check of its target it can."""
    monkeypatch.setattr(gate, "check_target", nothing)
    unsigned(signed, BAD)
    signed.server.assign(BAD)
    assert signed.wait_for_end(BAD) == "committed"


def below_the_floor(rig: Rig) -> None:
    """Version 2 was signed with a floor; the distributor sends the device back below it."""
    rig.server.signed_floor = "2.0.0"
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "committed"
    rig.server.signed_floor = None
    rig.server.assign(V1)


def test_below_the_publishers_floor(signed: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The online key may say that it goes down; where to, the publisher has a say in."""
    below_the_floor(signed)
    event = signed.wait(
        lambda: next((one for one in signed.server.events if one.state == "refused"), None),
        "the refusal",
    )
    assert event.facts["check"] == "floor"
    assert signed.active() == V2.artifact
    monkeypatch.setattr(rules, "check_floor", nothing)  # the control
    signed.server.assign(V1)
    signed.wait(lambda: signed.active() == V1.artifact, "version 1")


def test_the_floor_holds_on_a_device_that_never_saw_it(signed: Rig) -> None:
    """It is read from every target of the model, not only from those that were assigned."""
    fleet_of(signed).publish(V3.document, floor="2.5.0")
    signed.server.assign(V2)
    assert refused(signed) == "floor"


def test_going_down_unsaid(signed: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lower version that does not say so is refused; without the check it is installed."""
    signed.server.assign(V2)
    assert signed.wait_for_end(V2) == "committed"
    signed.server.highest.clear()
    signed.server.assign(V1)
    event = signed.wait(
        lambda: next((one for one in signed.server.events if one.state == "refused"), None),
        "the refusal",
    )
    assert event.facts["check"] == "downgrade"
    assert signed.active() == V2.artifact
    monkeypatch.setattr(rules, "check_downgrade", nothing)
    signed.server.highest.clear()
    signed.server.assign(V1)
    signed.wait(lambda: signed.active() == V1.artifact, "version 1")


@pytest.mark.parametrize("control", [False, True])
def test_an_unsigned_hub(signed: Rig, monkeypatch: pytest.MonkeyPatch, control: bool) -> None:
    """An artifact on the way has to be signed as well: its manifest is read and kept here."""
    if control:
        monkeypatch.setattr(gate, "check_target", nothing)
    hub = make_artifact({"model.bin": b"h" * 5000}, version="1.5.0")
    fleet, signed.server.signed = fleet_of(signed), None
    signed.server.publish(hub)
    signed.server.signed = fleet
    signed.server.hubs[V2.artifact] = hub.artifact
    signed.server.assign(V2)
    if control:
        assert signed.wait_for_end(V2) == "committed"
        return
    said = signed.wait(lambda: signed.server.last_event(V2), "the refusal")
    signed.wait(lambda: signed.server.last_event(V2).reason == "TrustError", "the refusal")
    assert said is not None
    assert signed.server.fetches == []
    fleet.publish(hub.document)
    assert signed.wait_for_end(V2, "committed") == "committed"


def test_expired_metadata_block_what_is_new_alone(signed: Rig) -> None:
    """What serves goes on, also after a restart; and as soon as they are renewed, so do updates."""
    fleet = fleet_of(signed)
    honest = fleet.at
    fleet.at = honest - timedelta(days=2)
    signed.server.assign(V2)
    assert refused(signed) == "ExpiredMetadataError"
    signed.stop()
    signed.start()
    assert signed.active() == V1.artifact
    fleet.at = honest
    fleet.publish(V3.document)  # signs snapshot and timestamp anew
    assert signed.wait_for_end(V2) == "committed"
    assert signed.updater.status().refusal == ""


def test_silence_is_noticed(rig: Rig) -> None:
    """Whoever keeps newer metadata back is found out without any assignment, and told of."""
    fleet = SignedFleet(at=SignedFleet().at - timedelta(days=2))
    rig.server.signed = fleet
    rig.configure(metadata_check_s=0.05)
    rig.start()
    rig.wait(lambda: "expired" in rig.updater.believer.refusal, "the refusal")
    rig.wait(lambda: [one for one in rig.server.events if one.state == "refused"], "the event")
    fleet.at += timedelta(days=2)
    fleet.publish(V1.document)
    rig.wait(lambda: not rig.updater.believer.refusal, "the end of the refusal")
    assert len([one for one in rig.server.events if one.state == "refused"]) == 1


def test_whoever_asks_for_an_update_hears_of_the_refusal(signed: Rig) -> None:
    """``edge-agent update`` ends with it."""
    unsigned(signed, BAD)
    signed.server.counter += 10
    watches, signed.server._watches = signed.server._watches, []
    signed.server.assign(BAD)
    signed.server._watches = watches
    heard: list[EdgeError | None] = []
    signed.updater.loop.ask(lambda: signed.updater.check_in_now(heard.append))
    signed.wait(lambda: heard, "an answer")
    assert isinstance(heard[0], TrustError)


def test_a_full_disk_hinders_no_refusal(signed: Rig) -> None:
    """Who asked hears of it though it cannot be written down; that is done once there is room."""
    log = signed.updater.log
    refuse = log.refuse

    def full(error: EdgeError) -> None:
        raise ResourceError("no space left")

    log.refuse = full  # type: ignore[method-assign]
    unsigned(signed, BAD)
    signed.server.assign(BAD)
    heard: list[EdgeError | None] = []
    signed.updater.loop.ask(lambda: signed.updater.check_in_now(heard.append))
    signed.wait(lambda: heard, "an answer")
    signed.wait(lambda: "TrustError" in signed.updater.status().refusal, "the refusal")
    assert not [event for event in signed.server.events if event.state == "refused"]
    log.refuse = refuse  # type: ignore[method-assign]
    assert refused(signed) == "target"


def test_nonsense_without_end_fills_no_journal(signed: Rig) -> None:
    """Another refused assignment every moment: ten are told, then only the status says it."""
    unsigned(signed, BAD)
    for _ in range(15):
        signed.server.assign(BAD)
        heard: list[EdgeError | None] = []
        signed.updater.loop.ask(lambda heard=heard: signed.updater.check_in_now(heard.append))  # type: ignore[misc]
        signed.wait(lambda heard=heard: heard, "an answer")  # type: ignore[misc]
    events = signed.updater.loop.ask(lambda: signed.updater.events(0))
    assert 5 <= len([event for event in events if event.state == "refused"]) <= 10
    assert "TrustError" in signed.updater.status().refusal


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_factory_root(signed: Rig, damage: Callable[[Path], object]) -> None:
    """One copy is enough; without any, nothing new is believed, and nobody else is instead."""
    signed.stop()
    copies = [signed.state / "trust" / name for name in ("root.json", "root.copy.json")]
    damage(copies[0])
    signed.start()
    signed.server.assign(V2)
    assert signed.wait_for_end(V2) == "committed"
    signed.stop()
    for path in copies:
        path.write_bytes(b"\0" * 100)
    signed.start()
    signed.server.assign(V3)
    signed.wait(lambda: signed.updater.believer.refusal, "the refusal")
    assert signed.active() == V2.artifact
    signed.stop()
    keep_factory_root(FileSystem(), signed.state / "trust", fleet_of(signed).root)
    signed.start()
    assert signed.wait_for_end(V3) == "committed"


def test_refusals_are_events_of_no_update(signed: Rig) -> None:
    """They are numbered and kept like others, also over a restart, and begin no update."""
    unsigned(signed, BAD)
    signed.server.assign(BAD)
    refused(signed)
    signed.stop()
    signed.start()
    events = signed.updater.loop.ask(lambda: signed.updater.events(0))
    told = [event for event in events if event.state == "refused"]
    assert len(told) == 1
    assert told[0].reason == "TrustError"
    assert "team/digits/2.0.0/fp32.json" in told[0].message
    assert [one.model for one in signed.updater.models()] == ["team/digits"]
