"""Requests while a real agent gets an update from a real distributor: downloads, applies, tries,
loads, switches. Beside it a process that serves the same load and gets none.

The distributor runs on the same cores here, which it does not where devices are; deltas were
made before, by a rollout that is not counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import client_child, clients, figures, models, served
from benchmarks.runtime.clients import Client
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from demo.agents import wait_until_known
from demo.stage import Agent, DemoError, Stage
from edge_sdk.fleet import Fleet
from edge_sdk.fleet.publish import Draft, prepare

_MODEL = "bench/updated"
_VERSIONS = ("1.0.0", "2.0.0")
_RATE = 200.0
_STEADY_S = 2.5
_LONGEST_S = 120.0
_PROBATION_S = 1.0


@dataclass(slots=True)
class Seen:
    """By round: milliseconds of the requests while all was steady, and during the update."""

    steady: list[list[float]] = field(default_factory=list)
    during: list[list[float]] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)

    def p99_over_steady(self) -> list[float]:
        during, steady = (figures.percentiles(one, 99) for one in (self.during, self.steady))
        return figures.excesses(during, steady)


def measure(folder: Path, *, rounds: int) -> list[Row]:
    paths = _write_versions(folder / "models")
    with _agent(folder / "stage", paths) as (fleet, agent), contextlib.ExitStack() as held:
        first = Artifact(model=_MODEL, path=paths["1.0.0"])
        control = held.enter_context(served.serve(folder / "control", [first]))
        asking = {
            name: held.enter_context(_client(address, paths))
            for name, address in (("ours", agent.inference_address), ("control", control.address))
        }
        seen = {name: Seen() for name in asking}
        took = [_round(fleet, asking, _VERSIONS[1 - number % 2], seen) for number in range(rounds)]
    return _rows(seen["ours"], seen["control"], took)


def _write_versions(folder: Path) -> dict[str, Path]:
    first = models.weight_bound(folder / "1.0.0")
    return {"1.0.0": first, "2.0.0": models.tuned(first, folder / "2.0.0")}


@contextlib.contextmanager
def _agent(folder: Path, paths: dict[str, Path]) -> Iterator[tuple[Fleet, Agent]]:
    """A device that has had both versions once and serves the first."""
    folder.mkdir(parents=True)
    with Stage(folder) as stage:
        distributor = stage.start_distributor(namespaces=["bench"])
        agent = stage.start_agent(
            "bench", distributor.device_address, "--probation-s", str(_PROBATION_S)
        )
        with stage.open_fleet() as fleet:
            wait_until_known(fleet, agent)
            for version, path in paths.items():
                parent = None if version == _VERSIONS[0] else _VERSIONS[0]
                draft = Draft(model=_MODEL, version=version, variant="fp32", parent=parent)
                fleet.upload(prepare(path, draft))
            for version in (*_VERSIONS, _VERSIONS[0]):
                _roll_out(fleet, version)
            yield fleet, agent


def _roll_out(fleet: Fleet, version: str) -> None:
    rollout = fleet.rollout_create(_MODEL, version)
    for state in fleet.rollout_watch(rollout.rollout, timeout_s=_LONGEST_S):
        rollout = state
    if not rollout.succeeded:
        raise DemoError(f"{version} did not come to the device: {rollout.devices}")


def _client(address: str, paths: dict[str, Path]) -> contextlib.AbstractContextManager[Client]:
    way = clients.way("lane", address, _MODEL, models.WEIGHTS_SHAPE)
    given = client_child.given(way)
    expected = {
        version: models.bare(path).run(None, {"x": given})[0] for version, path in paths.items()
    }
    return clients.client({"lane": way}, expected)


def _round(fleet: Fleet, asking: dict[str, Client], version: str, seen: dict[str, Seen]) -> float:
    """Seconds that the update took."""
    begin_s = time.monotonic() + 0.05
    for number, one in enumerate(asking.values()):
        one.begin("lane", for_s=_LONGEST_S, rate=_RATE, at_s=begin_s, phase_s=number / _RATE / 2)
    time.sleep(_STEADY_S)
    update_s = time.monotonic() - begin_s
    _roll_out(fleet, version)
    end_s = time.monotonic() - begin_s
    for one in asking.values():
        one.stop()
    for name, one in asking.items():
        log = one.log()
        seen[name].steady.append(log.between_ms(0, update_s))
        seen[name].during.append(log.between_ms(update_s, end_s))
        seen[name].failed.append(float(log.failed))
    return end_s - update_s


def _rows(ours: Seen, control: Seen, took: list[float]) -> list[Row]:
    beside = anchor("the control's at the same time, ms", "", control.p99_over_steady())
    rows = [
        target("runtime.update.p99-over-steady").row(ours.p99_over_steady(), beside),
        row(
            "runtime.update.failed", "requests that failed meanwhile", ours.failed, "requests", "<="
        ),
        row("runtime.update.took", "one update, probation included", took, "s", "<="),
    ]
    for name, one in (("ours", ours), ("control", control)):
        for phase, values in (("steady", one.steady), ("during", one.during)):
            what = f"{name}, {phase}: p99"
            p99 = figures.percentiles(values, 99)
            rows.append(row(f"runtime.update.{name}.{phase}.p99", what, p99, "ms", "<="))
    return rows
