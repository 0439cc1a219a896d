"""The throw-away process in which a candidate is tried.

``python -m device_agent.updater.trial_child`` reads one JSON document from standard input (a
TrialSpec) and writes one to the descriptor given by ``--result-fd``. Whatever the candidate
does to its engine, it does to this process. With ``--facts`` it only says which engines are
here, so that the updater need not load them.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from device_agent.updater.trial_values import EngineFound, TrialOutcome, TrialSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_sdk.engines import Engine, KnownModel, Loading
    from edge_sdk.manifest import Tolerance

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any engine is imported: it phones home

_FILES_MAX = 1024
_NICE = 10
_PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="trial_child")
    parser.add_argument("--result-fd", type=int, required=True)
    parser.add_argument("--facts", action="store_true")
    arguments = parser.parse_args()
    answer: Any
    if arguments.facts:
        gc.disable()  # it imports, answers and is gone
        answer = engines_found()
    else:
        spec = msgspec.json.decode(sys.stdin.buffer.read(), type=TrialSpec)
        die_with_updater()
        limit_process(spec)
        answer = attempt(spec)
    with contextlib.suppress(BrokenPipeError):  # who asked is gone
        os.write(arguments.result_fd, msgspec.json.encode(answer))
    os.close(arguments.result_fd)
    # Not through the interpreter's end: an engine's threads must not hang a finished trial.
    os._exit(0)


def die_with_updater() -> None:
    """An updater that was killed is started again, and tries again: not beside this trial."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit_process(spec: TrialSpec) -> None:
    """A candidate may not fill the disk with a core, hold every file, or starve what serves."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (spec.cpu_s, spec.cpu_s + 5))
    _, files_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES_MAX if files_hard < 0 else min(_FILES_MAX, files_hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files_hard))
    if spec.memory_bytes:
        # DATA, not AS: engines reserve address space that they never touch.
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_bytes, spec.memory_bytes))


def attempt(spec: TrialSpec) -> TrialOutcome:
    """Loads the candidate and replays its golden sample."""
    from edge_sdk.base import EdgeError

    try:
        return _attempt(spec)
    except EdgeError as error:
        return TrialOutcome(ok=False, reason=error.reason, message=error.message)
    except MemoryError:
        return TrialOutcome(ok=False, reason="ResourceError", message="the trial ran out of memory")
    except Exception as error:  # noqa: BLE001 - any failure of a candidate is an answer
        message = f"{type(error).__name__}: {error}"
        return TrialOutcome(ok=False, reason="EngineError", message=message[:2000])


def _attempt(spec: TrialSpec) -> TrialOutcome:
    from edge_sdk.engines import load_model, open_engine, replay
    from edge_sdk.formats import open_model, read_safetensors
    from edge_sdk.manifest import Tolerance

    folder = Path(spec.folder)
    entry = folder / spec.entry
    open_model(entry)  # refuses a model whose data lie outside its folder; engines may follow
    engine = open_engine(spec.engine)
    began = time.perf_counter()
    tolerances = {
        name: Tolerance(atol=atol, rtol=rtol) for name, (atol, rtol) in spec.tolerances.items()
    }
    session = load_model(
        engine,
        entry,
        _known(spec, tolerances),
        threads=spec.threads,
        loading=_loading(engine, spec),
        providers=spec.providers,
    )
    load_ms = (time.perf_counter() - began) * 1000
    if spec.golden_path is None:
        return TrialOutcome(ok=True, load_ms=load_ms, message="no golden sample; it loads")
    tensors = read_safetensors(folder / spec.golden_path)
    times = []
    for _ in range(spec.replays):
        result = replay(session, tensors, tolerances)
        times.append(result.compute_ns)
        if not result.ok:
            return TrialOutcome(
                ok=False,
                reason="CandidateRefusedError",
                message="the golden sample differs: " + "; ".join(result.mismatches)[:1500],
                load_ms=load_ms,
                compute_ns=tuple(times),
            )
    return TrialOutcome(ok=True, load_ms=load_ms, compute_ns=tuple(times))


def _known(spec: TrialSpec, tolerances: Mapping[str, Tolerance]) -> KnownModel | None:
    """So that what an engine builds here in minutes is there when the artifact is to serve."""
    from edge_sdk.base import Digest
    from edge_sdk.engines import KnownModel, PlanRoom

    plans = spec.plans
    if plans is None:
        return None
    held = tuple(map(Digest.parse, plans.held))
    return KnownModel(
        artifact=Digest.parse(plans.artifact),
        room=PlanRoom(
            folder=Path(plans.folder),
            room_bytes=lambda: plans.room_bytes,
            held=lambda: held,
        ),
        batch_max=spec.batch_max,
        golden=None if spec.golden_path is None else Path(spec.folder) / spec.golden_path,
        tolerances=tolerances,
        options=spec.engine_options,
    )


def _loading(engine: Engine, spec: TrialSpec) -> Loading:
    """The one in which it would be loaded to serve: answers differ in their last digits."""
    from edge_sdk.engines import choose_loading, is_quantised

    files = (path for path in Path(spec.folder).rglob("*") if path.is_file())
    return choose_loading(
        spec.loading,
        known=engine.facts().loadings,
        model_bytes=sum(path.stat().st_size for path in files),
        free_bytes=spec.free_bytes,
        batch_max=spec.batch_max,
        is_quantised=lambda: is_quantised(Path(spec.folder) / spec.entry),
    )


def engines_found() -> list[EngineFound]:
    """Each installed engine with its limits; one that cannot even be loaded is left out."""
    from edge_sdk.engines import available_engines, open_engine

    found = []
    for name in available_engines():
        try:
            facts = open_engine(name).facts()
        except Exception as error:  # noqa: BLE001 - a broken library must not stop the agent
            sys.stderr.write(f"engine {name} is installed but broken: {error}\n")
            continue
        found.append(
            EngineFound(
                name=facts.name,
                version=facts.version,
                ir_version_max=facts.ir_version_max,
                opset_max=dict(facts.opset_max),
            )
        )
    return found


if __name__ == "__main__":
    main()
