"""A device as raw calls of the wire: it says what it is told to say, and decodes what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from edge_sdk.base import Digest
from edge_sdk.delta import FORMAT_VERSION, METHODS, apply, inspect
from edge_sdk.protos import delivery_v1_pb2 as wire
from edge_sdk.protos import delivery_v1_pb2_grpc as stubs
from edge_sdk.rpc import DEVICE_KEY
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet

Held = tuple[Digest, Path]  # an artifact and its files


class RawDevice:
    """Of a fleet on loopback; it knows ``methods`` of deltas and has ``engines``."""

    def __init__(
        self,
        fleet: LoopbackFleet,
        name: str,
        methods: tuple[str, ...],
        *,
        engines: tuple[str, ...] = ("onnxruntime",),
    ) -> None:
        self.name = name
        self._address = fleet.device_address
        self._capabilities = wire.Capabilities(
            delta_versions=[FORMAT_VERSION],
            delta_methods=methods,
            decoder_memory_bytes=64 << 20,
            engines=[wire.Engine(name=engine, version="1.0") for engine in engines],
            architecture="x86_64",
        )

    def check_in(
        self, held: tuple[Digest, ...] = (), *, runs: Digest | None = None
    ) -> wire.CheckInResponse:
        """``runs``: the artifact that serves, and is held too."""
        models = (
            []
            if runs is None
            else [wire.ModelReport(model=MODEL, active_artifact=runs.raw, state="committed")]
        )
        request = wire.CheckInRequest(
            capabilities=self._capabilities,
            held_artifacts=[one.raw for one in (*held, *([] if runs is None else [runs]))],
            models=models,
            disk_free_bytes=1 << 30,
        )
        with self._stub() as stub:
            return stub.CheckIn(request, metadata=self._metadata, timeout=30)

    def bring(self, target: Digest, held: Held | None, folder: Path) -> tuple[Path, list[set[str]]]:
        """Fetches and applies every step to ``target``; its files, and the methods used in
        each step."""
        used = []
        steps = self.plan(target, held)
        assert steps[-1].target_artifact == target.raw
        for number, step in enumerate(steps):
            assert step.source_artifact == (b"" if held is None else held[0].raw)
            delta = self._fetch(step.delta, folder.with_suffix(f".{number}.delta"))
            made = folder if number == len(steps) - 1 else folder.with_suffix(f".{number}")
            apply(None if held is None else held[1], delta, made)
            held = (Digest(step.target_artifact), made)
            used.append(set(inspect(delta).methods) & set(METHODS))
        return folder, used

    def plan(self, target: Digest, held: Held | None) -> list[wire.PlanStep]:
        request = wire.PlanRequest(
            target_artifact=target.raw,
            source_artifacts=[] if held is None else [held[0].raw],
            capabilities=self._capabilities,
        )
        with self._stub() as stub:
            return list(stub.Plan(request, metadata=self._metadata, timeout=60).steps)

    def _fetch(self, digest: bytes, delta: Path) -> Path:
        with self._stub() as stub:
            wanted = wire.FetchRequest(digest=digest)
            frames = stub.Fetch(wanted, metadata=self._metadata, timeout=60)
            delta.write_bytes(b"".join(frame.data for frame in frames))
        return delta

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((DEVICE_KEY, self.name),)

    @contextmanager
    def _stub(self) -> Iterator[stubs.DeliveryServiceStub]:
        with grpc.insecure_channel(self._address) as channel:
            yield stubs.DeliveryServiceStub(channel)
