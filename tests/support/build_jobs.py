"""Delta jobs that misbehave, importable by a worker process."""

from __future__ import annotations

import os
import signal

from distributor.builds import BuildOrder, BuiltDelta


def die(order: BuildOrder) -> BuiltDelta:
    """Ends its worker without a word, as native code that crashes does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def break_down(order: BuildOrder) -> BuiltDelta:
    """Fails with an error that is not ours."""
    raise LookupError("a defect")
