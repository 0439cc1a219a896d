"""How fleet values look: documents for ``--json``, tables for people, bars on a terminal."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from edge_sdk.base.command import bytes_text, note, print_table, printable
from edge_sdk.fleet.model import (
    Artifact,
    Device,
    Explanation,
    ModelVersion,
    PlannedDevice,
    Rollout,
    RolloutDevice,
    RolloutPlan,
    Storage,
    StoredDelta,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def document(value: DataclassInstance) -> dict[str, Any]:
    """A value as plain JSON types; digests become hexadecimal text."""
    return asdict(value)


def rollout_document(rollout: Rollout) -> dict[str, Any]:
    """With what a pipeline would otherwise have to work out."""
    return {
        **document(rollout),
        "finished": rollout.finished,
        "succeeded": rollout.succeeded,
        "failures": device_names(rollout.failures),
        "refusals": device_names(rollout.refusals),
        "removals": device_names(rollout.removals),
    }


def plan_document(plan: RolloutPlan) -> dict[str, Any]:
    return {
        **document(plan),
        "wire_bytes": plan.wire_bytes,
        "whole_bytes": plan.whole_bytes,
        "without": device_names(plan.without),
    }


def device_names(rows: Iterable[PlannedDevice | RolloutDevice]) -> list[str]:
    """Each device once, however many models of it are meant."""
    return list(dict.fromkeys(one.device for one in rows))


def _what(brought: Rollout | RolloutPlan) -> str:
    """The models with their versions."""
    first = ModelVersion(model=brought.model, version=brought.version)
    return " with ".join(
        f"{one.model} {one.version or '(back)'}" for one in (first, *brought.together)
    )


def labels_text(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "-"


def time_text(at_ms: int) -> str:
    if not at_ms:
        return "-"
    at = datetime.fromtimestamp(at_ms / 1000, tz=timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def print_models(artifacts: Sequence[Artifact]) -> None:
    print_table(
        ["MODEL", "VERSION", "VARIANT", "PARENT", "FORMAT", "SIZE", "PUBLISHED (UTC)", "ARTIFACT"],
        [
            [
                *(one.model, one.version, one.variant, one.parent or "-", one.format),
                *(bytes_text(one.size_bytes), time_text(one.published_ms), one.artifact.short),
            ]
            for one in artifacts
        ],
    )


def print_storage(storage: Storage) -> None:
    """Versions, then deltas with the least useful first, then the sums."""
    print_table(
        ["MODEL", "VERSION", "VARIANT", "FILES", "GOLDEN", "DEVICES", "KEPT BECAUSE"],
        [
            [
                *(one.model, one.version, one.variant, bytes_text(one.files_bytes)),
                bytes_text(one.golden_bytes) if one.golden_bytes else "-",
                *(str(one.devices), "; ".join(one.reasons)),
            ]
            for one in storage.versions
        ],
    )
    print_table(
        ["MODEL", "VARIANT", "FROM", "TO", "DELTA", "SAVES NOW", "COULD GO", "KEPT BECAUSE"],
        [
            [
                *(one.model, one.variant, _from(one), one.target_version),
                *(bytes_text(one.size_bytes), bytes_text(one.worth_bytes)),
                *("yes" if one.could_go else "no", "; ".join(one.reasons)),
            ]
            for one in storage.deltas
        ],
    )
    click.echo(storage_summary(storage))


def _from(delta: StoredDelta) -> str:
    if delta.source_artifact is None:
        return "nothing"
    same = delta.source_variant == delta.variant
    return delta.source_version if same else f"{delta.source_version} {delta.source_variant}"


def storage_summary(storage: Storage) -> str:
    budget = storage.budget_bytes
    limit = f" (all models: at most {bytes_text(budget)})" if budget else ""
    return (
        f"files {bytes_text(storage.files_bytes)}, deltas {bytes_text(storage.deltas_bytes)}"
        f"{limit}; of these {bytes_text(storage.could_go_bytes)} could go"
    )


def print_devices(devices: Sequence[Device]) -> None:
    """Assigned and running are two columns: a device that is away runs what it ran."""
    rows = []
    for device in devices:
        about = [device.device, "online" if device.online else "away", labels_text(device.labels)]
        seen = time_text(device.last_seen_ms)
        rows += [
            [
                *about,
                *(model.model, model.assigned_version or "-", model.running_version or "-"),
                *(model.state or "-", model.reason or "-", seen),
            ]
            for model in device.models
        ] or [[*about, "-", "-", "-", "-", "-", seen]]
    print_table(
        [
            *("DEVICE", "LINK", "LABELS", "MODEL", "ASSIGNED", "RUNNING", "STATE", "REASON"),
            "LAST SEEN (UTC)",
        ],
        rows,
    )
    for device in devices:
        _print_refusal(device)


def _print_refusal(device: Device) -> None:
    """A line where the device did not take up what it was told."""
    refusal = device.refusal
    if refusal is not None:
        check = f" ({refusal.check})" if refusal.check else ""
        why = f"{refusal.reason}{check}" + (f": {refusal.message}" if refusal.message else "")
        when = time_text(refusal.at_ms)
        click.echo(f"{device.device} refused, {when} by its clock: {printable(why)}")


def print_explanation(explanation: Explanation) -> None:
    device = explanation.device
    print_table(
        ["DEVICE", "ARCHITECTURE", "MEMORY", "DISK FREE", "ENGINES", "LABELS"],
        [
            [
                *(device.device, device.architecture or "-", _said(device.memory_bytes)),
                _said(device.disk_free_bytes),
                *(", ".join(device.engines) or "-", labels_text(device.labels)),
            ]
        ],
    )
    _print_refusal(device)
    print_table(
        ["MODEL", "VERSION", "VARIANT", "VERDICT", "WHY"],
        [
            [
                *(one.model, one.version, one.variant, _verdict(one.fits, one.chosen)),
                _readable("; ".join(one.reasons)),
            ]
            for one in explanation.verdicts
        ],
    )


def _readable(text: str) -> str:
    """Texts of the distributor, and those with ``--json``, count every byte."""
    return re.sub(r"\b(\d+) bytes\b", lambda found: bytes_text(int(found[1])), text)


def _said(count: int) -> str:
    """Bytes that a device stated; 0 is what it did not state."""
    return bytes_text(count) if count else "not said"


def _verdict(fits: bool, chosen: bool) -> str:
    if chosen:
        return "chosen"
    return "fits" if fits else "does not fit"


def print_plan(plan: RolloutPlan) -> None:
    print_table(
        ["DEVICE", *_column("MODEL", plan), "VARIANT", "FROM", "ON THE WIRE", "WHOLE", "WHY"],
        [
            [
                *(one.device, *_column(one.model, plan), one.variant or "none"),
                _source(one),
                *(
                    bytes_text(one.wire_bytes),
                    bytes_text(one.whole_bytes),
                    _readable(one.reason) or "-",
                ),
            ]
            for one in plan.devices
        ],
        title=_what(plan),
    )


def _column(text: str, of: Rollout | RolloutPlan) -> list[str]:
    """What is a column of its own only where there are several models."""
    return [text] if of.together else []


def _source(device: PlannedDevice) -> str:
    if device.source_artifact is not None:
        short = device.source_artifact.short
        return short if device.steps < 2 else f"{short}, {device.steps} steps"
    return "is there" if device.artifact is not None and not device.wire_bytes else "nothing"


def plan_summary(plan: RolloutPlan) -> str:
    asked = len(device_names(plan.devices))
    served = asked - len(device_names(plan.without))
    return (
        f"{served} of {asked} devices get {_what(plan)}: "
        f"{bytes_text(plan.wire_bytes)} on the wire, {bytes_text(plan.whole_bytes)} without deltas"
    )


def print_rollouts(rollouts: Sequence[Rollout]) -> None:
    print_table(
        ["ROLLOUT", "MODEL", "VERSION", "WITH", "COHORT", "STATE", "CREATED (UTC)", "UNDOES"],
        [
            [
                *(one.rollout, one.model, one.version or "(back)", _also(one), str(one.cohort)),
                *(one.state, time_text(one.created_ms), one.undoes or "-"),
            ]
            for one in rollouts
        ],
    )


def _also(rollout: Rollout) -> str:
    return ", ".join(f"{one.model} {one.version}".strip() for one in rollout.together) or "-"


def print_rollout(rollout: Rollout) -> None:
    print_table(
        [
            *("DEVICE", *_column("MODEL", rollout), "VERSION", "VARIANT", "STATE"),
            *("ON THE WIRE", "WHOLE", "WHY"),
        ],
        [
            [
                *(
                    one.device,
                    *_column(one.model, rollout),
                    one.version or "-",
                    one.variant or "none",
                    device_state(one),
                ),
                *(bytes_text(one.wire_bytes), bytes_text(one.whole_bytes), _why(one)),
            ]
            for one in sorted(rollout.devices, key=lambda one: not (one.failed or one.refused))
        ],
        title=rollout_summary(rollout),
    )


def device_state(device: RolloutDevice) -> str:
    """Silence is no proof: a version that nobody asked anything says so while it is kept."""
    if device.state == "committed":
        for fact in ("unproved", "removed"):
            if device.facts.get(fact) == "true":
                return f"{device.state} ({fact})"
    return device.state


def _why(device: RolloutDevice) -> str:
    parts = (device.reason, _readable(device.message))
    return ": ".join(part for part in parts if part) or "-"


def rollout_summary(rollout: Rollout) -> str:
    counts: dict[str, int] = {}
    for one in rollout.devices:
        counts[one.state] = counts.get(one.state, 0) + 1
    parts = [f"{count} {state}" for state, count in sorted(counts.items())]
    devices = f" ({', '.join(parts)})" if parts else ""
    reason = f": {rollout.reason}" if rollout.reason else ""
    return (
        f"{rollout.rollout} {_what(rollout)} to {rollout.cohort}: {rollout.state}{reason}{devices}"
    )


def settled(rollout: Rollout) -> int:
    """How many devices nothing more is expected of, whichever model."""
    moving = device_names(one for one in rollout.devices if not one.settled)
    return len(device_names(rollout.devices)) - len(moving)


def changes(before: Rollout | None, now: Rollout) -> Iterator[str]:
    """One line for each device that moved on or says what keeps it, for logs of pipelines.

    How it ended is not among them: that is good news only where no device failed.
    """
    rows = before.devices if before else ()
    known = {(one.device, one.model): (device_state(one), _why(one)) for one in rows}
    for one in now.devices:
        state = device_state(one)
        if known.get((one.device, one.model)) != (state, _why(one)):
            reason = "" if _why(one) == "-" else f" ({_why(one)})"
            what = " ".join([*_column(one.model, now), one.version, one.variant])
            yield f"{one.device}: {state} {what}{reason}"
    if not now.finished and (before is None or before.state != now.state):
        yield f"{now.rollout}: {now.state}"


def waits(now: Rollout, quiet_s: float) -> Iterator[str]:
    """One line for each device of which more is expected while nothing moves."""
    for one in now.devices:
        if not one.settled:
            said = "" if _why(one) == "-" else f"; last said: {_why(one)}"
            what = " ".join([device_state(one), *_column(one.model, now)])
            yield f"{one.device}: {what}, and nothing has moved for {quiet_s:.0f} s{said}"


class Patience:
    """Calls ``say`` from a thread of its own, once each time that nothing was ``heard`` for
    ``quiet_s``."""

    def __init__(self, say: Callable[[str], None], *, quiet_s: float) -> None:
        self._say = say
        self._quiet_s = quiet_s
        self._timer: threading.Timer | None = None

    def heard(self, now: Rollout | None) -> None:
        """``now`` None: it is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if now is not None:
            self._timer = threading.Timer(self._quiet_s, self._tell, (now,))
            self._timer.daemon = True
            self._timer.start()

    def _tell(self, now: Rollout) -> None:
        for line in waits(now, self._quiet_s):
            self._say(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """``at(done, total)`` moves the bar; ``say`` writes a line that the bar does not spoil."""

    at: Callable[[int, int], None]
    say: Callable[[str], None]


@contextmanager
def counter(label: str) -> Iterator[Counter]:
    """A bar on standard error, only on a terminal; elsewhere nothing but what is said."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        yield Counter(at=lambda _done, _total: None, say=note)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield Counter(
            at=lambda done, total: bar.update(task, completed=done, total=total or None),
            say=lambda line: bar.console.print(printable(line), soft_wrap=True),
        )
