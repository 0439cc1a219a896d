"""``edge-agent tune``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from device_agent.cli.live import status_line
from device_agent.cli.settings import read_config
from device_agent.config import AgentConfig, ModelConfig
from device_agent.store import Store
from device_agent.tuning import (
    Figures,
    Found,
    Goal,
    Job,
    ProcessTrials,
    Search,
    Setting,
    Tried,
    Tuned,
    Wish,
    basis_here,
    forget,
    keep,
    package_of,
    words,
)
from edge_sdk.base import NotFoundError, RefusedError, ResourceError, explain_os_error
from edge_sdk.base.command import (
    MODEL,
    PathArgument,
    bytes_text,
    json_option,
    note,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from edge_sdk.manifest import Manifest

_CLIENTS_MIN = 8  # fewer would fill no batch
_BUSY_S = 1.0
_BUSY_WARNED = 0.25
_BUSY_REFUSED = 0.6
_PROCESS_BYTES = 128 << 20  # interpreter and engine library
_COPIES = 3  # of a model while it is loaded


@click.command(epilog="Example: edge-agent tune team/digits --goal throughput --max-latency-ms 20")
@click.argument("model", type=MODEL)
@click.option(
    "--goal",
    type=click.Choice(["latency", "throughput", "memory"]),
    default="latency",
    show_default=True,
    help="Of one request at a time; answers of several clients; private memory.",
)
@click.option("--max-latency-ms", type=click.FloatRange(0), default=0.0, help="A bound: median.")
@click.option("--min-throughput", type=click.FloatRange(0), default=0.0, help="A bound: per s.")
@click.option("--max-memory-mb", type=click.FloatRange(0), default=0.0, help="A bound.")
@click.option("--clients", type=click.IntRange(1, 64), help="For throughput; 8, or 2 a core.")
@click.option("--minutes", type=click.FloatRange(0.1, 240), default=5.0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Measure and say, keep nothing.")
@click.option("--busy", is_flag=True, help="Also while the device is busy.")
@click.option("--forget", "only_forget", is_flag=True, help="Drop what was kept for the model.")
@click.option("--state", "state_dir", help="The agent's folder.")
@click.option(
    "--config",
    "file",
    type=PathArgument(),
    help="The agent's TOML file: the present setting is in it.",
)
@json_option
def tune(
    *,
    model: str,
    goal: Goal,
    max_latency_ms: float,
    min_throughput: float,
    max_memory_mb: float,
    clients: int | None,
    minutes: float,
    dry_run: bool,
    busy: bool,
    only_forget: bool,
    state_dir: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Finds how this device serves a model best, and keeps it.

    Measures threads, ways of loading and bounds of batches with the model that is active,
    beside what serves and at low priority. What is kept was better in a second measurement;
    it counts from the next start of the agent.
    """
    config, _ = read_config({"state_dir": state_dir, "file": file}, device_needed=False)
    root = Path(config.state_dir)
    if only_forget:
        _forget(root, model, as_json=as_json)
        return
    wish = Wish(
        goal=goal,
        latency_ms_max=max_latency_ms,
        throughput_min=min_throughput,
        memory_bytes_max=int(max_memory_mb * 1e6),
    )
    job, tuned_of = _job(root, model, config)
    _check_room(job)
    _check_idle(busy_is_fine=busy)
    cores = len(os.sched_getaffinity(0))
    with status_line() as progress, TemporaryDirectory(prefix="edge-tune-") as scratch:
        found = Search(
            ProcessTrials(job, Path(scratch)),
            wish=wish,
            clients=clients or max(_CLIENTS_MIN, 2 * cores),
            end_s=time.monotonic() + minutes * 60,
            now_s=time.monotonic,
            progress=progress,
        ).run(_present(job), cores=cores)
    if found.best is not None and not dry_run:
        _keep(root, model, tuned_of(found, wish))
    _show(found, wish, is_kept=found.best is not None and not dry_run, as_json=as_json)


def _forget(root: Path, model: str, *, as_json: bool) -> None:
    try:
        forgotten = forget(root, model)
    except OSError as error:
        raise explain_os_error(error, root / "tuned.json") from None
    if as_json:
        print_json({"model": model, "forgotten": forgotten})
    else:
        click.echo(
            f"forgotten; it counts from the next start of the agent for {model}"
            if forgotten
            else f"nothing was kept for {model}"
        )


def _keep(root: Path, model: str, tuned: Tuned) -> None:
    try:
        keep(root, model, tuned)
    except OSError as error:
        raise explain_os_error(error, root / "tuned.json") from None


