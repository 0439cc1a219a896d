"""What holds for every test: sockets reach this machine only, property tests are repeatable."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coverage import Coverage

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Most tests are not about who calls; those that are take it away (tests/support/enrolled.py).
os.environ.setdefault("EDGE_TEST_PLAINTEXT", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    max_examples=60,
    deadline=None,  # two shared cores: time says nothing about right and wrong
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")

# Packages, and the folders of their tests.
_MEASURED = frozenset({"edge_sdk", "device_agent", "distributor", "quantize"})

# A shell starts what it puts in the background with Ctrl-C ignored, nohup what it starts with
# SIGHUP ignored, and every process that a test starts would inherit that: the tests that send
# a command such a signal would wait in vain.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)


@pytest.fixture(autouse=True, scope="session")
def _fleet_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is kept of fleets is kept for these tests alone, not where the developer's is."""
    os.environ["EDGE_FLEET_HOME"] = str(tmp_path_factory.mktemp("fleet-home"))


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """A test that talks to another machine fails, whatever that machine would answer."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            host = str(address[0])
            if not host.startswith(("127.", "::1", "localhost")):
                raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    socket.socket.connect = checked  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path: a Unix socket's has at most 107 bytes, and pytest's own
    fixture spends many on the name of the test and of the worker."""
    return tmp_path_factory.mktemp("t")


@contextmanager
def _not_traced() -> Iterator[None]:
    """Without coverage, here and in new threads."""
    here, in_threads = sys.gettrace(), threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(here)
        threading.settrace(in_threads)  # type: ignore[arg-type]


@contextmanager
def _processes_not_traced() -> Iterator[None]:
    """Without coverage in the processes that are started."""
    around = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("COVERAGE_")}
    try:
        yield
    finally:
        os.environ.update(around)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Coverage of statements counts what the tests of a package's rooms reach, but for those that
    take the same way thousands of times: with it such loops take three times as long. Processes
    that a test starts are counted where it says so, since most go the way of the one before, and
    tracing makes the start of each take half as long again. Where branches are counted
    (``make coverage-delta``), all tests and processes are."""
    measured = _coverage()
    if measured is None or measured.get_option("run:branch"):
        return (yield)
    room = item.path.relative_to(Path(__file__).parent).parts[0]
    with ExitStack() as stack:
        counted = room in _MEASURED and not item.get_closest_marker("unmeasured")
        if not counted:
            stack.enter_context(_not_traced())
        if not counted or not item.get_closest_marker("processes_measured"):
            stack.enter_context(_processes_not_traced())
        return (yield)


def _coverage() -> Coverage | None:
    """What measures this process, if something does."""
    try:
        from coverage import Coverage
    except ImportError:
        return None
    return Coverage.current()


@contextmanager
def _only_our_modules_traced() -> Iterator[None]:
    """While a module of a package that is measured is imported, and only then."""
    here, plain = sys.gettrace(), SourceFileLoader.exec_module

    def exec_module(self: SourceFileLoader, module: ModuleType) -> None:
        before = sys.gettrace()
        sys.settrace(here if module.__name__.partition(".")[0] in _MEASURED else None)
        try:
            plain(self, module)
        finally:
            sys.settrace(before)

    with _not_traced():
        SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]
        try:
            yield
        finally:
            SourceFileLoader.exec_module = plain  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Collecting runs no statement of ours but those of imported modules: with coverage all of it
    took half as long again, in every worker."""
    measured = _coverage()
    if measured is None or measured.get_option("run:branch"):
        return (yield)
    with _only_our_modules_traced():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the distributor's extra are skipped where Python is too old for it."""
    if sys.version_info < (3, 11):
        for item in items:
            if item.get_closest_marker("distributor"):
                item.add_marker(pytest.mark.skip(reason="the distributor needs Python 3.11"))


def pytest_collection_finish() -> None:
    """What was collected stays until the end: garbage collection need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Saves a worker's coverage while it still has time to.

    After this the worker is killed when it needs more than ten seconds to end, and coverage
    is otherwise written at its very end: on a busy machine all of a worker's was lost.
    """
    if not hasattr(session.config, "workerinput"):
        return
    measured = _coverage()
    if measured is not None:
        measured.stop()
        measured.save()
