"""``edge-agent bench``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.cli.ask import running_config, shown_token
from device_agent.cli.live import status_line
from edge_sdk.base import EdgeError, RefusedError, UnavailableError, UsageError
from edge_sdk.base.command import (
    EXIT_INTERRUPTED,
    PathArgument,
    json_option,
    note,
    print_json,
    print_table,
    read_toml,
)
from edge_sdk.base.files import refuse_unwritable, whole_file
from edge_sdk.rpc import TOKEN_VARIABLE, app_token

if TYPE_CHECKING:
    from device_agent.load_test import Load, Observe, Plan, Where

_EXAMPLE = """Example:

\b
  edge-agent bench --load "team/digits rate=200 priority=high p99-ms=5" \\
      --load "team/detector clients=4 throughput=30" --html report.html
"""


@click.command(epilog=_EXAMPLE)
@click.option(
    "--load",
    "loads",
    multiple=True,
    metavar="'MODEL KEY=VALUE ...'",
    help="rate=R (open loop) or clients=N (closed loop), priority, batch, inputs=F.npz, "
    "labels=F.npz, ..., and goals: p50-ms, p90-ms, p99-ms, p999-ms, throughput, failures, "
    "accuracy. May be repeated.",
)
@click.option("--scenario", type=PathArgument(), help="A TOML file with tables [[load]].")
@click.option("--duration-s", type=click.FloatRange(0.1, 86400), help="What counts; 10 s.")
@click.option("--warm-up-s", type=click.FloatRange(0, 3600), help="Before that; 1 s.")
@click.option("--seed", type=click.IntRange(0, 2**31), help="Of arrivals and inputs; 0.")
@click.option("--grpc", is_flag=True, help="Not over shared memory, also where that can be.")
@click.option("--html", type=PathArgument(), help="Write a report with plots to this file.")
@click.option("--force", is_flag=True, help="Replace the report if it is there.")
@click.option("--state", "state_dir", help="The agent's folder.")
@click.option("--local-address", help="Where its AgentService listens.")
@click.option("--inference-address", help="Where inference listens, if there is no agent.")
@json_option
def bench(
    *,
    loads: tuple[str, ...],
    scenario: Path | None,
    duration_s: float | None,
    warm_up_s: float | None,
    seed: int | None,
    grpc: bool,
    html: Path | None,
    force: bool,
    state_dir: str | None,
    local_address: str | None,
    inference_address: str | None,
    as_json: bool,
) -> None:
    """Loads this device's agent and says how it answered.

    Latency counts from when each request was due, so that no pause is hidden. Ends with 6
    where a goal is missed. Ctrl-C gives the figures until then.
    """
    from device_agent.load_test import html_report, run_loads

    where = _where(state_dir, local_address, inference_address, fast_lane=not grpc)
    timing = {"duration_s": duration_s, "warm_up_s": warm_up_s, "seed": seed}
    plan = _plan(loads, scenario, where, timing)
    if html is not None:
        refuse_unwritable(html, replace=force)
    with status_line() as show:
        document = run_loads(plan, progress=_progress(plan, show), observe=_observe(where))
    if html is not None:
        with whole_file(html, replace=force) as stream:
            stream.write(html_report(document).encode())
        note(f"report: {html}")
    if as_json:
        print_json(document)
    else:
        _print(document)
    if document["interrupted"]:
        raise click.exceptions.Exit(EXIT_INTERRUPTED)
    missed = [goal for load in document["loads"] for goal in load["goals"] if not goal["met"]]
    if missed:
        verb = "goal is" if len(missed) == 1 else "goals are"
        raise RefusedError(f"{len(missed)} {verb} not met", missed=len(missed))


def _where(
    state_dir: str | None, local: str | None, inference: str | None, *, fast_lane: bool
) -> Where:
    from device_agent.load_test import Where

    if inference:
        return Where(inference=inference, fast_lane=fast_lane)
    config = running_config(state_dir, local)
    uri = config.agent_uri
    if uri.startswith("unix:") and not Path(uri.removeprefix("unix:")).exists():
        raise UnavailableError(
            f"no agent runs at {uri}: start it with 'edge-agent run', or say where it is with "
            "--state, --local-address or --inference-address"
        )
    token = shown_token(config)
    if token:  # the clients, some of them in processes of their own, find it there
        os.environ.setdefault(TOKEN_VARIABLE, token)
    return Where(agent=uri, fast_lane=fast_lane)


def _observe(where: Where) -> Observe | None:
    """The agent's own statistics of the time that counts; nothing where it has none."""
    if not where.agent:
        return None
    from device_agent.cli.usage import between
    from device_agent.local_api.asking import AgentQuestions

    def begin() -> Callable[[], list[dict[str, Any]]]:
        token = app_token()
        with AgentQuestions(where.agent, token) as questions, suppress(EdgeError):
            before = questions.statistics()

            def end() -> list[dict[str, Any]]:
                with AgentQuestions(where.agent, token) as again, suppress(EdgeError):
                    return between(before.page, again.statistics().page)
                return []

            return end
        return list

    return begin


