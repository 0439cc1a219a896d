"""Flags, environment (``EDGE_AGENT_*``) and TOML table ``[agent]`` become an AgentConfig."""

from __future__ import annotations

import dataclasses
import difflib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from device_agent.config import (
    AgentConfig,
    CacheConfig,
    LocalConfig,
    ModelConfig,
    ProbationConfig,
)
from edge_sdk.base import FormatError, UsageError
from edge_sdk.base.command import PathArgument, Settings

Function = TypeVar("Function", bound=Callable[..., Any])
Table = TypeVar("Table")

_DEFAULT = AgentConfig(state_dir="/var/lib/edge-agent", device="")
_SIZES = ("memory_bytes", "disk_quota_bytes", "disk_reserve_bytes", "decoder_memory_bytes")
_SECONDS = (
    *("check_in_s", "metadata_check_s", "retry_base_s", "retry_cap_s"),
    *("trial_timeout_s", "prepare_timeout_s"),
)
_ADDRESS = "unix:/path, or HOST:PORT of this machine (port 0: a free one)."
_PROBATION = (
    *("duration_s", "deadline_s", "samples_min", "ratio_max", "requests_min"),
    *("mode", "share", "agree_min", "top1_min"),
)
_MODES = ("switch", "canary", "shadow")


def config_options(command: Function) -> Function:
    """The flags that make up the configuration."""
    options = [
        click.option("--state", "state_dir", help="Folder for models and state."),
        click.option("--device", help="This device's name."),
        click.option("--distributor", help="HOST:PORT of the distributor."),
        click.option("--root", help="File with the factory root, where trust begins."),
        click.option("--local-address", help=f"Where AgentService listens: {_ADDRESS}"),
        click.option("--inference-address", help=f"Where inference listens: {_ADDRESS}"),
        click.option(
            "--shared-memory-prefix", help="Apps may register shared memory whose name begins so."
        ),
        click.option("--rest-address", help=f"Where REST listens; off without: {_ADDRESS}"),
        click.option("--metrics-address", help="HOST:PORT for Prometheus to scrape; off without."),
        click.option("--otlp-endpoint", help="http(s) URL of a collector of traces; off without."),
        click.option("--label", "labels", multiple=True, help="key=value; may be repeated."),
        click.option(
            "--accelerator", "accelerators", multiple=True, help="What variants may require."
        ),
        click.option(
            "--cache",
            "caches",
            multiple=True,
            help="MODEL=MEMORY_BYTES[:FILE_BYTES]: keep answers.",
        ),
        click.option(
            "--fast-lane/--no-fast-lane", default=None, help="Shared memory for apps here."
        ),
        click.option("--memory-bytes", type=int, help="What models may use; 0: all there is."),
        click.option("--disk-quota-bytes", type=int, help="What the store may use; 0: no limit."),
        click.option("--check-in-s", type=float, help="Seconds between check-ins."),
        click.option("--probation-s", type=float, help="Seconds of watching a new version."),
        click.option("--probation-mode", help="switch (default), canary or shadow."),
        click.option("--probation-share", type=float, help="Of the requests, to a canary."),
        click.option("--config", "file", type=PathArgument(), help="A TOML file."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read_config(
    flags: Mapping[str, Any], *, device_needed: bool = True
) -> tuple[AgentConfig, Settings]:
    """Raises: UsageError for settings that cannot work, FormatError for a file that is no TOML."""
    settings = Settings("agent", flags.get("file"))

    def get(key: str, default: Any) -> Any:
        flag = flags.get(key)
        return settings.get(key, None if flag == () else flag, default)  # (): never given

    local = _one_table("local", get("local", {}), LocalConfig)
    probation = {
        key: get(f"probation_{key}", getattr(_DEFAULT.probation, key)) for key in _PROBATION
    }
    if probation["mode"] not in _MODES:
        raise UsageError(f"probation_mode {probation['mode']!r} is none of {', '.join(_MODES)}")
    if flags.get("probation_s") is not None:
        probation["duration_s"] = flags["probation_s"]
    state_dir = get("state_dir", _DEFAULT.state_dir)
    if not state_dir:
        raise UsageError("the state folder has an empty name: give --state FOLDER")
    engine_threads = get("engine_threads", _DEFAULT.engine_threads)
    models = _with_tuned(get("models", {}), Path(state_dir), settings)
    config = AgentConfig(
        state_dir=str(Path(state_dir).absolute()),
        device=get("device", ""),
        distributor=get("distributor", ""),
        root=get("root", ""),
        local_address=get("local_address", ""),
        inference_address=get("inference_address", ""),
        rest_address=get("rest_address", ""),
        metrics_address=get("metrics_address", ""),
        otlp_endpoint=get("otlp_endpoint", ""),
        trace_every=get("trace_every", _DEFAULT.trace_every),
        watch=get("watch", _DEFAULT.watch),
        fast_lane=get("fast_lane", _DEFAULT.fast_lane),
        engine_threads=engine_threads,
        labels=_labels(get("labels", ())),
        caches=_caches(get("caches", ())),
        models=_models(models),
        shared_memory_prefix=get("shared_memory_prefix", _DEFAULT.shared_memory_prefix),
        local=local,
        accelerators=_names(get("accelerators", ())),
        probation=ProbationConfig(
            **probation,
            unproved_stays=get("probation_unproved_stays", _DEFAULT.probation.unproved_stays),
        ),
        **{key: get(key, getattr(_DEFAULT, key)) for key in (*_SIZES, *_SECONDS)},
    )
    unknown = settings.unknown()
    if unknown:
        words = _misspelt(unknown, (key for key in settings.shown() if key not in unknown))
        raise UsageError(f"{settings.file} has unknown keys in [agent]: {words}")
    if device_needed:
        check_named(config)
    return config, settings


def _with_tuned(tables: Any, root: Path, settings: Settings) -> Any:
    """What measures is imported only where something was measured: most agents never need it."""
    if not os.path.exists(root / "tuned.json"):  # noqa: PTH110 - never raises
        return tables
    from device_agent.cli.tuned import with_tuned

    return with_tuned(tables, root, settings)


def check_named(config: AgentConfig) -> None:
    """Raises: UsageError (no name of a device, or a setting that cannot work)."""
    if not config.device:
        raise UsageError("the device needs a name: --device NAME or EDGE_AGENT_DEVICE")
    try:
        config.check()
    except FormatError as error:  # a name that was typed, not a damaged input
        raise UsageError(error.message) from None


def with_free_port(uri: str) -> str:
    """Port 0 becomes a free one: two processes must agree on it beforehand."""
    host, _, port = uri.rpartition(":")
    if uri.startswith("unix:") or port != "0":
        return uri
    with socket.create_server((host.strip("[]"), 0)) as probe:
        return f"{host}:{probe.getsockname()[1]}"


def _names(values: Any) -> tuple[str, ...]:
    return tuple(_texts("accelerators", values))


def _texts(key: str, values: Any) -> list[str]:
    """Several from flags or a file's list, or one text with commas. Raises: UsageError."""
    texts = values.split(",") if isinstance(values, str) else values
    if not isinstance(texts, (list, tuple)) or not all(isinstance(one, str) for one in texts):
        raise UsageError(f"{key} {values!r} are no list of texts")
    return list(texts)


def _caches(values: Any) -> dict[str, CacheConfig]:
    """From flags as MODEL=MEMORY_BYTES[:FILE_BYTES], or a file's table by model."""
    if isinstance(values, Mapping):
        return _tables("caches", values, CacheConfig)
    found = {}
    for text in _texts("caches", values):
        model, equals, sizes = text.partition("=")
        memory, colon, file = sizes.partition(":")
        if not equals or not memory.isdecimal() or (colon and not file.isdecimal()):
            raise UsageError(f"cache {text!r} is not MODEL=MEMORY_BYTES[:FILE_BYTES]")
        found[model] = CacheConfig(memory_bytes=int(memory), file_bytes=int(file or 0))
    return found


def _models(values: Any) -> dict[str, ModelConfig]:
    """From a file's tables ``[agent.models."NAME"]``."""
    return _tables("models", values, ModelConfig)


def _one_table(key: str, table: Any, kind: type[Table]) -> Table:
    """A file's table ``[agent.KEY]``. Raises: UsageError."""
    return _tables(key, {"": table}, kind, where=f"[agent.{key}]")[""]


def _tables(key: str, values: Any, kind: type[Table], where: str = "") -> dict[str, Table]:
    """A file's tables ``[agent.KEY."NAME"]``, or as ``where`` says. Raises: UsageError."""
    known = [one.name for one in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise UsageError(f'{key} {values!r} are no tables: write [agent.{key}."NAMESPACE/NAME"]')
    found = {}
    for model, table in values.items():
        name = where or f'[agent.{key}."{model}"]'
        unknown = sorted(set(table) - set(known)) if isinstance(table, Mapping) else []
        if unknown:
            raise UsageError(f"unknown keys in {name}: {_misspelt(unknown, known)}")
        try:
            found[model] = msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            raise UsageError(f"{name}: {error}") from None
    return found


def _misspelt(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Each unknown key with the known one that it is like, or else with all of them."""
    names = sorted(known)
    words = []
    for key in unknown:
        like = difflib.get_close_matches(key, names, n=1)
        words.append(f"{key} (is {like[0]} meant?)" if like else key)
    strange = not all(word.endswith("?)") for word in words)
    return ", ".join(words) + (f"; known are {', '.join(names)}" if strange else "")


def _labels(values: Any) -> dict[str, str]:
    if isinstance(values, Mapping):
        return {str(key): str(value) for key, value in values.items()}
    found = {}
    for text in _texts("labels", values):
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"label {text!r} is not key=value")
        found[key] = value
    return found
