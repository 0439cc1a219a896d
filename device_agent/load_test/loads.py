"""What is asked of a device: loads, each a model with a way of asking and its goals."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from edge_sdk.base.errors import FormatError, UsageError
from edge_sdk.base.names import ModelName

Arrivals: TypeAlias = Literal["poisson", "constant"]
Priority: TypeAlias = Literal["default", "high", "medium", "low"]
PRIORITIES: Mapping[Priority, int] = {"default": 0, "high": 1, "medium": 2, "low": 3}

# Goals and what they bound. Latencies, errors and drops are at most that, the others at least.
GOALS = {
    **{name: f"{name[:-3]} of the latency" for name in ("p50-ms", "p90-ms", "p99-ms", "p999-ms")},
    "throughput": "answers each second",
    "failures": "share of requests that failed or were dropped",
    "accuracy": "share of answers with the label among the first top-k",
}
AT_LEAST = ("throughput", "accuracy")

_WHOLE = ("clients", "batch", "top-k", "in-flight", "distinct", "sequence")
_NUMBERS = ("rate", "deadline-ms")
_TEXTS = ("name", "inputs", "labels", "output", "arrivals", "priority")
REQUESTS_MAX = 2_000_000  # of one load: 40 bytes are kept of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """``what`` is a name of ``GOALS``."""

    what: str
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How one model is asked.

    Open loop where ``rate_hz`` is given: requests are sent when they are due, whether or not
    answers have come. Closed loop where ``clients`` is: each asks again once it is answered.
    """

    name: str
    model: str
    rate_hz: float = 0.0
    clients: int = 0
    arrivals: Arrivals = "poisson"
    priority: Priority = "default"
    batch: int = 1  # rows of each request, where the model's first dimension is free
    inputs: str = ""  # an .npz; else seeded from the signature
    distinct: int = 8  # different seeded requests, which are asked in turn
    sequence: int = 0  # requests of each sequence, for a model with state; 0: none
    labels: str = ""  # an .npz with inputs and an array ``labels``
    output: str = ""  # the one that labels are about; may be left out where there is one
    top_k: int = 1
    deadline_ms: float = 10_000.0
    in_flight: int = 64  # of an open loop; what is due beyond waits here, and its time counts
    goals: tuple[Goal, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.rate_hz > 0

    def check(self) -> None:
        """Raises: UsageError."""
        try:
            ModelName.parse(self.model)
        except FormatError as error:
            raise UsageError(f"load {self.name!r}: {error.message}") from None
        if (self.rate_hz > 0) == (self.clients > 0):
            raise UsageError(
                f"load {self.name!r} needs either rate=REQUESTS_A_SECOND (open loop) or "
                "clients=N (closed loop)"
            )
        if min(self.batch, self.top_k, self.in_flight, self.distinct) < 1 or self.deadline_ms <= 0:
            raise UsageError(
                f"load {self.name!r}: batch, distinct, top-k, in-flight and deadline-ms must be "
                "more than 0"
            )
        if max(self.clients, self.in_flight) > 1024:
            raise UsageError(f"load {self.name!r}: at most 1024 clients or requests in flight")
        if self.inputs and self.labels:
            raise UsageError(f"load {self.name!r}: labels=FILE brings its inputs with it")
        if not self.labels and any(goal.what == "accuracy" for goal in self.goals):
            raise UsageError(f"load {self.name!r}: a goal of accuracy needs labels=FILE.npz")


def parse_load(text: str) -> Load:
    """``team/digits rate=200 priority=high p99-ms=5``. Raises: UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"load {text!r}: {error}") from None
    model, settings = "", {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            if key in settings:
                raise UsageError(f"load {text!r} says {key} twice")
            settings[key] = value
        elif model:
            raise UsageError(f"load {text!r}: {word!r} is not key=value")
        else:
            model = word
    return make_load({"model": model, **settings}, where=f"load {text!r}")


def make_load(settings: Mapping[str, Any], *, where: str) -> Load:
    """From texts of a flag or the values of a TOML table. Raises: UsageError."""
    values: dict[str, Any] = {"model": settings.get("model") or ""}
    goals = []
    for key, value in settings.items():
        if key in GOALS:
            goals.append(Goal(what=key, bound=_number(value, key, where)))
        elif key in _WHOLE:
            values[key.replace("-", "_")] = _whole(value, key, where)
        elif key in _NUMBERS:
            field = {"rate": "rate_hz"}.get(key, key.replace("-", "_"))
            values[field] = _number(value, key, where)
        elif key in _TEXTS:
            values[key] = _text(value, key, where)
        elif key != "model":
            known = ", ".join(("model", *_TEXTS, *_NUMBERS, *_WHOLE, *GOALS))
            raise UsageError(f"{where}: {key!r} is not known; known are {known}")
    if not isinstance(values["model"], str) or not values["model"]:
        raise UsageError(f"{where} names no model, such as team/digits")
    load = Load(**{"name": values["model"], **values, "goals": tuple(goals)})
    load.check()
    return load


def parse_scenario(
    document: Mapping[str, Any], *, where: str
) -> tuple[tuple[Load, ...], dict[str, float]]:
    """The tables ``[[load]]`` of a TOML file, and its ``duration_s``, ``warm_up_s`` and
    ``seed`` as far as it says them. Raises: UsageError."""
    tables = document.get("load", [])
    if not isinstance(tables, list) or not all(isinstance(one, Mapping) for one in tables):
        raise UsageError(f"{where}: loads are tables [[load]]")
    unknown = sorted(set(document) - {"load", *_TIMING})
    if unknown:
        raise UsageError(f"{where} has unknown keys: {', '.join(unknown)}")
    loads = tuple(
        make_load(table, where=f"{where}, load {number}") for number, table in enumerate(tables, 1)
    )
    timing = {
        key.replace("-", "_"): read(document[key], key, where)
        for key, read in _TIMING.items()
        if key in document
    }
    if not timing.get("duration_s", 1):
        raise UsageError(f"{where}: duration-s must be more than 0")
    return loads, timing


def named_apart(loads: Sequence[Load]) -> tuple[Load, ...]:
    """Each with a name of its own: those that share one are numbered."""
    names = [load.name for load in loads]
    seen: dict[str, int] = {}
    found = []
    for load in loads:
        seen[load.name] = seen.get(load.name, 0) + 1
        many = names.count(load.name) > 1
        name = f"{load.name} #{seen[load.name]}" if many else load.name
        found.append(replace(load, name=name))
    return tuple(found)


def _number(value: Any, key: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < float("inf"):
        raise UsageError(f"{where}: {key}={value!r} is not a number of at least 0")
    return number


def _whole(value: Any, key: str, where: str) -> int:
    number = _number(value, key, where)
    if number != int(number):
        raise UsageError(f"{where}: {key}={value!r} is not a whole number")
    return int(number)


def _text(value: Any, key: str, where: str) -> str:
    allowed: tuple[str, ...] = {"arrivals": get_args(Arrivals), "priority": get_args(Priority)}.get(
        key, ()
    )
    if not isinstance(value, str) or (allowed and value not in allowed):
        choice = f"one of {', '.join(allowed)}" if allowed else "a text"
        raise UsageError(f"{where}: {key}={value!r} is not {choice}")
    return value


_TIMING: Mapping[str, Callable[[Any, str, str], float]] = {
    "duration-s": _number,
    "warm-up-s": _number,
    "seed": _whole,
}
