"""Processes: what is below one, and the CPU time of all of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.runtime import processes

FAMILY = """
import subprocess, sys, time
end = time.process_time() + 0.05
while time.process_time() < end:
    pass
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


def test_a_tree_is_a_process_with_all_below_it() -> None:
    """CPU time is counted for each of them, finer than the kernel's ticks; cores are given to
    all of them."""
    with processes.child([sys.executable, "-c", FAMILY]) as (process, line):
        below = int(line)
        assert set(processes.tree(process.pid)) == {process.pid, below}
        assert 0.05 <= processes.cpu_s(process.pid) < 5
        first = min(os.sched_getaffinity(0))
        processes.pin(process.pid, {first})
        assert os.sched_getaffinity(below) == {first}
        assert processes.status_bytes(process.pid, "RssAnon") > 0


def test_a_child_that_ends_at_once_is_an_error() -> None:
    """Its exit code is told, and nobody waits for its word."""
    with pytest.raises(RuntimeError, match="ended with 3"), processes.child(["sh", "-c", "exit 3"]):
        raise AssertionError("it is not ready")


def test_settings_of_whoever_runs_it_do_not_count() -> None:
    """EDGE_ variables go, the engine's telemetry is off."""
    os.environ["EDGE_BENCH_TEST"] = "1"
    try:
        assert "EDGE_BENCH_TEST" not in processes.environment()
    finally:
        del os.environ["EDGE_BENCH_TEST"]
    assert processes.environment({"X": "y"})["ORT_DISABLE_TELEMETRY"] == "1"


def test_a_child_answers_a_line_with_json() -> None:
    """And one that has ended is an error, not a wait."""
    echo = "print('ready', flush=True); import sys\nfor line in sys.stdin: print('[1]', flush=True)"
    with processes.child([sys.executable, "-c", echo]) as (process, _):
        assert processes.asked(process, "x") == [1]
        assert isinstance(process, subprocess.Popen)