def _job(root: Path, model: str, config: AgentConfig) -> tuple[Job, Callable[[Found, Wish], Tuned]]:
    """The active artifact, proved, and how what is found for it is written down.

    Raises: NotFoundError, RefusedError, ProofError.
    """
    store = Store(root)
    slot = next((one for one in store.slots() if one.model == model), None)
    if slot is None:
        raise NotFoundError(f"{root} holds no active version of {model}", model=model)
    if slot.on_probation:
        raise RefusedError(f"a new version of {model} is on probation: tune the one that stays")
    store.prove(slot.active)
    manifest: Manifest = store.manifest(slot.active)
    if manifest.serve != "inference" or manifest.requires.engine is None:
        raise RefusedError(f"{model} {manifest.version} is files only: nothing runs it here")
    engine = manifest.requires.engine
    job = Job(
        model=model,
        folder=store.tree(slot.active),
        entry=manifest.entry,
        artifact=slot.active,
        engine=engine,
        golden_path=manifest.golden.path if manifest.golden else None,
        served=config.models.get(model, ModelConfig()),
        engine_threads=config.engine_threads,
        memory_bytes=config.memory_bytes,
    )

    def tuned_of(found: Found, wish: Wish) -> Tuned:
        assert found.best is not None
        assert found.verified is not None
        return Tuned(
            threads=found.best.threads,
            loading=found.best.loading,
            batch_max=found.best.batch_max,
            basis=basis_here(
                engine,
                package_of(found.library),
                job.served.providers,
                job.served.engine_options,
            ),
            goal=wish.goal,
            artifact=str(slot.active),
            version=str(manifest.version),
            at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            figures={"before": asdict(found.present), "verified": asdict(found.verified)},
        )

    return job, tuned_of


def _present(job: Job) -> Setting:
    return Setting(
        threads=job.served.threads or job.engine_threads,
        loading=job.served.loading,
        batch_max=job.served.batch_max,
    )


def _check_room(job: Job) -> None:
    """Two settings are loaded at a time, beside what serves. Raises: ResourceError."""
    from device_agent.serving import memory

    model_bytes = sum(one.stat().st_size for one in job.folder.rglob("*") if one.is_file())
    needed = 2 * (_COPIES * model_bytes + _PROCESS_BYTES)
    free = memory.available_bytes()
    if free < needed:
        raise ResourceError(
            f"tuning may take {bytes_text(needed)} beside what serves, and {bytes_text(free)} "
            "of memory are free",
            short="memory",
        )


def _check_idle(*, busy_is_fine: bool) -> None:
    """Raises: RefusedError where others keep the cores from being measured."""
    from device_agent.load_test.machine import busy_share, processor_times

    before = processor_times()
    time.sleep(_BUSY_S)
    share = busy_share(before, processor_times())
    if share > _BUSY_REFUSED and not busy_is_fine:
        raise RefusedError(
            f"this device is {share:.0%} busy: figures would say little, and what serves would "
            "be slowed; try again when it is idle, or give --busy"
        )
    if share > _BUSY_WARNED:
        note(f"this device is {share:.0%} busy: differences may drown in noise")


def _show(found: Found, wish: Wish, *, is_kept: bool, as_json: bool) -> None:
    if as_json:
        print_json(_document(found, wish, is_kept=is_kept))
        return
    print_table(
        [
            "setting",
            "p50 ms",
            "p99 ms",
            "answers/s",
            "memory",
            f"{wish.goal}, to the present's",
            "",
        ],
        [_row(one, wish) for one in found.tried],
    )
    click.echo()
    if found.best is None:
        click.echo(f"nothing is changed: {found.why}")
        return
    assert found.verified is not None
    gain = _ratio(found.verified, wish)
    click.echo(f"best for {wish.goal}: {words(found.best)}; verified: {gain} of the present one's")
    if is_kept:
        click.echo("kept; it counts from the next start of the agent")


def _row(tried: Tried, wish: Wish) -> list[str]:
    from device_agent.load_test.report import count_text

    if tried.figures is None:
        return [words(tried.setting), "-", "-", "-", "-", "-", f"{tried.outcome}: {tried.why}"]
    figures = tried.figures
    state = tried.why or {"present": "present", "lost": "far behind"}.get(tried.outcome, "")
    return [
        words(tried.setting),
        f"{figures.latency_ms:.3g}",
        f"{figures.p99_ms:.3g}",
        count_text(figures.throughput),
        bytes_text(figures.memory_bytes),
        "1" if tried.outcome == "present" else _ratio(figures, wish),
        state,
    ]


def _ratio(figures: Figures, wish: Wish) -> str:
    """With the interval where there is one."""
    if wish.goal == "memory":
        return f"{figures.memory_ratio:.2f}"
    one = figures.latency if wish.goal == "latency" else figures.throughput_ratio
    return f"{one.ratio:.2f} ({one.low:.2f} to {one.high:.2f})"


def _document(found: Found, wish: Wish, *, is_kept: bool) -> Mapping[str, Any]:
    return {
        "goal": asdict(wish),
        "present": asdict(found.present),
        "best": None if found.best is None else asdict(found.best),
        "why": found.why,
        "kept": is_kept,
        "verified": None if found.verified is None else asdict(found.verified),
        "tried": [asdict(one) for one in found.tried],
    }
