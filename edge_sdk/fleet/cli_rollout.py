"""``edge-fleet rollout``: plan, create, watch, abort and undo."""

from __future__ import annotations

import sys
from typing import Any

import click

from edge_sdk.base import NotFoundError, RefusedError
from edge_sdk.base.command import DEVICE, MODEL, VERSION, json_option, note, print_json
from edge_sdk.fleet.model import Cohort, Rollout
from edge_sdk.fleet.present import (
    Patience,
    changes,
    counter,
    device_names,
    document,
    plan_document,
    plan_summary,
    print_plan,
    print_rollout,
    print_rollouts,
    rollout_document,
    rollout_summary,
    settled,
)

_QUIET_S = 60.0


def _debug(command: Any) -> Any:
    return click.option("--debug", is_flag=True, expose_value=False, hidden=True)(command)


def _cohort(command: Any) -> Any:
    """The cohort as ``--device`` and ``--selector``; neither means every device."""
    command = click.option(
        "--selector", default="", metavar="TERMS", help="Labels, such as site=berlin,tier!=test."
    )(command)
    return click.option(
        "--device",
        "devices",
        type=DEVICE,
        multiple=True,
        metavar="NAME",
        help="A device; may be repeated.",
    )(command)


def _together(command: Any) -> Any:
    return click.option(
        "--with",
        "together",
        type=(MODEL, VERSION),
        multiple=True,
        metavar="MODEL VERSION",
        help="Another model that comes with it or not at all; may be repeated.",
    )(command)


@click.group(epilog="Example:  edge-fleet rollout create team/digits 2.0.0 --selector site=berlin")
@_debug
def rollout() -> None:
    """Bring a version to devices, and see how it goes."""


@rollout.command(
    epilog="Example:  edge-fleet rollout plan team/digits 2.0.0 --selector site=berlin"
)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@_together
@_cohort
@json_option
@_debug
@click.pass_obj
def plan(
    target: Any,
    *,
    model: str,
    version: str,
    together: tuple[tuple[str, str], ...],
    devices: tuple[str, ...],
    selector: str,
    as_json: bool,
) -> None:
    """Build the deltas for VERSION of MODEL and say what each device would get, in bytes.

    Nothing is assigned. Devices that would get nothing are listed with the reason.
    """
    with target.open() as fleet, counter("building deltas") as bar:
        planned = fleet.rollout_plan(
            model,
            version,
            Cohort(devices=devices, selector=selector),
            together=together,
            progress=bar.at,
        )
    if as_json:
        print_json(plan_document(planned))
        return
    print_plan(planned)
    click.echo(plan_summary(planned))


@rollout.command(
    epilog="Example:  edge-fleet rollout create team/digits 2.0.0 --device gate-7 --json"
)
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@_together
@_cohort
@click.option("--retry", is_flag=True, help="Try again where this very version failed before.")
@json_option
@_debug
@click.pass_obj
def create(
    target: Any,
    *,
    model: str,
    version: str,
    together: tuple[tuple[str, str], ...],
    devices: tuple[str, ...],
    selector: str,
    retry: bool,
    as_json: bool,
) -> None:
    """Bring VERSION of MODEL to devices; answers at once with the rollout's name.

    With --with, several models as one group: a device switches to all of them or to none.
    """
    with target.open() as fleet:
        created = fleet.rollout_create(
            model,
            version,
            Cohort(devices=devices, selector=selector),
            retry=retry,
            together=together,
        )
    _print_started(created, as_json=as_json)


def _print_started(started: Rollout, *, as_json: bool) -> None:
    if as_json:
        print_json(rollout_document(started))
    else:
        click.echo(rollout_summary(started))
        if started.removals:
            for model in dict.fromkeys(one.model for one in started.removals):
                names = ", ".join(one.device for one in started.removals if one.model == model)
                click.echo(f"{model} is taken away from {names}: there was none before")
        note(f"edge-fleet: follow it with: edge-fleet rollout watch {started.rollout}")


