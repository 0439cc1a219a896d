"""The headline: a whole file over HTTPS against a delta over gRPC, on a link of 7.2 MB/s.

``make bench-delivery``. Both ways start at the request and end when the new version is
proved and loaded. The plain way downloads the file, checks its SHA-256 and loads it into ONNX
Runtime. Ours is the product from end to end: an operator orders the rollout (the deltas are
built, as ``rollout plan`` does it), the agent hears of it, plans, fetches, applies, proves
every chunk, tries the candidate in a child process against its golden sample, loads it
beside the old version, and switches; the clock stops when the agent says so. Rounds are
interleaved, medians are quoted, bytes are counted on the link, in both directions of ours.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import click

from benchmarks.entropy import model_bound_bytes
from benchmarks.https_file import HttpsServer, download_and_load, make_certificate
from benchmarks.rows import Anchor, Row, anchor, document, row, show, write_json
from benchmarks.slow_link import SlowLink
from benchmarks.trained_pair import TrainedPairs, train_pairs
from demo.agents import LocalStatus, wait_until_known
from demo.stage import DemoError, Stage
from edge_sdk.base.command import run
from edge_sdk.fleet import Cohort, Draft, Fleet

NAME = "bench-delivery"
LINK_BYTES_PER_S = 7.2e6
FASTER_TARGET = 4.0
FEWER_BYTES_TARGET = 7.0
PRECISIONS = ("fp32", "fp16", "int8")
_LIMIT_S = 180.0
_POLL_S = 0.02
_MB = 1e6


@dataclass(slots=True)
class Samples:
    """Of one way of delivery in one precision, one entry for each round."""

    seconds: list[float] = field(default_factory=list)
    wire_bytes: list[int] = field(default_factory=list)


class Bench:
    """Servers, links and models, set up once for all rounds."""

    def __init__(
        self, stage: Stage, trained: TrainedPairs, https: SlowLink, grpc: SlowLink, fleet: Fleet
    ) -> None:
        self.stage = stage
        self.trained = trained
        self.https = https
        self.grpc = grpc
        self.fleet = fleet
        self.plain = {precision: Samples() for precision in PRECISIONS}
        self.ours = {precision: Samples() for precision in PRECISIONS}
        self._sha256 = {
            pair.precision: hashlib.sha256(pair.target.read_bytes()).hexdigest()
            for pair in trained.pairs
        }

    def publish(self) -> None:
        for pair in self.trained.pairs:
            for version, path in (("1.0.0", pair.source), ("2.0.0", pair.target)):
                draft = Draft(
                    model=_model(pair.precision),
                    version=version,
                    variant=pair.precision,
                    parent="1.0.0" if version == "2.0.0" else None,
                )
                self.fleet.publish(path, draft)

    def round(self, number: int) -> None:
        """A new device gets the old versions without a limit, then the new ones over the link."""
        device = f"device-{number}"
        self.grpc.set_rate(0)
        agent = self.stage.start_agent(device, self.grpc.address, "--probation-s", "1")
        wait_until_known(self.fleet, agent)
        cohort = Cohort(devices=(device,))
        for precision in PRECISIONS:
            status = LocalStatus(agent, _model(precision))
            self._bring(status, precision, "1.0.0", cohort)
            # Deltas are built when a rollout is planned, long before a device asks for them.
            self.fleet.rollout_plan(_model(precision), "2.0.0", cohort)
            status.close()
        self.grpc.set_rate(LINK_BYTES_PER_S)
        for precision in PRECISIONS:
            self._plain_way(precision)
            status = LocalStatus(agent, _model(precision))
            before_bytes = self.grpc.down_bytes + self.grpc.up_bytes
            seconds = self._bring(status, precision, "2.0.0", cohort)
            self.ours[precision].seconds.append(seconds)
            self.ours[precision].wire_bytes.append(
                self.grpc.down_bytes + self.grpc.up_bytes - before_bytes
            )
            status.close()
        self.stage.end(device)

    def _plain_way(self, precision: str) -> None:
        before_bytes = self.https.down_bytes + self.https.up_bytes
        pair = self.trained.of(precision)
        downloaded = download_and_load(
            self.https.address,
            f"{precision}.onnx",
            self._sha256[precision],
            self.stage.folder / "certificate.pem",
            self.stage.folder / "downloaded.onnx",
        )
        if self.https.down_bytes - before_bytes < pair.target.stat().st_size:
            raise DemoError("the link did not see the whole file")
        self.plain[precision].seconds.append(downloaded.seconds)
        self.plain[precision].wire_bytes.append(
            self.https.down_bytes + self.https.up_bytes - before_bytes
        )

    def _bring(self, status: LocalStatus, precision: str, version: str, cohort: Cohort) -> float:
        """Seconds from the order until the agent serves ``version``; waits for its commit."""
        began_s = time.monotonic()
        rollout = self.fleet.rollout_create(_model(precision), version, cohort)
        while status.model().version != version:
            state = self.fleet.rollout_status(rollout.rollout)
            if state.failures or time.monotonic() - began_s > _LIMIT_S:
                raise DemoError(
                    f"{precision} {version} did not come to serve: {state.devices}; "
                    f"{self.stage.dead()}"
                )
            time.sleep(_POLL_S)
        seconds = time.monotonic() - began_s
        while not (state := self.fleet.rollout_status(rollout.rollout)).finished:
            if time.monotonic() - began_s > _LIMIT_S:
                raise DemoError(f"{precision} {version} was never committed: {state.devices}")
            time.sleep(0.1)
        if not state.succeeded:
            raise DemoError(f"{precision} {version}: {state.devices}")
        return seconds

    def rows(self) -> list[Row]:
        rows: list[Row] = [
            row("model", self.trained.what, [self.trained.weights], "weights", ">="),
        ]
        for precision in PRECISIONS:
            rows += self._comparison(precision, precision)
        rows += self._comparison("fp32", "int8", target=True)
        return rows

    def _comparison(self, whole: str, delta: str, *, target: bool = False) -> list[Row]:
        plain, ours = self.plain[whole], self.ours[delta]
        identity = f"{whole}-to-{delta}"
        what = (
            f"{delta.upper()} delta against {whole.upper()} whole"
            if whole != delta
            else f"{whole.upper()} to {whole.upper()}"
        )
        rows = [
            row(
                f"{identity}.faster",
                f"{what}: times faster than the whole over HTTPS",
                _ratios(plain.seconds, ours.seconds),
                "times",
                ">=",
                target=FASTER_TARGET if target else None,
                anchor=_plain(f"whole {whole.upper()} over HTTPS, s", plain.seconds),
            ),
            row(
                f"{identity}.fewer-bytes",
                f"{what}: times fewer bytes on the wire",
                _ratios(plain.wire_bytes, ours.wire_bytes),
                "times",
                ">=",
                target=FEWER_BYTES_TARGET if target else None,
                anchor=_plain(f"whole {whole.upper()} over HTTPS, bytes", plain.wire_bytes),
            ),
        ]
        if not target:
            rows += [
                row(
                    f"{identity}.seconds",
                    f"{what}: from request to proved and loaded",
                    ours.seconds,
                    "s",
                    "<=",
                    anchor=_plain(f"whole {whole.upper()} over HTTPS, s", plain.seconds),
                ),
                row(
                    f"{identity}.megabytes",
                    f"{what}: on the wire",
                    [count / _MB for count in ours.wire_bytes],
                    "MB",
                    "<=",
                    anchor=self._bound(delta),
                ),
            ]
        return rows

    def _bound(self, precision: str) -> Anchor:
        pair = self.trained.of(precision)
        bound_bytes = model_bound_bytes(pair.source, pair.target)
        return anchor(
            "entropy of the change, MB", "order 0 given the exponent", [bound_bytes / _MB]
        )


def _model(precision: str) -> str:
    return f"bench/{precision}"


def _ratios(plain: list[float] | list[int], ours: list[float] | list[int]) -> list[float]:
    """Round by round: what was measured in the same minute is compared."""
    return [theirs / own for theirs, own in zip(plain, ours, strict=True)]


def _plain(name: str, samples: list[float] | list[int]) -> Anchor:
    return anchor(name, "http.server and ssl of the standard library", samples)


def measure(rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, Stage(Path(name)) as stage:
        folder = Path(name)
        models = folder / "models"
        models.mkdir()
        click.echo("Training the model and its fine-tune ...", err=True)
        trained = train_pairs(models)
        served = folder / "served"
        served.mkdir()
        for pair in trained.pairs:
            (served / f"{pair.precision}.onnx").hardlink_to(pair.target)
        make_certificate(folder / "certificate.pem")
        distributor = stage.start_distributor(namespaces=["bench"])
        with (
            HttpsServer(served, folder / "certificate.pem") as https_server,
            SlowLink(https_server.address, bytes_per_s=LINK_BYTES_PER_S) as https,
            SlowLink(distributor.device_address, bytes_per_s=LINK_BYTES_PER_S) as grpc,
            stage.open_fleet() as fleet,
        ):
            bench = Bench(stage, trained, https, grpc, fleet)
            bench.publish()
            for number in range(1, rounds + 1):
                bench.round(number)
                click.echo(f"Round {number} of {rounds}: {_round_text(bench)}", err=True)
            return bench.rows()


def _round_text(bench: Bench) -> str:
    return ", ".join(
        f"{precision} {bench.plain[precision].seconds[-1]:.1f} s against "
        f"{bench.ours[precision].seconds[-1]:.1f} s"
        for precision in PRECISIONS
    )


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(rounds: int) -> None:
    """Measures both ways of delivery and writes build/bench-delivery.json.

    Example: python -m benchmarks.delivery --rounds 5
    """
    rows = measure(rounds)
    write_json(Path("build") / f"{NAME}.json", document(NAME, rows))
    show(f"A link of {LINK_BYTES_PER_S / _MB:g} MB/s, medians of {rounds} rounds", rows)
    missed = [one.id for one in rows if one.met is False]
    if missed:
        raise DemoError(f"missed: {', '.join(missed)}")


def main() -> None:
    run(cli, NAME)


if __name__ == "__main__":
    main()
