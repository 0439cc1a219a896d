"""What this device believes about what it should run."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.errors import StateError
from device_agent.store import Store
from device_agent.trust import AssignmentKeeper, accept
from edge_sdk.base import Digest, FormatError, ModelName, TrustError, Version
from edge_sdk.manifest import AssignedModel, Assignment, decode_assignment, encode_assignment

NOW_S = 1_800_000_000


def document(
    counter: int = 5,
    *,
    device: str = "kiosk-7",
    version: str = "2.0.0",
    floor: str | None = None,
    expires_s: int | None = None,
    down_from: str | None = None,
) -> bytes:
    model = AssignedModel(
        model=ModelName.parse("team/digits"),
        version=Version.parse(version),
        variant="fp32",
        artifact=Digest.of(version.encode()),
        floor=None if floor is None else Version.parse(floor),
        rollout="r",
        attempt=1,
        downgrade_from=None if down_from is None else Version.parse(down_from),
    )
    return encode_assignment(
        Assignment(device=device, counter=counter, models=(model,), expires_s=expires_s)
    )


def ask(data: bytes, kept: bytes | None = None, **floors: str) -> Assignment:
    marks = {model.replace("_", "/"): Version.parse(mark) for model, mark in floors.items()}
    assignment = decode_assignment(data)
    accept(assignment, data, device="kiosk-7", kept=kept, floors=marks, now_s=NOW_S)
    return assignment


def take(keeper: AssignmentKeeper, data: bytes) -> None:
    """As the gate and whoever asks it do, where nobody has to be asked for signatures."""
    assignment, floors = decode_assignment(data), keeper.floors.read()
    told = {"device": keeper.device, "kept": keeper.kept, "floors": floors, "now_s": NOW_S}
    accept(assignment, data, **told)  # type: ignore[arg-type]
    own = {str(one.model): one.floor for one in assignment.models if one.floor is not None}
    keeper.keep(data, assignment, own)


def test_a_newer_one_is_accepted() -> None:
    """The first, a higher number, and the very same bytes again."""
    assert ask(document()).counter == 5
    assert ask(document(6), document(5)).counter == 6
    assert ask(document(5), document(5)).counter == 5


@pytest.mark.parametrize(
    ("data", "kept", "said"),
    [
        (document(device="kiosk-8"), None, "kiosk-8"),
        (document(4), document(5), "older"),
        (document(5, version="3.0.0"), document(5), "two different"),
        (document(version="1.0.0", floor="1.5.0"), None, "floor"),
        (document(expires_s=NOW_S - 1), None, "expired"),
    ],
)
def test_others_are_refused(data: bytes, kept: bytes | None, said: str) -> None:
    """Another device's, older, changed under its number, below its floor, expired."""
    with pytest.raises(TrustError, match=said):
        ask(data, kept)


def test_a_lower_version_comes_only_where_it_is_said() -> None:
    """Not by an assignment that forgot, nor by one that goes down from something lower."""
    kept = document(5, version="3.0.0")
    for silent in (document(6), document(6, down_from="2.5.0")):
        with pytest.raises(TrustError, match=r"below 3\.0\.0"):
            ask(silent, kept)
    assert ask(document(6, down_from="3.0.0"), kept).counter == 6
    assert ask(document(6, down_from="4.0.0"), kept).counter == 6


def test_c46_an_expired_one_that_was_accepted_stays() -> None:
    """Being off for two months is never fatal."""
    old = document(expires_s=NOW_S - 1)
    assert ask(old, old).counter == 5


def test_floors_only_rise() -> None:
    """A floor seen once holds, also where a later document has none."""
    with pytest.raises(TrustError):
        ask(document(version="1.0.0"), team_digits="1.1.0")
    assert ask(document(version="1.1.0"), team_digits="1.1.0")


def test_nonsense_is_a_format_error() -> None:
    """Bytes that are no assignment."""
    with pytest.raises(FormatError):
        ask(b"{}")


def test_the_mark_is_durable(tmp_path: Path) -> None:
    """After a restart older documents are still refused, and so are versions below the floor."""
    store = Store.create(tmp_path / "s")
    keeper = AssignmentKeeper(store, "kiosk-7")
    assert (keeper.counter, keeper.current) == (0, None)
    take(keeper, document(5, floor="2.0.0"))
    again = AssignmentKeeper(store, "kiosk-7")
    assert again.counter == 5
    with pytest.raises(TrustError):
        take(again, document(4))
    with pytest.raises(TrustError, match="floor"):
        take(again, document(6, version="1.0.0"))
    assert AssignmentKeeper(store, "kiosk-7").counter == 5
    take(again, document(6, version="2.5.0", floor="2.5.0"))
    with pytest.raises(TrustError, match="floor"):
        take(AssignmentKeeper(store, "kiosk-7"), document(7))


def test_another_devices_folder_is_refused(tmp_path: Path) -> None:
    """A copied state folder does not make two devices of one."""
    store = Store.create(tmp_path / "s")
    take(AssignmentKeeper(store, "kiosk-7"), document())
    with pytest.raises(StateError, match="kiosk-7"):
        AssignmentKeeper(store, "kiosk-8")


@pytest.mark.parametrize("rotten", ["assignment", "trust/assignment"])
def test_one_rotten_copy_takes_nothing_away(tmp_path: Path, rotten: str) -> None:
    """The number that was accepted is still known; with both gone, it is sent again."""
    store = Store.create(tmp_path / "s")
    take(AssignmentKeeper(store, "kiosk-7"), document())
    (store.root / rotten).write_bytes(b"\0" * 40)
    keeper = AssignmentKeeper(store, "kiosk-7")
    assert keeper.counter == 5
    with pytest.raises(TrustError, match="older"):
        take(keeper, document(4))
    for path in ("assignment", "trust/assignment"):
        (store.root / path).write_bytes(b"")
    keeper = AssignmentKeeper(store, "kiosk-7")
    assert keeper.counter == 0
    take(keeper, document())
    assert AssignmentKeeper(store, "kiosk-7").counter == 5


def test_floors_are_kept_twice(tmp_path: Path) -> None:
    """One copy is enough; where nobody signs them again, none is an error, since they must
    never be lost."""
    store = Store.create(tmp_path / "s")
    keeper = AssignmentKeeper(store, "kiosk-7")
    take(keeper, document(floor="1.0.0"))
    (store.root / "floors").write_bytes(b"")
    assert AssignmentKeeper(store, "kiosk-7").floors.read() == floor("1.0.0")
    take(keeper, document(6, floor="1.1.0"))
    (store.root / "trust" / "floors").unlink()
    assert keeper.floors.read() == floor("1.1.0")
    (store.root / "floors").write_bytes(b"")
    with pytest.raises(StateError):
        take(keeper, document(9))
    assert keeper.floors_or_none() == {}


def floor(version: str) -> dict[str, Version]:
    return {"team/digits": Version.parse(version)}
