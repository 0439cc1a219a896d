"""The main job, start to end: ``make demo`` or ``python -m demo``.

Trains digit classifiers, starts a distributor and two agents as processes of their own,
brings version after version to them while a stock client asks without pause, and ends with
what travelled, how long it took, and what became of the bad versions. Exit code 0 only where
everything that is promised held.
"""

from __future__ import annotations

import json
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from demo import digits, report, train
from demo.agents import LocalStatus, Traffic, measure_accuracy, wait_until_known
from demo.quantise import compile_int8
from demo.report import Act, DeviceResult, Outcome
from demo.stage import Agent, DemoError, Stage
from demo.versions import (
    MODEL,
    Release,
    make_release,
    write_expected,
    write_undamaged_sample,
)
from edge_sdk.base.command import bytes_text, run
from edge_sdk.fleet import Rollout

RESULT = Path("build") / "demo.json"
# Only the second agent says that it has this: with it, the smaller INT8 variant fits.
INT8_UNIT = "int8-unit"
PROBATION_S = 3.0
REQUESTS_PER_S = 100.0  # from each of the two clients
_ROLLOUT_LIMIT_S = 120.0
_POLL_S = 0.05


def say(text: str) -> None:
    click.echo(text)


class Play:
    """The distributor, the agents, and what is known of them; lives within one ``Stage``."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        distributor = stage.start_distributor(namespaces=["demo"])
        self._device_address = distributor.device_address
        self.fleet = stage.open_fleet()
        self.agents: list[Agent] = []
        self.status: dict[str, LocalStatus] = {}
        self.traffic = Traffic(stage)
        self.acts: list[Act] = []

    def start_agent(self, name: str, *options: str) -> Agent:
        agent = self.stage.start_agent(
            name,
            self._device_address,
            *("--probation-s", str(PROBATION_S)),
            *options,
        )
        wait_until_known(self.fleet, agent)
        self.agents.append(agent)
        self.status[name] = LocalStatus(agent, MODEL)
        return agent

    def publish(self, releases: Sequence[Release]) -> None:
        for release in releases:
            published = self.fleet.upload(release.prepared)
            say(
                f"  published {release.version} {release.variant}: "
                f"{bytes_text(published.size_bytes)}, artifact {published.artifact.short}"
            )

    def roll_out(self, version: str) -> Act:
        """Brings ``version`` to every agent and waits for what becomes of it."""
        served, failed = self.traffic.served, self.traffic.failed
        began_s = time.monotonic()
        rollout = self.fleet.rollout_create(MODEL, version)
        first_answer_s: dict[str, float] = {}
        with _bars(self.agents) as show:
            while not (rollout := self.fleet.rollout_status(rollout.rollout)).finished:
                for name, status in self.status.items():
                    model = status.model()
                    show(name, model.state or "assigned", model.wire_bytes, rollout)
                    if model.version == version:
                        first_answer_s.setdefault(name, time.monotonic() - began_s)
                self._check(rollout, began_s)
                time.sleep(_POLL_S)
        for name, status in self.status.items():
            if status.model().version == version:
                first_answer_s.setdefault(name, time.monotonic() - began_s)
        act = Act(
            version=version,
            devices=tuple(
                DeviceResult(
                    device=one.device,
                    variant=one.variant,
                    state=one.state,
                    reason=one.reason,
                    message=one.message,
                    # What the device counted, not what the distributor expected.
                    wire_bytes=int(one.facts.get("wire_bytes", 0)),
                    whole_bytes=one.whole_bytes,
                    seconds=first_answer_s.get(one.device),
                    ratio=float(one.facts["ratio"]) if "ratio" in one.facts else None,
                )
                for one in rollout.devices
            ),
            served=self.traffic.served - served,
            failed=self.traffic.failed - failed,
        )
        for device in act.devices:
            say(f"  {report.travelled(device)}  {_ending(device)}")
        self.acts.append(act)
        return act

    def _check(self, rollout: Rollout, began_s: float) -> None:
        dead = self.stage.dead()
        if dead:
            raise DemoError(f"{dead[0]} ended by itself: {self.stage.said(dead[0])}")
        if time.monotonic() - began_s > _ROLLOUT_LIMIT_S:
            states = ", ".join(f"{one.device} {one.state}" for one in rollout.devices)
            raise DemoError(f"version {rollout.version} was not done in time: {states}")

    def close(self) -> None:
        for status in self.status.values():
            status.close()
        self.fleet.close()


def _ending(device: DeviceResult) -> str:
    words = device.state.replace("_", " ")
    if not device.reason:
        return words
    return f"{words}: {textwrap.shorten(device.message or device.reason, 110)}"


@contextmanager
def _bars(agents: Sequence[Agent]) -> Iterator[Callable[[str, str, int, Rollout], None]]:
    """A moving bar for each agent, on a terminal only; what stays is printed afterwards."""
    console = Console(stderr=True)
    columns = (TextColumn("  {task.description:24}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        tasks: dict[str, TaskID] = {
            agent.name: progress.add_task(agent.name, total=None) for agent in agents
        }

        def show(name: str, state: str, wire_bytes: int, rollout: Rollout) -> None:
            whole = next((one.whole_bytes for one in rollout.devices if one.device == name), 0)
            progress.update(
                tasks[name],
                description=f"{name} {state}",
                completed=wire_bytes,
                total=whole or None,
            )

        yield show


@contextmanager
def _play() -> Iterator[Play]:
    with tempfile.TemporaryDirectory(prefix="edge-demo-") as folder, Stage(Path(folder)) as stage:
        play = Play(stage)
        try:
            yield play
        finally:
            play.close()


def play_everything() -> Outcome:
    """Four versions of the digit classifier in two variants to two agents."""
    with _play() as play:
        folder = play.stage.folder
        say("Training a digit classifier in three versions (NumPy, two kinds of weights) ...")
        trained = train.build_all(folder, compile_int8, lambda text: say(f"  {text}"))
        say(f"  {trained.weights:,} weights; INT8 by edge-quantize")
        releases = releases_of(trained, folder)
        data = digits.load()
        accuracy: dict[str, dict[str, float]] = {}
        play.start_agent("camera")
        play.start_agent("sensor", "--accelerator", INT8_UNIT)
        say(
            "A distributor and two agents run: camera takes FP32, sensor INT8. Each enrolled with a"
        )
        say("token and believes what the publisher signed; every connection is mutual TLS.")

        say("\nVersion 1.0.0, from nothing:")
        play.publish(releases["1.0.0"])
        play.roll_out("1.0.0")
        accuracy["1.0.0"] = _accuracy(play, "1.0.0", data)
        for agent, variant in zip(play.agents, ("fp32", "int8"), strict=True):
            expected = folder / f"expected-{variant}.npz"
            allowed = [
                release
                for version in ("1.0.0", "2.0.0", "4.0.0")
                for release in releases[version]
                if release.variant == variant
            ]
            write_expected(allowed, expected)
            play.traffic.start(agent, MODEL, expected, REQUESTS_PER_S)
        say("  A stock tritonclient now asks both agents without pause.")

        say("\nVersion 2.0.0, a fine-tune, as a delta:")
        play.publish(releases["2.0.0"])
        play.roll_out("2.0.0")
        accuracy["2.0.0"] = _accuracy(play, "2.0.0", data)

        say("\nVersion 3.0.0, whose weights were mixed up after its golden sample was taken:")
        play.publish(releases["3.0.0"])
        play.roll_out("3.0.0")
        _accuracy(play, "2.0.0", data)

        say("\nVersion 4.0.0, right but many times slower:")
        play.publish(releases["4.0.0"])
        play.roll_out("4.0.0")
        _accuracy(play, "2.0.0", data)
        return _outcome(play, accuracy)


def releases_of(trained: train.Trained, folder: Path) -> dict[str, list[Release]]:
    releases: dict[str, list[Release]] = {}
    parent = None
    for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
        for build in trained.version(version):
            golden = trained.golden_inputs
            if build.undamaged != build.model:
                golden = folder / f"golden-{build.version}-{build.variant}.npz"
                write_undamaged_sample(_release(build, parent, trained.golden_inputs), golden)
            releases.setdefault(version, []).append(_release(build, parent, golden))
        parent = "2.0.0" if version == "3.0.0" else version
    return releases


def _release(build: train.Build, parent: str | None, golden: Path) -> Release:
    first_time = golden.name == "golden_inputs.npz"
    return make_release(
        build.undamaged if first_time else build.model,
        version=build.version,
        variant=build.variant,
        parent=parent,
        golden=golden,
        require=(f"accelerator={INT8_UNIT}",) if build.variant == "int8" else (),
    )


def _accuracy(play: Play, version: str, data: digits.Digits) -> dict[str, float]:
    """Of each agent, asked over its inference API; all must serve ``version``."""
    shares = {agent.name: measure_accuracy(agent, MODEL, version, data) for agent in play.agents}
    words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    say(f"  {version} serves; held-out digits right: {words}")
    return shares


def play_own(old: Path, new: Path) -> Outcome:
    """Two models of the user's own: the first installed, the second as a delta."""
    with _play() as play:
        folder = play.stage.folder
        play.start_agent("device")
        releases = [
            make_release(path, version=version, variant="own", parent=parent, golden=None)
            for path, version, parent in ((old, "1.0.0", None), (new, "2.0.0", "1.0.0"))
        ]
        for release in releases:
            for text in release.prepared.notes:
                say(f"  {release.version}: {text}")
        say(f"\nVersion 1.0.0, {old.name}, from nothing:")
        play.publish(releases[:1])
        play.roll_out("1.0.0")
        if releases[0].inputs:
            expected = folder / "expected.npz"
            write_expected(releases, expected)
            play.traffic.start(play.agents[0], MODEL, expected, REQUESTS_PER_S)
        say(f"\nVersion 2.0.0, {new.name}, as a delta:")
        play.publish(releases[1:])
        play.roll_out("2.0.0")
        return _outcome(play, {})


