"""What a worker process does: lay the files out under their own names, prove them, encode.

A module of its own, light to import, since every worker imports it anew.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from distributor.errors import BuildFailedError
from edge_sdk.base import (
    Digest,
    EdgeError,
    ProofError,
    ResourceError,
    explain_os_error,
    prove_stream,
)
from edge_sdk.delta import METHODS, DeltaSummary, encode

_PR_SET_PDEATHSIG = 1
_NICENESS = 5  # builds run beside the server and the devices' calls, not before them


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFile:
    """One file of an artifact: its name there, and the blob that holds its bytes."""

    path: str
    blob: Path
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOrder:
    """One delta to build in ``folder``, which is the worker's alone. ``source`` none: whole."""

    source: tuple[BuildFile, ...] | None
    target: tuple[BuildFile, ...]
    methods: tuple[str, ...]
    memory_limit_bytes: int
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDelta:
    """A delta that lies at ``path``; ``digest`` is its file digest, which names its blob."""

    path: Path
    digest: Digest
    size_bytes: int
    decoder_memory_bytes: int
    methods: tuple[str, ...]
    build_ms: int


def start_worker() -> None:
    """Makes this process a worker: it dies with its parent and ignores the terminal's Ctrl-C."""
    # A parent that is SIGKILLed says goodbye to nobody: without this its workers stay for ever.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it died before we could ask to be told
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(_NICENESS)


def build_delta(order: BuildOrder) -> BuiltDelta:
    """Builds one delta. Raises EdgeErrors only: another exception may not survive pickling,
    and would then break the whole pool.

    Raises: ProofError (a blob is not what its name says), ResourceError, BuildFailedError.
    """
    began = time.monotonic()
    try:
        order.folder.mkdir(parents=True)
        source = None if order.source is None else _lay_out(order.folder / "source", order.source)
        target = _lay_out(order.folder / "target", order.target)
        path = order.folder / "delta"
        with path.open("xb") as out:
            summary = encode(
                source,
                target,
                out,
                methods=order.methods,
                memory_limit_bytes=order.memory_limit_bytes,
            )
        return _measure(path, summary, began)
    except EdgeError:
        raise
    except MemoryError:
        raise ResourceError("there is not enough memory to build a delta") from None
    except OSError as error:
        explained = explain_os_error(error, order.folder)
        if isinstance(explained, EdgeError):
            raise explained from None
        raise BuildFailedError(f"a delta could not be built: {error}") from None
    except Exception as error:  # noqa: BLE001 - see the docstring
        raise BuildFailedError(
            f"a delta could not be built: {type(error).__name__}: {error}"
        ) from None


def remove_build(order: BuildOrder) -> None:
    """Removes what a build left behind."""
    shutil.rmtree(order.folder, ignore_errors=True)


def _lay_out(folder: Path, files: tuple[BuildFile, ...]) -> Path:
    """A folder with the artifact's files under their own names, without copying a byte."""
    folder.mkdir()
    for file in files:
        with file.blob.open("rb") as stream:
            found = prove_stream(stream).digest
        if found != file.digest:
            raise ProofError(
                f"the stored bytes of {file.path} are damaged; publish that version again",
                path=file.path,
                wanted=str(file.digest),
                got=str(found),
            )
        name = folder / file.path
        name.parent.mkdir(parents=True, exist_ok=True)
        try:
            name.hardlink_to(file.blob)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(file.blob, name)
    return folder


def _measure(path: Path, summary: DeltaSummary, began: float) -> BuiltDelta:
    with path.open("rb") as stream:
        proof = prove_stream(stream)
    return BuiltDelta(
        path=path,
        digest=proof.digest,
        size_bytes=proof.size_bytes,
        decoder_memory_bytes=summary.memory_bytes,
        methods=tuple(sorted(set(METHODS) & set(summary.methods))),
        build_ms=round((time.monotonic() - began) * 1000),
    )
