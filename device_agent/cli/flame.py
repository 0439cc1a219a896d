"""``edge-agent flame``: where the inference process spends its time, sampled by py-spy."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import click

from device_agent.cli.ask import agent, agent_options
from edge_sdk.base import (
    EdgeError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
    explain_os_error,
)
from edge_sdk.base.command import PathArgument, json_option, note, print_json
from edge_sdk.base.files import refuse_unwritable

_FORMATS = {".svg": "flamegraph", ".json": "speedscope", ".txt": "raw"}
_BESIDE_S = 60.0  # what starting and drawing may take


@click.command(epilog="Example: edge-agent flame --state ./state --seconds 5 --out flame.svg")
@agent_options
@click.option("--seconds", type=click.IntRange(1, 3600), default=5, show_default=True,
              help="How long to look.")  # fmt: skip
@click.option("--rate", type=click.IntRange(1, 1000), default=100, show_default=True,
              help="Looks per second.")  # fmt: skip
@click.option("--native", is_flag=True,
              help="Engines' own functions, too: pauses the process at each look.")  # fmt: skip
@click.option("--out", type=PathArgument(), default=Path("flame.svg"), show_default=True,
              help="*.svg (a picture), *.json (speedscope) or *.txt (folded stacks).")  # fmt: skip
@json_option
def flame(
    seconds: int, rate: int, native: bool, out: Path, *, as_json: bool, **where: str | None
) -> None:
    """Draws a flame graph of the inference process while it serves.

    It is read from outside, without being stopped (but for --native), so no request notices.
    """
    form = _FORMATS.get(out.suffix)
    if form is None:
        raise UsageError(f"{out} ends in none of {', '.join(_FORMATS)}, which say what to write")
    refuse_unwritable(out, replace=True)  # before it looks: py-spy's words would be of itself
    program = find_profiler()
    with agent(where["state_dir"], where["local_address"]) as questions:
        pid = questions.statistics().page.pid
    if not pid:
        raise UnavailableError("the inference process has not started yet")
    note(f"looking at process {pid} for {seconds} s")
    arguments = ["--duration", str(seconds), "--rate", str(rate), "--format", form]
    record(program, pid, out, [*arguments, "--native" if native else "--nonblocking"], seconds)
    if as_json:
        print_json({"pid": pid, "seconds": seconds, "format": form, "out": str(out)})
    else:
        note(f"wrote {out}")


def find_profiler() -> str:
    """py-spy of this environment, else the machine's. Raises: RefusedError."""
    own = Path(sysconfig.get_path("scripts")) / "py-spy"
    found = str(own) if own.is_file() else shutil.which("py-spy")
    if found is None:
        raise RefusedError(
            "py-spy is not installed: pip install 'edge-model-sdk[flame]' (or py-spy)"
        )
    return found


def record(program: str, pid: int, out: Path, arguments: list[str], seconds: int) -> None:
    """Writes ``out``, whole or not at all.

    Raises: RefusedError (not permitted), NotFoundError (no such process), UnavailableError
    (nothing ran), EdgeError.
    """
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.touch()  # else what py-spy says of a folder reads as if it were of the process
        partial.unlink()
        ran = subprocess.run(
            [program, "record", "--pid", str(pid), "--output", str(partial), *arguments],
            capture_output=True,
            env={**os.environ, "RUST_BACKTRACE": "0"},  # else its errors end in pages of them
            text=True,
            timeout=seconds + _BESIDE_S,
            check=False,
        )
        if ran.returncode or not partial.is_file():
            raise explained(pid, ran.stderr + ran.stdout)
        partial.replace(out)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"py-spy did not end; is process {pid} stopped?") from None
    except OSError as error:
        raise explain_os_error(error, out) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def explained(pid: int, said: str) -> EdgeError:
    """What py-spy complained of, as an error that says what to do."""
    if not Path(f"/proc/{pid}").exists():
        return NotFoundError(f"process {pid} is gone; inference was started again, try again")
    lower = said.lower()
    if "no stack counts" in lower:
        return UnavailableError("nothing ran meanwhile: send requests, or look for longer")
    if "permission" in lower or "ptrace" in lower or "eperm" in lower:
        return RefusedError(
            f"reading process {pid} is not permitted: run this as root or with CAP_SYS_PTRACE "
            "(a container: --cap-add SYS_PTRACE), or, as the agent's own user, allow it by "
            "sysctl kernel.yama.ptrace_scope=0"
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return EdgeError(f"py-spy failed: {' '.join(lines[-3:]) or 'it said nothing'}")
