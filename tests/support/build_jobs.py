"""Delta jobs that misbehave, importable by a worker process."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from distributor.builds import BuildOrder, BuiltDelta, build_delta
from edge_sdk.base import ResourceError, explain_os_error

_QUOTA = "TEST_BUILD_QUOTA"


def die(order: BuildOrder) -> BuiltDelta:
    """Ends its worker without a word, as native code that crashes does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def break_down(order: BuildOrder) -> BuiltDelta:
    """Fails with an error that is not ours."""
    raise LookupError("a defect")


def out_of_memory(order: BuildOrder) -> BuiltDelta:
    """Fails for want of memory."""
    raise ResourceError("there is not enough memory to build a delta")


def quota_of(folder: Path, most_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on builds fail as on a full disk where ``folder`` and the target are more."""
    monkeypatch.setenv(_QUOTA, f"{most_bytes}:{folder}")
    monkeypatch.setattr("distributor.builds.builder.build_delta", build_within_quota)


def build_within_quota(order: BuildOrder) -> BuiltDelta:
    """In the worker: builds, unless what is stored leaves no room for the target."""
    most, _, folder = os.environ[_QUOTA].partition(":")
    stored = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    if stored + sum(file.blob.stat().st_size for file in order.target) > int(most):
        error = OSError(errno.ENOSPC, "no space left")
        raise explain_os_error(error, order.folder)
    return build_delta(order)
