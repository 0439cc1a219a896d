"""How many run, and whether one more of a priority may. Pure: whoever calls has lock and clock.

A run that has begun is not interrupted. Where every core is at work on such runs, a more urgent
request waits for one of them, and for a core at each step of its way: when it arrives, when its
turn comes, when its answer goes out, and in its client where that is on the same machine. So
while requests of a class come, those below leave it one core.
"""

from __future__ import annotations

from device_agent.serving.scheduling.line import HIGH, LOW

# After a request, so long another of its class is expected: a camera of one frame a second too.
_EXPECTED_NS = 1_500_000_000


class Turns:
    """Of all models; at most ``most`` at once."""

    __slots__ = ("_came_ns", "_running", "most", "running")

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0
        self._running = [0] * (LOW + 1)  # by priority
        self._came_ns = [-_EXPECTED_NS] * (LOW + 1)

    def came(self, priority: int, now_ns: int) -> None:
        """A request of that class, whether it finds a turn or not."""
        self._came_ns[priority] = now_ns

    def enter(self, priority: int, now_ns: int) -> bool:
        """``came``, and takes a turn if it may have one."""
        self._came_ns[priority] = now_ns
        if self.running + 1 < self.most or self.is_free(priority, now_ns):
            self.running += 1
            self._running[priority] += 1
            return True
        return False

    def is_free(self, priority: int, now_ns: int) -> bool:
        """Whether one of that class may have a turn."""
        left = self.most - self.running
        if left > 1 or priority == HIGH or self.most == 1:
            return left > 0
        return left > 0 and self._need_not_leave_one(priority, now_ns)

    def take(self, priority: int) -> None:
        self.running += 1
        self._running[priority] += 1

    def give_back(self, priority: int) -> None:
        self.running -= 1
        self._running[priority] -= 1

    def _need_not_leave_one(self, priority: int, now_ns: int) -> bool:
        as_patient = sum(self._running[priority:])
        if as_patient + 1 < self.most:
            return True  # the class above has its core already, and is at work there
        return now_ns - max(self._came_ns[HIGH:priority]) >= _EXPECTED_NS
