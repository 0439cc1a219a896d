"""The agent's settings as one value that travels to its processes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from edge_sdk.base import FormatError, ModelName, UsageError, check_segment

CACHE_FILE_BYTES_MIN = 64 << 10
_UNIX_PATH_BYTES_MAX = 100  # the kernel's limit is 107


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbationConfig:
    """What decides about a candidate that serves (see updater/verdict.py)."""

    duration_s: float = 60.0
    deadline_s: float = 300.0  # how long to wait for enough samples
    samples_min: int = 20
    ratio_max: float = 1.5
    requests_min: int = 1
    unproved_stays: bool = True  # without traffic: stays, reported as unproved
    mode: Literal["switch", "canary", "shadow"] = "switch"  # who answers meanwhile
    share: float = 0.1  # canary: of the requests, those that the candidate answers
    agree_min: float = 0.0  # share of outputs that must be as the active version's; 0: told only
    top1_min: float = 0.0  # the same of rows whose largest output must be at the same place

    def check(self) -> None:
        """Raises: UsageError."""
        if not 0 < self.share <= 1:
            raise UsageError(f"the share of a canary must be above 0 and at most 1: {self.share}")
        for name in ("agree_min", "top1_min"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 0 and below 1: {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """A model's response cache. ``memory_bytes`` 0: identical requests at the same time run
    once, and nothing is kept. ``file_bytes`` 0: no second level."""

    memory_bytes: int = 0
    file_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """How one model is served on this device."""

    threads: int = 0  # of the engine; 0: the agent's ``engine_threads``
    loading: Literal["auto", "mapped", "prepacked"] = "auto"
    providers: tuple[str, ...] = ()  # of ONNX Runtime, in order of preference; (): the CPU
    engine_options: Mapping[str, int | bool] = field(default_factory=dict)  # see docs/engines.md
    batch_max: int = 1  # requests that may run as one; 1: each alone
    runs_max: int = 0  # at the same time; 0: as many as cores
    queue_max: int = 64  # requests that wait; one more is refused
    weight: int = 1  # its share of the engines' time beside other models
    priority: Literal[1, 2, 3] = 2  # of requests that name none: high, medium, low
    states: Mapping[str, str] = field(default_factory=dict)  # input: output it is next time
    states_bytes: int = 64 << 20  # for all sequences; the one unused longest goes first
    states_idle_s: float = 600.0  # without a request of it, a sequence is let go
    states_start: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # shapes by input

    def check(self, model: str) -> None:
        """Raises: UsageError, FormatError."""
        ModelName.parse(model)
        for name in ("batch_max", "queue_max", "weight", "states_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} of {model} must be at least 1")
        for name in ("threads", "runs_max"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} of {model} must not be negative")
        if not self.states_idle_s > 0:
            raise UsageError(f"states_idle_s of {model} must be more than 0")
        if len(set(self.states.values())) < len(self.states):
            raise UsageError(f"states of {model} name one output twice")
        if not set(self.states_start) <= set(self.states):
            raise UsageError(f"states_start of {model} names an input that is no state")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """Groups of this device whose members have a role; empty: the agent's own user alone."""

    infer_group: str = ""
    observe_group: str = ""
    control_group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything that the agent's processes need to know.

    ``distributor`` may be empty: the agent then serves what it holds. ``memory_bytes`` is
    what models may use, 0 for the machine's; ``disk_quota_bytes`` is what the store may use,
    0 for no limit of ours.
    """

    state_dir: str
    device: str
    distributor: str = ""
    local_address: str = ""
    inference_address: str = ""
    metrics_address: str = ""  # HOST:PORT for Prometheus; empty: none
    otlp_endpoint: str = ""  # http(s) URL of a collector of traces; empty: none
    trace_every: int = 1000  # one request in so many without a caller's trace; 0: none
    memory_bytes: int = 0
    disk_quota_bytes: int = 0
    disk_reserve_bytes: int = 16 << 20
    decoder_memory_bytes: int = 48 << 20
    check_in_s: float = 900.0
    root: str = ""  # file with the factory root; empty: the one that is kept already, if any
    metadata_check_s: float = 6 * 3600.0  # between two looks at signed metadata
    watch: bool = True
    retry_base_s: float = 0.5
    retry_cap_s: float = 300.0
    trial_timeout_s: float = 300.0
    prepare_timeout_s: float = 300.0
    engine_threads: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    caches: Mapping[str, CacheConfig] = field(default_factory=dict)  # by model; others: none
    models: Mapping[str, ModelConfig] = field(default_factory=dict)  # others: the defaults
    rest_address: str = ""  # of the protocol's REST form, on this machine; empty: none
    shared_memory_prefix: str = ""  # of POSIX objects that apps may register; empty: none
    fast_lane: bool = True  # shared memory for apps of this machine
    accelerators: tuple[str, ...] = ()  # what variants may require, as the operator names it
    probation: ProbationConfig = field(default_factory=ProbationConfig)
    local: LocalConfig = field(default_factory=LocalConfig)

    @property
    def agent_uri(self) -> str:
        """Where AgentService listens."""
        return self.local_address or f"unix:{Path(self.state_dir).absolute() / 'agent.sock'}"

    @property
    def inference_uri(self) -> str:
        """Where the inference protocol listens."""
        return (
            self.inference_address or f"unix:{Path(self.state_dir).absolute() / 'inference.sock'}"
        )

    @property
    def apps_uri(self) -> str:
        """AgentService for the role infer; empty: that role is the owner's, as are all."""
        return self._beside("apps.sock") if self.local.infer_group else ""

    @property
    def observe_uri(self) -> str:
        """AgentService for the role observe; empty: as above."""
        return self._beside("observe.sock") if self.local.observe_group else ""

    @property
    def socket_uris(self) -> tuple[str, ...]:
        """Every local address; some may be empty, or TCP."""
        agent = (self.agent_uri, self.apps_uri, self.observe_uri)
        return (
            *agent,
            self.inference_uri,
            self.lane_uri and f"{self.lane_uri}.lane",
            self.rest_address,
        )

    def _beside(self, name: str) -> str:
        """In the folder of AgentService's socket; in that of the state where it is none."""
        path = Path(self.agent_uri.removeprefix("unix:"))
        unix = self.agent_uri.startswith("unix:")
        return f"unix:{(path.parent if unix else Path(self.state_dir).absolute()) / name}"

    @property
    def lane_uri(self) -> str:
        """The fast lane lies beside this; empty: there is none."""
        if not self.fast_lane or self.inference_uri.startswith("unix:"):
            return self.inference_uri if self.fast_lane else ""
        return f"unix:{Path(self.state_dir).absolute() / 'inference.sock'}"

    def check(self) -> None:
        """Raises: UsageError, FormatError for a setting that cannot work."""
        check_segment(self.device, "device")
        self.probation.check()
        local = (self.agent_uri, self.apps_uri, self.observe_uri)
        for uri in (*local, self.inference_uri, self.rest_address):
            if uri:
                check_address(uri)
        if self.metrics_address:
            check_address(self.metrics_address)
            if self.metrics_address.startswith("unix:"):
                raise UsageError(
                    "metrics_address must be HOST:PORT: collectors speak HTTP over TCP"
                )
        if self.otlp_endpoint:
            check_endpoint(self.otlp_endpoint)
        for key in self.labels:
            check_segment(key, "label")
        for name in self.accelerators:
            check_segment(name, "accelerator")
        if "/" in self.shared_memory_prefix:
            raise UsageError(
                f"shared_memory_prefix {self.shared_memory_prefix!r} must be the beginning of "
                "names in /dev/shm, without a slash"
            )
        for model, served in self.models.items():
            served.check(model)
        for model, cache in self.caches.items():
            ModelName.parse(model)
            cache_bytes = (cache.memory_bytes, cache.file_bytes)
            if min(cache_bytes) < 0 or 0 < cache.file_bytes < CACHE_FILE_BYTES_MIN:
                raise UsageError(
                    f"the cache of {model} has {cache_bytes} bytes of memory and file; neither "
                    f"may be negative, and a file needs {CACHE_FILE_BYTES_MIN} (0: none)"
                )
        for name in ("memory_bytes", "disk_quota_bytes", "disk_reserve_bytes", "trace_every"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative")
        for name in (
            "check_in_s",
            "metadata_check_s",
            "retry_base_s",
            "retry_cap_s",
            "trial_timeout_s",
        ):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be more than 0")
        if self.decoder_memory_bytes < 8 << 20:
            raise UsageError("decoder_memory_bytes must be at least 8 MiB")


def check_address(uri: str) -> None:
    """A local address: ``unix:/path`` or ``host:port``. Raises: UsageError."""
    if uri.startswith("unix:"):
        path = uri.removeprefix("unix:")
        if not path:
            raise UsageError(f"address {uri!r} names no socket file")
        if len(path.encode()) > _UNIX_PATH_BYTES_MAX:
            raise UsageError(
                f"socket path {path} has {len(path.encode())} bytes; Unix sockets allow about "
                f"{_UNIX_PATH_BYTES_MAX}: use a shorter --state folder or give the address"
            )
        return
    host, colon, port = uri.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"address {uri!r} is neither unix:/path nor host:port")


def check_endpoint(url: str) -> str:
    """The HOST:PORT that a collector's URL leads to. Raises: UsageError."""
    try:
        parts = urlsplit(url)
        scheme_port = {"http": 80, "https": 443}[parts.scheme]
        port = parts.port or scheme_port
        host = parts.hostname or ""
    except (ValueError, KeyError):
        host = ""
    if not host:
        raise UsageError(f"otlp_endpoint {url!r} is no URL such as http://127.0.0.1:4318")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def to_json(config: AgentConfig) -> str:
    return msgspec.json.encode(config).decode()


def from_json(text: str) -> AgentConfig:
    """Raises: FormatError."""
    try:
        return msgspec.json.decode(text.encode(), type=AgentConfig)
    except msgspec.DecodeError as error:
        raise FormatError(f"the agent's configuration cannot be read: {error}") from None
