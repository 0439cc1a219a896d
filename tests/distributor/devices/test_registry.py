"""Devices register themselves; operators outweigh their labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor import devices
from edge_sdk.base import Digest, FormatError, ModelName, NotFoundError
from tests.support.catalog import AT_MS, MODEL, open_catalog


def test_a_device_registers_itself(tmp_path: Path) -> None:
    """The first check-in makes the device; the next replaces what it said."""
    with open_catalog(tmp_path) as one:
        active = one.add_version("1.0.0")
        first = one.check_in("cam-1", architecture="x86_64", memory_bytes=5)
        assert (first.first_seen_ms, first.assigned_counter, first.held) == (AT_MS, 0, ())
        again = one.check_in("cam-1", active=active, disk_free_bytes=7)
        assert again.held == (active,)
        assert again.facts.disk_free_bytes == 7
        assert again.facts.memory_bytes == 0
        said = again.model(MODEL)
        assert said is not None
        assert said.settled_on == active
        assert one.read(devices.list_devices) == [again]


def test_an_unknown_device(tmp_path: Path) -> None:
    """What never checked in is not found, and cannot be labelled."""
    with open_catalog(tmp_path) as one:
        with pytest.raises(NotFoundError, match="ever checked in"):
            one.read(devices.get_device, "ghost")
        with pytest.raises(NotFoundError):
            one.write(devices.label_device, "ghost", put={"a": "b"}, remove=[])


def test_held_artifacts_need_not_be_known(tmp_path: Path) -> None:
    """A device may hold what this catalog never saw; it is remembered all the same."""
    with open_catalog(tmp_path) as one:
        strange = Digest.of(b"from another distributor")
        assert one.check_in("cam-1", active=strange).held == (strange,)


def test_the_operator_outweighs_the_device(tmp_path: Path) -> None:
    """An operator's label replaces a declared one, a removed one stays away."""
    with open_catalog(tmp_path) as one:
        one.check_in("cam-1", labels={"site": "berlin", "tier": "test"})
        put = one.write(devices.label_device, "cam-1", put={"site": "rome"}, remove=["tier"])
        assert put.facts.labels == {"site": "rome"}
        later = one.check_in("cam-1", labels={"site": "berlin", "tier": "test", "hw": "a"})
        assert later.facts.labels == {"site": "rome", "hw": "a"}
        back = one.write(devices.label_device, "cam-1", put={"tier": "prod"}, remove=[])
        assert back.facts.labels["tier"] == "prod"
        with pytest.raises(FormatError):
            one.write(devices.label_device, "cam-1", put={"Not A Key": ""}, remove=[])


def test_many_devices_at_once(tmp_path: Path) -> None:
    """More names than one statement takes are found all the same, by name."""
    with open_catalog(tmp_path) as one:
        one.check_in("b")
        one.check_in("a")
        names = [f"n{number}" for number in range(1_200)]
        found = one.read(devices.find_devices, ["b", *names, "a"])
        assert [record.device for record in found] == ["a", "b"]


def test_how_many_devices_run_what(tmp_path: Path) -> None:
    """Counted by what was said last; who runs nothing counts nowhere."""
    with open_catalog(tmp_path) as one:
        first, second = one.add_version("1.0.0"), one.add_version("2.0.0")
        for device, active in (("a", first), ("b", first), ("c", second), ("d", None)):
            one.check_in(device, active=active)
        assert one.read(devices.running_on, MODEL) == {first: 2, second: 1}
        one.check_in("a", active=second)
        assert one.read(devices.running_on, None) == {first: 1, second: 2}
        assert one.read(devices.running_on, ModelName.parse("team/other")) == {}
