"""What the demo found out, as values, and how it is shown and judged. Pure but for printing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_sdk.base.command import bytes_text, print_table

_BAR_CELLS = 24
SLOWER_MIN = 4.0  # v4 has to be bad enough for the verdict to mean something


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceResult:
    """How one device took one version. ``seconds``: from the order to the first version's
    answer; None where it never served. ``ratio``: the device's own measure of golden compute
    time against the version before; None where it did not come to that."""

    device: str
    variant: str
    state: str
    reason: str
    message: str
    wire_bytes: int
    whole_bytes: int
    seconds: float | None
    ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One version brought to all devices; ``served`` and ``failed`` are requests meanwhile."""

    version: str
    devices: tuple[DeviceResult, ...]
    served: int
    failed: int

    @property
    def state(self) -> str:
        """The one state in which all devices ended, or all of them joined."""
        return "+".join(sorted({one.state for one in self.devices}))

    @property
    def wire_bytes(self) -> int:
        return sum(one.wire_bytes for one in self.devices)

    @property
    def whole_bytes(self) -> int:
        return sum(one.whole_bytes for one in self.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``accuracy``: by version, then by variant, measured through the agents' API."""

    acts: tuple[Act, ...]
    accuracy: Mapping[str, Mapping[str, float]]
    served: int
    failed: int

    def act(self, version: str) -> Act:
        return next(one for one in self.acts if one.version == version)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The form of ``build/demo.json``."""
    update = outcome.act("2.0.0")
    return {
        "whole_bytes": update.whole_bytes,
        "delta_bytes": update.wire_bytes,
        "accuracy": {
            "v1": _mean(outcome.accuracy["1.0.0"]),
            "v2": _mean(outcome.accuracy["2.0.0"]),
        },
        "served": outcome.served,
        "failed": outcome.failed,
        "v3": outcome.act("3.0.0").state,
        "v4": outcome.act("4.0.0").state,
    }


def _mean(shares: Mapping[str, float]) -> float:
    """Over the devices: both answer the same held-out digits."""
    return sum(shares.values()) / len(shares)


def broken_promises(outcome: Outcome, *, own: bool = False) -> list[str]:
    """Every expectation that did not hold, as sentences; none: the demo has passed.

    own: models of the user's own, of which nothing is known but that they must arrive.
    """
    expected = {
        "1.0.0": "committed",
        "2.0.0": "committed",
        "3.0.0": "failed",
        "4.0.0": "rolled_back",
    }
    problems = [
        f"{one.version} on {device.device} ended as {device.state or 'nothing'}, expected "
        f"{expected[one.version]}: {device.reason} {device.message}".rstrip()
        for one in outcome.acts
        for device in one.devices
        if device.state != expected[one.version]
    ]
    if outcome.failed:
        problems.append(f"{outcome.failed} requests failed")
    if own:
        return problems
    problems += _weak_update(outcome.act("2.0.0"))
    problems += [
        f"4.0.0 was {device.ratio} times as slow on {device.device}, not {SLOWER_MIN:g}"
        for device in outcome.act("4.0.0").devices
        if device.ratio is None or device.ratio < SLOWER_MIN
    ]
    if not outcome.served:
        problems.append("no request was served")
    accuracy = outcome.accuracy
    if accuracy and _mean(accuracy["2.0.0"]) <= _mean(accuracy["1.0.0"]):
        problems.append("2.0.0 is not more accurate than 1.0.0")
    return problems


def _weak_update(update: Act) -> list[str]:
    problems = []
    for device in update.devices:
        if not 0 < device.wire_bytes < device.whole_bytes:
            problems.append(
                f"2.0.0 to {device.device} took {device.wire_bytes} bytes on the wire, "
                f"whole {device.whole_bytes}"
            )
        if device.seconds is None:
            problems.append(f"{device.device} never served 2.0.0")
    return problems


def bar(done: int, total: int) -> str:
    """A share as text, for terminals and logs alike."""
    cells = round(_BAR_CELLS * min(done, total) / total) if total else 0
    return "█" * cells + "░" * (_BAR_CELLS - cells)


def travelled(device: DeviceResult) -> str:
    """One line: what came over the wire against the whole."""
    share = f"{device.wire_bytes / device.whole_bytes:.0%}" if device.whole_bytes else "?"
    return (
        f"{device.device:8} {bar(device.wire_bytes, device.whole_bytes)} "
        f"{bytes_text(device.wire_bytes):>9} of {bytes_text(device.whole_bytes):>9} ({share})"
    )


def show(outcome: Outcome) -> None:
    """The table at the end, on standard output."""
    columns = ["version", "device", "whole", "on the wire", "share", "seconds", "accuracy"]
    columns += ["outcome", "served", "failed"]
    rows: list[list[str]] = []
    for act in outcome.acts:
        for number, device in enumerate(act.devices):
            shares = outcome.accuracy.get(act.version, {})
            first = number == 0
            rows.append(
                [
                    act.version if first else "",
                    f"{device.device} ({device.variant})",
                    bytes_text(device.whole_bytes),
                    bytes_text(device.wire_bytes),
                    f"{device.wire_bytes / device.whole_bytes:.0%}" if device.whole_bytes else "",
                    f"{device.seconds:.1f}" if device.seconds is not None else "",
                    f"{shares[device.device]:.1%}" if device.device in shares else "",
                    device.state.replace("_", " "),
                    str(act.served) if first else "",
                    str(act.failed) if first else "",
                ]
            )
    print_table(columns, rows)
