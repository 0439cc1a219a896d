"""The updater process: ``python -m device_agent.supervisor.updater_process``.

Here updater and AgentService meet; neither knows the other.
"""

from __future__ import annotations

import argparse
import gc
import queue
import signal
import socket
import sys
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

if __name__ == "__main__":
    gc.disable()  # until all is imported

from device_agent.config import from_json
from device_agent.local_api import LocalApi
from device_agent.records import AgentEvent, AgentStatus, HeldTree, ModelStatus
from device_agent.statistics_page import PageSnapshot, read_page, watch_page
from device_agent.supervisor.orphan import die_with_parent
from device_agent.supervisor.ready import say_ready
from device_agent.updater import Updater
from edge_sdk.base import Digest, EdgeError, UnavailableError
from edge_sdk.base.garbage import leave_alone

_UPDATE_NOW_S = 60.0


def main() -> None:
    leave_alone()
    parser = argparse.ArgumentParser(prog="edge-agent-updater")
    parser.add_argument("--config-json", required=True)
    parser.add_argument("--socket-fd", type=int)
    parser.add_argument("--statistics-fd", type=int)
    parser.add_argument("--parent-pid", type=int)
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args()
    if arguments.parent_pid is not None:
        die_with_parent(arguments.parent_pid)
    config = from_json(arguments.config_json)
    end = None if arguments.socket_fd is None else socket.socket(fileno=arguments.socket_fd)
    page = None if arguments.statistics_fd is None else watch_page(arguments.statistics_fd)
    try:
        updater = Updater(config, end)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: updater.loop.stop())
        with LocalApi(Door(updater, page), config) as api:
            say_ready(arguments.ready_fd, api.address)
            updater.run()
    except EdgeError as error:
        sys.stderr.write(f"edge-agent: {error.message}\n")
        sys.exit(error.exit_code)
    leave_alone(searches=False)
    sys.exit(0)


class Door:
    """AgentDoor over an updater: every question is asked on the updater's thread, but for
    statistics, which stand on a page."""

    def __init__(self, updater: Updater, page: memoryview | None = None) -> None:
        self._updater = updater
        self._page = page

    def status(self) -> AgentStatus:
        return self._updater.loop.ask(self._updater.status)

    def models(self) -> tuple[ModelStatus, ...]:
        return self._updater.loop.ask(self._updater.models)

    def update_now(self) -> int:
        """Raises: what the check-in raised, RefusedError without a distributor."""
        done: Future[EdgeError | None] = Future()
        loop = self._updater.loop
        loop.ask(lambda: self._updater.check_in_now(done.set_result))
        try:
            failed = done.result(_UPDATE_NOW_S)
        except FutureTimeoutError:  # not the builtin one before Python 3.11
            raise UnavailableError("the check-in is still going on") from None
        if failed is not None:
            raise failed
        return loop.ask(lambda: self._updater.keeper.counter)

    def roll_back(self, model: str) -> tuple[str, Digest]:
        return self._updater.loop.ask(lambda: self._updater.roll_back(model))

    def events(self, after: int) -> Feed:
        return Feed(self._updater, after)

    def hold(self, model: str) -> HeldTree:
        return self._updater.loop.ask(lambda: self._updater.hold(model))

    def statistics(self) -> PageSnapshot:
        return PageSnapshot() if self._page is None else read_page(self._page)

    def let_go(self, number: int) -> None:
        self._updater.loop.put(lambda: self._updater.let_go(number))


class Feed:
    """Kept events first, new ones as they come: none twice, none left out."""

    def __init__(self, updater: Updater, after: int) -> None:
        self._updater = updater
        self._waiting: queue.Queue[AgentEvent] = queue.Queue()

        self._after = after

        def begin() -> None:
            for event in updater.events(after):
                self._take(event)
            updater.log.listen(self._take)

        updater.loop.ask(begin)

    def _take(self, event: AgentEvent) -> None:
        if event.number > self._after:  # one in the journal may be told a moment later
            self._after = event.number
            self._waiting.put(event)

    def next(self, timeout_s: float) -> AgentEvent | None:
        try:
            return self._waiting.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        self._updater.loop.put(lambda: self._updater.log.unlisten(self._take))


if __name__ == "__main__":
    main()
