"""What a local request costs, and what a switch of versions costs those who ask meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from benchmarks.memory import rss_anon
from benchmarks.rows import Row, anchor, row
from demo import train
from demo.agents import LocalStatus, Traffic, wait_until_known
from demo.client import Asker
from demo.digits import load
from demo.graph import INPUT, write_model
from demo.stage import Agent, DemoError, Stage
from demo.versions import MODEL, make_release, write_expected
from edge_sdk.client import connect
from edge_sdk.fleet import Fleet

_BLOCK = 200
_BLOCKS = 5
_REQUESTS_PER_S = 300.0  # asked for; the bar is 200 that are really served
_SWITCHES_BACK_AND_FORTH = 3
_LIMIT_S = 120.0


def measure(folder: Path) -> list[Row]:
    """Starts a distributor and an agent of their own in ``folder``."""
    with Stage(folder) as stage:
        distributor = stage.start_distributor(namespaces=["demo"])
        agent = stage.start_agent("bench", distributor.device_address, "--probation-s", "2")
        with stage.open_fleet() as fleet:
            wait_until_known(fleet, agent)
            models = _publish_two(fleet, folder)
            _roll_out(fleet, agent, "1.0.0")
            rows = [*_latency(agent, models["1.0.0"]), _memory(agent)]
            return rows + _switches(stage, fleet, agent, folder)


def _publish_two(fleet: Fleet, folder: Path) -> dict[str, Path]:
    versions = train.train_versions(load())
    models: dict[str, Path] = {}
    releases = []
    for version, parent in (("1.0.0", None), ("2.0.0", "1.0.0")):
        models[version] = folder / f"digits-{version}.onnx"
        write_model(versions[version], models[version])
        release = make_release(
            models[version], version=version, variant="fp32", parent=parent, golden=None
        )
        fleet.upload(release.prepared)
        releases.append(release)
    write_expected(releases, folder / "expected.npz")
    return models


def _roll_out(fleet: Fleet, agent: Agent, version: str) -> None:
    rollout = fleet.rollout_create(MODEL, version)
    for state in fleet.rollout_watch(rollout.rollout, timeout_s=_LIMIT_S):
        rollout = state
    if not rollout.succeeded:
        raise DemoError(f"{version} did not come to {agent.name}: {rollout.devices}")


def _latency(agent: Agent, model: Path) -> list[Row]:
    """Requests through the agent, by the stock client and by ours, and bare calls in turns."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    inputs = {INPUT: load().held_out_images[:1]}
    asker = Asker(agent.inference_address, MODEL, inputs)
    with connect(agent.agent_address) as client:
        ours = client.model(MODEL)
        ways: dict[str, Callable[[], object]] = {
            "stock": asker.ask,
            "ours": lambda: ours.infer(inputs),
            "bare": lambda: session.run(None, inputs),
        }
        blocks = [_block(ways) for _ in range(_BLOCKS + 1)][1:]  # the first one warms up
        asker.close()
    engine = f"onnxruntime {onnxruntime.__version__}"
    return [
        row(
            f"serving.latency.{way}.p{percent}",
            f"one request (digits, one image) by {name}, p{percent}",
            [_percentile(block[way], percent) for block in blocks],
            "ms",
            "<=",
            anchor=anchor(
                "the engine alone, ms",
                engine,
                [_percentile(block["bare"], percent) for block in blocks],
            ),
        )
        for way, name in (("stock", "tritonclient"), ("ours", "edge_sdk.client"))
        for percent in (50, 99)
    ]


def _block(ways: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Milliseconds of each call, one of each way after the other."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_BLOCK):
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - began))
    return taken


def _memory(agent: Agent) -> Row:
    """Of all processes of the agent together, while it serves and nothing is updated."""
    supervisor = psutil.Process(agent.pid)
    pids = [agent.pid, *(child.pid for child in supervisor.children(recursive=True))]
    return row(
        "memory.agent",
        f"RssAnon of the agent's {len(pids)} processes, serving one model of 4.2 MB",
        [sum(rss_anon(pid) for pid in pids) / (1 << 20)],
        "MiB",
        "<=",
    )


def _percentile(samples: list[float], percent: int) -> float:
    return statistics.quantiles(samples, n=100)[percent - 1]


def _switches(stage: Stage, fleet: Fleet, agent: Agent, folder: Path) -> list[Row]:
    """Switches to the new version and back under load; the clock runs over all of it."""
    traffic = Traffic(stage)
    traffic.start(agent, MODEL, folder / "expected.npz", _REQUESTS_PER_S)
    status = LocalStatus(agent, MODEL)
    while not traffic.served:
        if traffic.failed or stage.dead():
            raise DemoError(f"the client cannot ask: {traffic.problems or stage.dead()}")
        time.sleep(0.05)
    served, began_s = traffic.served, time.monotonic()
    for _ in range(_SWITCHES_BACK_AND_FORTH):
        for version in ("2.0.0", "1.0.0"):
            _roll_out(fleet, agent, version)
            if status.model().version != version:
                raise DemoError(f"{agent.name} does not serve {version}")
    seconds = time.monotonic() - began_s
    requests_per_s = (traffic.served - served) / seconds
    traffic.stop()
    status.close()
    switches = 2 * _SWITCHES_BACK_AND_FORTH
    return [
        row(
            "serving.switch.failed",
            f"requests that failed or got another version's answer across {switches} switches",
            [float(traffic.failed)],
            "requests",
            "<=",
            target=0,
        ),
        row(
            "serving.switch.rate",
            "requests served meanwhile, retries off",
            [requests_per_s],
            "requests/s",
            ">=",
            target=200,
        ),
        row(
            "serving.switch.slowest",
            f"slowest of {traffic.served} requests across {switches} switches",
            [traffic.slowest_ms],
            "ms",
            "<=",
        ),
    ]