@rollout.command(epilog="Example:  edge-fleet rollout status r-7")
@click.argument("rollout_name", metavar="ROLLOUT")
@json_option
@_debug
@click.pass_obj
def status(target: Any, rollout_name: str, as_json: bool) -> None:
    """Show where each device of ROLLOUT is."""
    with target.open() as fleet:
        found = fleet.rollout_status(rollout_name)
    if as_json:
        print_json(rollout_document(found))
    else:
        print_rollout(found)


@rollout.command(epilog="Example:  edge-fleet rollout watch r-7 --timeout 900 --json")
@click.argument("rollout_name", metavar="ROLLOUT")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop watching.")
@click.option("--allow-refused", is_flag=True, help="Devices that no variant fits are no failure.")
@json_option
@_debug
@click.pass_obj
def watch(
    target: Any, *, rollout_name: str, timeout: float | None, allow_refused: bool, as_json: bool
) -> None:
    """Follow ROLLOUT until it is done or aborted.

    Exit codes for pipelines: 0, done, and every device has the version (or a later one); 6,
    aborted, or a device failed, rolled back or was refused; 5, not done within --timeout (the
    rollout goes on).
    """
    last: Rollout | None = None
    with target.open() as fleet, counter("devices") as bar:
        patience = Patience(bar.say, quiet_s=_QUIET_S)
        try:
            for now in fleet.rollout_watch(rollout_name, timeout_s=timeout):
                patience.heard(now)
                for line in changes(last, now):
                    bar.say(line)
                bar.at(settled(now), len(device_names(now.devices)))
                last = now
        finally:
            patience.heard(None)
    if last is None:
        raise NotFoundError(f"the distributor said nothing about rollout {rollout_name}")
    problem = _problem(last, allow_refused=allow_refused)
    note(f"edge-fleet: {problem}" if problem else f"{last.rollout}: {last.state}")
    if as_json:
        print_json(rollout_document(last))
    else:
        print_rollout(last)
    if problem:
        sys.exit(RefusedError.exit_code)  # the document is printed; an error would be a second


def _problem(ended: Rollout, *, allow_refused: bool) -> str:
    """Why a pipeline should stop; empty where it need not."""
    if ended.state != "done":
        return f"rollout {ended.rollout} was {ended.state}"
    if ended.failures:
        said = []
        for state, words in (("failed", "failed on"), ("rolled_back", "was rolled back on")):
            names = ", ".join(device_names(one for one in ended.failures if one.state == state))
            said += [f"{words} {names}"] if names else []
        return f"rollout {ended.rollout} {' and '.join(said)}"
    if ended.refusals and not allow_refused:
        names = ", ".join(device_names(ended.refusals))
        return f"rollout {ended.rollout} never reached {names}; see: edge-fleet explain DEVICE"
    return ""


@rollout.command(epilog="Example:  edge-fleet rollout abort r-7")
@click.argument("rollout_name", metavar="ROLLOUT")
@json_option
@_debug
@click.pass_obj
def abort(target: Any, rollout_name: str, as_json: bool) -> None:
    """Stop ROLLOUT: no device begins it any more; what is committed stays."""
    with target.open() as fleet:
        aborted = fleet.rollout_abort(rollout_name)
    if as_json:
        print_json(rollout_document(aborted))
    else:
        click.echo(rollout_summary(aborted))


@rollout.command(epilog="Example:  edge-fleet rollout undo r-7")
@click.argument("rollout_name", metavar="ROLLOUT")
@json_option
@_debug
@click.pass_obj
def undo(target: Any, rollout_name: str, as_json: bool) -> None:
    """Send the devices of ROLLOUT back to what they had before, as a new rollout.

    From a device that had no version of the model before, the model is taken away.
    """
    with target.open() as fleet:
        undoing = fleet.rollout_undo(rollout_name)
    _print_started(undoing, as_json=as_json)


@rollout.command("list", epilog="Example:  edge-fleet rollout list --model team/digits")
@click.option("--model", type=MODEL, metavar="NAMESPACE/NAME", help="Only this model's.")
@json_option
@_debug
@click.pass_obj
def list_(target: Any, model: str | None, as_json: bool) -> None:
    """List rollouts, newest first."""
    with target.open() as fleet:
        found = fleet.rollout_list(model)
    if as_json:
        print_json({"rollouts": [document(one) for one in found]})
    else:
        print_rollouts(found)
