"""The gate, rule by rule, between signed metadata in memory and a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Root

from device_agent.store.filesystem import FileSystem
from device_agent.trust import factory, keep_factory_root
from device_agent.trust.factory import open_gate, read_factory_root
from device_agent.trust.gate import Gate, Judged
from edge_sdk import trust
from edge_sdk.base import FormatError, TrustError, UnavailableError, Version
from edge_sdk.manifest import AssignedModel, Assignment, encode_assignment
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.metadata_files import MetadataFiles
from tests.support.trust import SignedFleet, new_key

V1 = make_artifact({"model.bin": b"1"}, version="1.0.0")
V2 = make_artifact({"model.bin": b"2"}, version="2.0.0")
OTHER = make_artifact({"model.bin": b"o"}, model="other/thing", version="1.0.0")


class Device:
    """One device, with a fleet that published version 1."""

    def __init__(self, folder: Path, **fleet: object) -> None:
        self.fleet = SignedFleet(namespaces=("team", "other"), **fleet)  # type: ignore[arg-type]
        self.fleet.publish(V1.document)
        self.source = MetadataFiles(self.fleet.files)
        self.folder = folder / "trust"
        self.folder.mkdir()
        keep_factory_root(FileSystem(), self.folder, self.fleet.root)
        gate = open_gate(FileSystem(), self.folder, self.source)
        assert gate is not None
        self.gate: Gate = gate
        self.kept: bytes | None = None
        self.floors: dict[str, Version] = {}

    def judge(self, envelope: bytes) -> Judged:
        judged = self.gate.judge(
            envelope, device="kiosk-7", kept=self.kept, floors=lambda: self.floors
        )
        self.kept, self.floors = judged.document, {**self.floors, **judged.floors}
        return judged

    def refuses(self, envelope: bytes) -> str:
        with pytest.raises(TrustError) as refused:
            self.judge(envelope)
        return str(refused.value.facts.get("check", refused.value.message))

    def assign(self, *artifacts: ArtifactBytes, counter: int = 1, **said: object) -> bytes:
        return self.fleet.assign(assignment(*artifacts, counter=counter, **said))


def assignment(*artifacts: ArtifactBytes, counter: int = 1, **said: object) -> Assignment:
    entry = {key: said.pop(key) for key in ("downgrade_from", "floor", "variant") if key in said}
    models = tuple(
        AssignedModel(
            **{
                "model": one.manifest.model,
                "version": one.manifest.version,
                "variant": one.manifest.variant,
                "artifact": one.artifact,
                "floor": None,
                "rollout": "r",
                "attempt": 1,
                **entry,
            }  # type: ignore[arg-type]
        )
        for one in sorted(artifacts, key=lambda one: str(one.manifest.model))
    )
    whole = {"device": "kiosk-7", "counter": counter, "models": models, "expires_s": None, **said}
    return Assignment(**whole)  # type: ignore[arg-type]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_good_one_passes(device: Device) -> None:
    """With the document inside the envelope as what is kept, again and again."""
    judged = device.judge(device.assign(V1))
    assert judged.document == encode_assignment(assignment(V1))
    assert judged.floors == {}
    assert device.judge(device.assign(V1)).document == judged.document
    assert device.judge(device.assign(counter=2)).assignment.models == ()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda device: device.assign(V1, device="kiosk-8"), "device"),
        (lambda device: device.assign(V1, counter=4), "counter"),
        (lambda device: device.assign(V1, counter=2**53 - 1), "counter"),
        (lambda device: device.assign(counter=5), "counter"),
        (lambda device: device.assign(V1, counter=6, expires_s=1), "expiry"),
        (lambda device: device.assign(V2, counter=6), "target"),
        (lambda device: device.assign(V1, counter=6, variant="int8"), "target"),
        (lambda device: device.assign(V1, OTHER, counter=6), "target"),
        (
            lambda device: device.assign(V1, counter=6, floor=Version.parse("1.0.1")),
            "floor",
        ),
    ],
)
def test_refused(device: Device, change: Callable[[Device], bytes], check: str) -> None:
    """Another device's; an older one; other content; expired; artifacts that nobody signed, or
    signed as another variant; one of several not signed; below a floor."""
    device.judge(device.assign(V1, counter=5))
    assert device.refuses(change(device)) == check
    assert device.judge(device.assign(V1, counter=6)).assignment.counter == 6


def test_another_artifact_under_a_signed_name(device: Device) -> None:
    """The digest is what counts, not the name."""
    evil = make_artifact({"model.bin": b"evil"}, version="1.0.0")
    assert device.refuses(device.assign(evil)) == "target"


def test_a_publisher_of_another_namespace(device: Device) -> None:
    """Its key signs what it likes, and nothing of it counts elsewhere."""
    role = trust.namespace_role("other")
    document = trust.add_target(
        device.fleet.targets_of(role),
        "team/digits/2.0.0/fp32.json",
        V2.document,
        {},
        now=device.fleet.at,
    )
    assert document is not None
    device.fleet.put([(role, document, device.fleet.publishers["other"])])
    assert device.refuses(device.assign(V2)) == "target"


def test_a_stolen_and_replaced_assignment_key(device: Device) -> None:
    """The offline targets key takes it away; what it signed before counts no more."""
    stolen = device.assign(V1, counter=9)
    device.fleet.assignment_key = new_key()
    targets = trust.delegate_assignments(
        device.fleet.targets_of(), [device.fleet.assignment_key.public_key], now=device.fleet.at
    )
    device.fleet.put([("targets", targets, device.fleet.targets_key)])
    assert "not signed" in device.refuses(stolen)
    assert device.judge(device.assign(V1, counter=2)).assignment.counter == 2


def test_an_envelope_of_something_else(device: Device) -> None:
    """A good signature over what is no assignment, and no envelope at all."""
    sealed = trust.seal_assignment(b"{}", device.fleet.assignment_key)
    for envelope in (sealed, encode_assignment(assignment(V1)), b"", b"{}", b"\0" * 50):
        with pytest.raises(FormatError):
            device.judge(envelope)


def test_floors_are_the_publishers(device: Device) -> None:
    """They rise with whatever was signed for the model, and hold when that is gone."""
    device.fleet.publish(V2.document, floor="2.0.0")
    assert device.judge(device.assign(V2)).floors == {"team/digits": Version.parse("2.0.0")}
    down = device.assign(V1, counter=2, downgrade_from=Version.parse("2.0.0"))
    assert device.refuses(down) == "floor"
    again = Device.__new__(Device)
    again.__dict__.update(device.__dict__)
    again.floors = {}  # a device that lost both copies reads it in the metadata again
    assert again.refuses(down) == "floor"


def test_floors_hold_in_every_bin(device: Device) -> None:
    """A namespace of many targets is spread over bins, of which a device sees but one: a floor
    that came with a target in another one holds all the same."""
    fleet, key = device.fleet, device.fleet.publishers["team"]
    for number in range(20):
        one = make_artifact({"model.bin": b"2"}, version=f"2.{number}.0")
        fleet.publish(one.document, floor="2.0.0" if number == 7 else None)
    parent, bins = trust.split(
        "team", fleet.targets_of("ns_team"), {}, [key.public_key], now=fleet.at
    )
    fleet.put([(role, one, key) for role, one in (("ns_team", parent), *bins.items())])
    assert device.refuses(device.assign(V1)) == "floor"


def test_floors_of_other_namespaces_are_nothing(device: Device) -> None:
    """A publisher says nothing of models that are not its own."""
    document = device.fleet.targets_of("ns_other")
    new = trust.add_target(
        document, "team/digits/9.0.0/fp32.json", b"{}", {"floor": "9.0.0"}, now=device.fleet.at
    )
    assert new is not None
    device.fleet.put([("ns_other", new, device.fleet.publishers["other"])])
    device.fleet.publish(OTHER.document)
    assert device.judge(device.assign(V1, OTHER)).floors == {}


def test_floors_of_nonsense_are_none(device: Device) -> None:
    """A publisher that writes rubbish there harms nobody else."""
    document = device.fleet.targets_of("ns_team")
    for custom in ("x", {"floor": 7}, {"floor": "not a version"}, {}):
        found = next(iter(document.signed.targets.values()))
        found.unrecognized_fields["custom"] = custom
        document.signed.version += 1
        device.fleet.put([("ns_team", document, device.fleet.publishers["team"])])
        device.judge(device.assign(V1))
        assert device.floors == {}


def test_an_expiry_is_judged_by_signed_time(tmp_path: Path) -> None:
    """A device in 1970 does not take an assignment that was over when the timestamp was made."""
    device = Device(tmp_path)
    seconds = int((device.fleet.at - timedelta(hours=1)).timestamp())
    assert device.refuses(device.assign(V1, expires_s=seconds)) == "expiry"


def test_manifests_of_plans(device: Device) -> None:
    """Signed ones pass with one look, also one signed since; others never do."""
    device.gate.check_manifests([V1.document])
    asked = len(device.source.asked)
    device.gate.check_manifests([V1.document, V1.document])
    assert len(device.source.asked) == asked
    with pytest.raises(TrustError):
        device.gate.check_manifests([V1.document, V2.document])
    device.fleet.publish(V2.document)
    device.gate.check_manifests([V1.document, V2.document])
    evil = make_artifact({"model.bin": b"evil"}, version="1.0.0")
    with pytest.raises(TrustError, match="another artifact"):
        device.gate.check_manifests([evil.document])


def test_a_distributor_that_is_away(device: Device) -> None:
    """Nothing is refused, and nothing is let through."""

    def away(name: str) -> Iterator[bytes]:
        raise UnavailableError("away")
        yield b""

    device.source.fetch = away  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        device.judge(device.assign(V1))


def test_the_factory_root(tmp_path: Path) -> None:
    """Kept twice; what is no root is not taken."""
    files, folder = FileSystem(), tmp_path / "trust"
    folder.mkdir()
    assert read_factory_root(files, folder) is None
    for broken in (b"", b"{}", SignedFleet().files["timestamp.json"]):
        with pytest.raises(TrustError):
            keep_factory_root(files, folder, broken)
    assert list(folder.iterdir()) == []
    first = SignedFleet().root
    keep_factory_root(files, folder, first)
    assert read_factory_root(files, folder) == first
    for name in factory._NAMES:
        (folder / name).write_bytes(b"rot")
    assert read_factory_root(files, folder) == b""
    other = SignedFleet().root
    keep_factory_root(files, folder, other)
    assert read_factory_root(files, folder) == other


def test_another_fleets_root_is_refused(device: Device) -> None:
    """Given by mistake, or by somebody: what is there stays. A later root of the same fleet takes
    its place, and an earlier one changes nothing."""
    files, fleet = FileSystem(), device.fleet
    with pytest.raises(TrustError, match="another root"):
        keep_factory_root(files, device.folder, SignedFleet().root)
    assert read_factory_root(files, device.folder) == fleet.root
    newer = trust.edited(trust.read("root", fleet.root, Root), expires=fleet.at + trust.LONG)
    fleet.put_root(newer, fleet.root_keys)
    for root in (fleet.files["2.root.json"], fleet.root):
        keep_factory_root(files, device.folder, root)
        assert read_factory_root(files, device.folder) == fleet.files["2.root.json"]


def test_without_a_factory_root_nothing_is_let_through(tmp_path: Path) -> None:
    """Neither what nobody signed nor what somebody did."""
    gate = open_gate(FileSystem(), tmp_path, MetadataFiles(SignedFleet().files))
    for envelope in (encode_assignment(assignment(V1)), SignedFleet().assign(assignment(V1))):
        with pytest.raises(TrustError, match="factory root"):
            gate.judge(envelope, device="kiosk-7", kept=None, floors=dict)
