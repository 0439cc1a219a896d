"""Calls to the distributor, each from whatever thread wants to wait for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from device_agent.fleet_link.calls import Calls
from device_agent.fleet_link.metadata import MetadataLink
from device_agent.fleet_link.stalled import unless_stalled
from device_agent.fleet_link.values import (
    Capabilities,
    CheckedIn,
    ModelState,
    Note,
    PlanStep,
    Woken,
)
from edge_sdk.base import Digest, ProofError, RefusedError
from edge_sdk.identity import Identity, Issued, renew, renew_expired
from edge_sdk.protos import delivery_v1_pb2 as wire
from edge_sdk.protos import delivery_v1_pb2_grpc as stubs
from edge_sdk.rpc import FRAME_BYTES, Credentials, open_channel, typed_errors

_CHANNELS_MAX = 2  # with the certificate in use, and with the one before
_CHECK_IN_S = 30.0
_PLAN_S = 120.0  # the distributor may be building the delta
_REPORT_S = 30.0
# A stream has no deadline of its own (a large model on a slow link takes hours); keepalive
# on the channel finds out that the peer is gone, and this that it is there and says nothing.
_STALL_S = 60.0


class FleetLink:
    """One channel to the distributor (or a relay). Methods raise the typed errors of the
    peer, UnavailableError where it cannot be reached."""

    def __init__(
        self,
        address: str,
        *,
        device: str,
        identity: Identity | None = None,
        stall_s: float = _STALL_S,
    ) -> None:
        """Raises: UsageError, RefusedError (no ``identity``, and that is not a test)."""
        self.address = address
        self.identity = identity
        self._peer = f"the distributor at {address}"
        tls = None if identity is None else identity.tls()
        credentials = Credentials(device=device) if tls is None else Credentials(tls=tls)
        self._channels = [open_channel(address, credentials)]
        self._stub = stubs.DeliveryServiceStub(self._channels[-1])
        self._calls = Calls()
        self.metadata = MetadataLink(self._channels[-1], self._peer, self._calls)
        self._stall_s = stall_s

    def close(self) -> None:
        """Ends every call in progress, also those of other threads."""
        self._calls.end(lambda: [channel.close() for channel in self._channels])

    def use(self, identity: Identity) -> None:
        """New calls use this certificate from now on; those under way keep the one before,
        until it is replaced once more."""
        self.identity = identity
        self._channels.append(open_channel(self.address, Credentials(tls=identity.tls())))
        self._stub = stubs.DeliveryServiceStub(self._channels[-1])
        self.metadata.use(self._channels[-1])
        while len(self._channels) > _CHANNELS_MAX:
            self._channels.pop(0).close()

    def renew(self, *, expired: bool) -> Issued:
        """A new certificate for the one in use; ``expired``: where that opens no door any
        more, by proof of its key. Raises: TrustError, RefusedError, UnavailableError."""
        identity = self.identity
        if identity is None:
            raise RefusedError("this device has no certificate to renew")
        if expired:
            return renew_expired(identity)
        return renew(replace(identity, address=self.address))

    def check_in(
        self,
        *,
        capabilities: Capabilities,
        held: Collection[Digest],
        models: Sequence[ModelState],
        assignment_counter: int,
        disk_free_bytes: int,
        labels: Mapping[str, str],
        marks: tuple[bytes, bytes] = (b"", b""),
    ) -> CheckedIn:
        """Says what this device holds and can do; hears what it should run. ``marks``: of the
        last check-in that was answered, and of this one."""
        request = wire.CheckInRequest(
            capabilities=_capabilities(capabilities),
            held_artifacts=[artifact.raw for artifact in held],
            models=[_model(model) for model in models],
            assignment_counter=assignment_counter,
            disk_free_bytes=disk_free_bytes,
            labels=labels,
            previous_mark=marks[0],
            mark=marks[1],
        )
        self._calls.check()
        with typed_errors(self._peer):
            answer = self._stub.CheckIn(request, timeout=_CHECK_IN_S)
        return CheckedIn(
            assignment=answer.assignment or None,
            next_check_in_s=answer.next_check_in_s,
            renew_certificate=answer.renew_certificate,
        )

    def watch(self, assignment_counter: int) -> Iterator[Woken]:
        """Yields as things change; ends when the server ends the stream."""
        request = wire.WatchRequest(assignment_counter=assignment_counter)
        call = self._calls.begin(lambda: self._stub.Watch(request))
        with typed_errors(self._peer):
            for event in call:
                yield Woken(
                    assignment_counter=event.assignment_counter,
                    reconnect_s=event.reconnect_s if event.goodbye else None,
                )

    def plan(
        self, *, target: Digest, sources: Collection[Digest], capabilities: Capabilities
    ) -> tuple[PlanStep, ...]:
        """How to come to ``target`` from one of ``sources``. Raises: FormatError."""
        request = wire.PlanRequest(
            target_artifact=target.raw,
            source_artifacts=[source.raw for source in sources],
            capabilities=_capabilities(capabilities),
        )
        self._calls.check()
        with typed_errors(self._peer):
            answer = self._stub.Plan(request, timeout=_PLAN_S)
        return tuple(_step(step) for step in answer.steps)

    def fetch(self, digest: Digest, *, offset: int, length: int) -> Iterator[bytes]:
        """The bytes from ``offset`` on, ``length`` of them (0: to the end), as they come.

        Raises: ProofError where the peer sends another place than was asked for, or frames so
        large that a few of them would fill the memory; UnavailableError where it stalls.
        """
        request = wire.FetchRequest(digest=digest.raw, offset=offset, length=length)
        call = self._calls.begin(lambda: self._stub.Fetch(request))
        try:
            with typed_errors(self._peer):
                for frame in unless_stalled(call, self._stall_s):
                    if frame.offset != offset:
                        raise ProofError(
                            f"{self._peer} sent bytes from {frame.offset} on, not from {offset}"
                        )
                    if len(frame.data) > FRAME_BYTES:
                        raise ProofError(f"{self._peer} sent a frame of {len(frame.data)} bytes")
                    offset += len(frame.data)
                    yield frame.data
        finally:
            call.cancel()

    def report(self, notes: Sequence[Note]) -> int:
        """Sends events; returns up to which number they are durable there."""
        request = wire.ReportRequest(events=[_event(note) for note in notes])
        self._calls.check()
        with typed_errors(self._peer):
            return self._stub.Report(request, timeout=_REPORT_S).acknowledged


def _capabilities(own: Capabilities) -> wire.Capabilities:
    return wire.Capabilities(
        delta_versions=own.delta_versions,
        delta_methods=own.delta_methods,
        decoder_memory_bytes=own.decoder_memory_bytes,
        engines=[
            wire.Engine(
                name=engine.name,
                version=engine.version,
                ir_version_max=engine.ir_version_max or 0,
                opset_max=engine.opset_max,
            )
            for engine in own.engines
        ],
        architecture=own.architecture,
        memory_bytes=own.memory_bytes,
        accelerators=own.accelerators,
        agent_version=own.agent_version,
    )


def _model(model: ModelState) -> wire.ModelReport:
    return wire.ModelReport(
        model=model.model,
        active_artifact=model.active.raw if model.active else b"",
        active_version=model.active_version,
        state=model.state,
        candidate_artifact=model.candidate.raw if model.candidate else b"",
        reason=model.reason,
    )


def _step(step: wire.PlanStep) -> PlanStep:
    return PlanStep(
        source=Digest(step.source_artifact) if step.source_artifact else None,
        target=Digest(step.target_artifact),
        delta=Digest(step.delta),
        delta_bytes=step.delta_bytes,
        decoder_memory_bytes=step.decoder_memory_bytes,
        target_manifest=step.target_manifest,
    )


def _event(note: Note) -> wire.Event:
    return wire.Event(
        number=note.number,
        at_ms=note.at_ms,
        model=note.model,
        version=note.version,
        artifact=note.artifact.raw if note.artifact else b"",
        rollout=note.rollout,
        attempt=note.attempt,
        state=note.state,
        reason=note.reason,
        message=note.message,
        facts=note.facts,
    )