def _plan(
    texts: tuple[str, ...], scenario: Path | None, where: Where, timing: dict[str, Any]
) -> Plan:
    """Flags before the file's. Raises: UsageError, FormatError, NotFoundError."""
    from device_agent.load_test import Plan, named_apart, parse_load, parse_scenario

    given = {key: value for key, value in timing.items() if value is not None}
    found: list[Load] = []
    if scenario is not None:
        loads, values = parse_scenario(read_toml(scenario), where=str(scenario))
        found += loads
        given = {**values, **given}
    found += [parse_load(text) for text in texts]
    if not found:
        raise UsageError("what is to be loaded? give --load 'MODEL rate=100' or --scenario FILE")
    return Plan(loads=named_apart(found), where=where, **given)


def _progress(
    plan: Plan, show: Callable[[str], None] | None
) -> Callable[[float, dict[str, int]], None] | None:
    """What is shown while it runs; None: there is no terminal."""
    if show is None:
        return None

    def progress(at_s: float, counts: dict[str, int]) -> None:
        left_s = plan.warm_up_s + plan.duration_s - at_s
        asked = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        warming = " (warming up)" if at_s < plan.warm_up_s else ""
        show(f"{max(left_s, 0):.0f} s left{warming}: {asked} requests")

    return progress


def _print(document: dict[str, Any]) -> None:
    from device_agent.load_test.report import BUSY, count_text, goal_words, how_asked, ms_text

    columns = ["load (ms)", "asked", "requests", "failed", "answers/s"]
    columns += ["p50", "p90", "p99", "p99.9"]
    with_labels = any(load["accuracy"] is not None for load in document["loads"])
    columns += ["top-k"] if with_labels else []
    rows = []
    for load in document["loads"]:
        latency = load["latency"]
        rows.append(
            [
                load["name"],
                how_asked(load),
                str(load["asked"]),
                str(load["asked"] - load["answered"]),
                count_text(load["throughput"]),
                *(ms_text(latency[one]) for one in ("p50", "p90", "p99", "p999")),
                *([_accuracy(load)] if with_labels else []),
            ]
        )
    print_table(columns, rows)
    _print_served(document["served"])
    for load in document["loads"]:
        for reason, count in load["failed"].items():
            click.echo(f"{load['name']}: {count} x {reason}: {load['first_errors'][reason]}")
        if load["dropped"]:
            click.echo(f"{load['name']}: {load['dropped']} dropped, waited for too long here")
        if load["truncated"]:
            click.echo(f"{load['name']}: ended early, at the most requests that are kept")
    goals = [(load["name"], goal) for load in document["loads"] for goal in load["goals"]]
    if goals:
        click.echo()
        print_table(
            ["goal", "wanted", "measured", "", ""],
            [[name, *goal_words(goal), goal["why"]] for name, goal in goals],
        )
    share = document["busy_share"]
    if share is not None and share >= BUSY:
        note(f"all cores were busy for {share:.0%} of the time: other programs count here too")


def _accuracy(load: Mapping[str, Any]) -> str:
    return "-" if load["accuracy"] is None else f"{load['accuracy']:.1%}"


def _print_served(served: Sequence[Mapping[str, Any]]) -> None:
    """Where the time went, by the agent's own statistics."""
    from device_agent.load_test.report import PHASES, phase_text

    rows = [
        [
            one["model"],
            "-" if one["batch_mean"] is None else f"{one['batch_mean']:.2f}",
            *(phase_text(one["phases"][name]) for name in PHASES),
        ]
        for one in served
    ]
    if rows:
        click.echo()
        print_table(["in the agent (p50 / p99 ms)", "requests a run", *PHASES], rows)