def _outcome(play: Play, accuracy: dict[str, dict[str, float]]) -> Outcome:
    play.traffic.stop()
    for problem in play.traffic.problems:
        say(f"  a request failed: {problem}")
    return Outcome(
        acts=tuple(play.acts),
        accuracy=accuracy,
        served=play.traffic.served,
        failed=play.traffic.failed,
    )


@click.command()
@click.option("--old", type=click.Path(path_type=Path, exists=True), help="Your model, installed.")
@click.option("--new", type=click.Path(path_type=Path, exists=True), help="Its update.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(old: Path | None, new: Path | None) -> None:
    """The main job on this machine.

    Example: python -m demo --old yesterday.onnx --new today.onnx
    """
    if (old is None) != (new is None):
        raise click.UsageError("give both --old and --new, or neither")
    began_s = time.monotonic()
    outcome = play_own(old, new) if old and new else play_everything()
    say("")
    report.show(outcome)
    say(
        f"\n{outcome.served} requests served, {outcome.failed} failed, "
        f"in {time.monotonic() - began_s:.0f} s all in all."
    )
    problems = report.broken_promises(outcome, own=old is not None)
    if problems:
        raise DemoError("; ".join(problems))
    if not old:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(report.as_json(outcome), indent=2, sort_keys=True) + "\n")
        say(f"Written to {RESULT}.")


def main() -> None:
    run(cli, "demo")


if __name__ == "__main__":
    main()
