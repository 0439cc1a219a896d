"""The Python API of a fleet: what ``edge-fleet`` does, for pipelines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edge_sdk.base import (
    Digest,
    EdgeError,
    FormatError,
    ModelName,
    NotFoundError,
    ProofError,
    TrustError,
    UnavailableError,
    UsageError,
    Version,
)
from edge_sdk.evidence import EvidencePolicy, Required, check_evidence, missing_evidence
from edge_sdk.fleet.audit import AuditLog
from edge_sdk.fleet.bearer import Bearer
from edge_sdk.fleet.connection import Connection, Patience, default_operator
from edge_sdk.fleet.home import FleetHome
from edge_sdk.fleet.identities import Identities
from edge_sdk.fleet.marks import TrustMarks
from edge_sdk.fleet.messages import (
    artifact_from,
    cohort_to,
    device_from,
    evidence_from,
    explanation_from,
    planned_device_from,
    required_from,
    rollout_from,
    storage_from,
    together_from,
)
from edge_sdk.fleet.metadata import MetadataClient
from edge_sdk.fleet.model import (
    Artifact,
    Cohort,
    Device,
    Explanation,
    Published,
    Rollout,
    RolloutPlan,
    Storage,
)
from edge_sdk.fleet.operators import Operators
from edge_sdk.fleet.publish import Advance, Draft, Prepared, check_files, check_names, prepare
from edge_sdk.fleet.repository import Keys
from edge_sdk.fleet.upload import Meter, Upload
from edge_sdk.identity import Identity
from edge_sdk.manifest import Manifest, decode_manifest
from edge_sdk.protos import fleet_v1_pb2 as wire
from edge_sdk.rpc import Credentials

if TYPE_CHECKING:
    from edge_sdk.fleet.proving import Proved

DEFAULT_ADDRESS = "127.0.0.1:7444"
_LOOK_DEADLINE_S = 5.0
_FLOOR_WITHOUT_KEYS = "a floor is signed by its publisher: it needs keys (--keys)"
_EVERY_DEVICE = Cohort()
_DEFAULT_PATIENCE = Patience()


class Fleet:
    """A connection to a distributor, to be used in a ``with`` block.

    Every method raises the typed errors of ``edge_sdk.base``: UnavailableError where the
    distributor cannot be reached (what is safe to repeat was repeated before), NotFoundError,
    ConflictError, RefusedError and so on. It can be used by several threads.

    keys: sign what is published; without them it is uploaded only, and a distributor that has
    signed metadata rolls nothing out that nobody signed.
    home: what this machine keeps; by default the folder that EDGE_FLEET_HOME names, or
    ~/.config/edge-fleet. marks: which signed metadata were seen, where not in ``home``.
    identity: who calls, proved by a certificate (see ``OwnIdentity``). bearer: a pipeline with
    a short-lived token, in place of a certificate. operator: the name that tests say they are,
    without proof; the login name by default.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        identity: Identity | None = None,
        bearer: Bearer | None = None,
        operator: str | None = None,
        keys: Keys | None = None,
        home: FleetHome | None = None,
        marks: TrustMarks | None = None,
        patience: Patience = _DEFAULT_PATIENCE,
    ) -> None:
        credentials = Credentials(operator=operator or default_operator())
        if identity is not None:
            credentials = Credentials(tls=identity.tls())
        elif bearer is not None:
            credentials = bearer.credentials()
        self._connection = Connection(address, credentials, patience=patience)
        self.identities = Identities(self._connection, deadline_s=patience.deadline_s)
        self._stub = self._connection.stub
        self._keys = keys
        self.metadata = MetadataClient(
            self._connection, marks or (None if home is None else TrustMarks(home.trust_marks))
        )
        self.audit = AuditLog(self._connection, address, home)
        self.operators = Operators(self._connection)
        self._deadline_s = patience.deadline_s

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # Publishing

    def publish(self, path: Path | str, draft: Draft) -> Published:
        """Makes the manifest of a file or folder, uploads what the distributor lacks, and signs.

        Raises: FormatError, UsageError, RefusedError, TrustError; ConflictError where this
        variant of this version is there with other content.
        """
        self.check_publish(draft)
        return self.upload(prepare(Path(path), draft, look=partial(self.published, draft)))

    def check_publish(self, draft: Draft) -> None:
        """That the distributor lets the caller publish this, and that the keys can sign it:
        before a sample is computed or a byte is sent.

        Raises: FormatError, UsageError (a floor without keys, no passphrase), ForbiddenError,
        RefusedError (no key of the namespace, no evidence), TrustError, UnavailableError.
        """
        model, version, floor = check_names(draft)
        kinds = check_files(draft)
        if floor is not None and self._keys is None:
            raise UsageError(_FLOOR_WITHOUT_KEYS)
        request = wire.MissingFilesRequest(model=str(model))
        self._connection.repeat(lambda: self._stub.MissingFiles(request, timeout=self._deadline_s))
        if self._keys is not None:
            self.metadata.check_keys(self._keys, model.namespace)
        missing = [one for one in self._required(model.namespace) if one.kind not in kinds]
        if missing and self.published(draft) is None:
            name = f"{model} {version} {draft.variant}"
            raise missing_evidence(missing, model.namespace, name)

    def published(self, draft: Draft) -> Manifest | None:
        """What is there under the name of a draft. None also where that cannot be known now:
        the distributor decides when it is uploaded."""
        request = wire.ListModelsRequest(model=_model(draft.model))
        try:
            answer = self._connection.once(
                lambda: self._stub.ListModels(request, timeout=_LOOK_DEADLINE_S)
            )
            for one in answer.artifacts:
                if (one.version, one.variant) == (draft.version, draft.variant):
                    return decode_manifest(one.manifest)
        except EdgeError:
            pass
        return None

    def upload(self, prepared: Prepared, *, advance: Advance | None = None) -> Published:
        """Uploads a prepared artifact, then signs it into the metadata where there are keys;
        ``advance`` hears of bytes that need no more sending.

        Doing it again after it broke off anywhere is safe, and finishes it. Evidence is judged
        here, by the policy of the distributor, before anything is sent, and there once more.
        """
        self._check_evidence(prepared)
        if prepared.floor is not None and self._keys is None:
            raise UsageError(_FLOOR_WITHOUT_KEYS)
        meter = Meter(advance)
        answer = self._connection.repeat(lambda: self._send(prepared, meter))
        manifest = prepared.manifest
        if self._keys is not None:
            self.metadata.publish(self._keys, manifest, prepared.document, prepared.floor)
        return Published(
            artifact=Digest(answer.artifact),
            created=answer.created,
            model=str(manifest.model),
            version=str(manifest.version),
            variant=manifest.variant,
            size_bytes=manifest.size_bytes,
            sent_bytes=meter.sent_bytes,
            signed=self._keys is not None,
            evidence=tuple(evidence_from(one) for one in answer.evidence),
        )

    def required_evidence(self, namespace: str) -> tuple[Required, ...]:
        """What has to come with what is published in a namespace."""
        request = wire.EvidencePolicyRequest(namespace=namespace)
        answer = self._connection.repeat(
            lambda: self._stub.EvidencePolicy(request, timeout=self._deadline_s)
        )
        return tuple(required_from(one) for one in answer.required)

    def _check_evidence(self, prepared: Prepared) -> None:
        """Raises: RefusedError, TrustError, ProofError, FormatError."""
        manifest = prepared.manifest
        if prepared.evidence:
            required = self.required_evidence(manifest.model.namespace)
        else:
            required = self._required(manifest.model.namespace)
        # A version that is there passed before, by the policy of its day.
        if prepared.evidence or (required and not self._is_there(prepared)):
            at = datetime.now(timezone.utc)
            try:
                check_evidence(prepared.evidence, required, manifest, at=at)
            except (TrustError, ProofError, FormatError) as error:
                raise _naming_file(error, prepared, required, at) from None

    def _required(self, namespace: str) -> tuple[Required, ...]:
        """Of a distributor of before there was evidence: nothing."""
        try:
            return self.required_evidence(namespace)
        except UsageError:
            return ()

    def _is_there(self, prepared: Prepared) -> bool:
        try:
            found = self.models(str(prepared.manifest.model))
        except NotFoundError:
            return False
        return any(one.artifact == prepared.artifact for one in found)

    def _send(self, prepared: Prepared, meter: Meter) -> wire.PublishResponse:
        digests = [digest.raw for digest in prepared.contents]
        missing = self._stub.MissingFiles(
            wire.MissingFilesRequest(digests=digests), timeout=self._deadline_s
        )
        upload = Upload(prepared, [Digest(raw) for raw in missing.digests], meter)
        try:
            return self._stub.Publish(upload.requests())
        except Exception:
            if upload.failed is not None:
                raise upload.failed from None
            raise

    # Reading

    def models(self, model: str | None = None) -> tuple[Artifact, ...]:
        """Every published variant, or those of one model. Raises: NotFoundError (no such model)."""
        request = wire.ListModelsRequest(model=_model(model) if model else "")
        answer = self._connection.repeat(
            lambda: self._stub.ListModels(request, timeout=self._deadline_s)
        )
        if model and not answer.artifacts:
            raise NotFoundError(f"no version of {model} is published; see: edge-fleet models")
        return tuple(artifact_from(one) for one in answer.artifacts)

    def storage(self, model: str | None = None) -> Storage:
        """What versions and deltas take, why each is kept, and what could go; of one model or
        of all. Raises: NotFoundError (no such model)."""
        request = wire.ListStorageRequest(model=_model(model) if model else "")
        answer = self._connection.repeat(
            lambda: self._stub.ListStorage(request, timeout=self._deadline_s)
        )
        return storage_from(answer)

    def devices(self, selector: str = "") -> tuple[Device, ...]:
        """Devices whose labels match, such as ``site=berlin,tier!=test``; all by default."""
        request = wire.ListDevicesRequest(selector=selector)
        answer = self._connection.repeat(
            lambda: self._stub.ListDevices(request, timeout=self._deadline_s)
        )
        return tuple(device_from(one) for one in answer.devices)

    def label(
        self, device: str, labels: Mapping[str, str] | None = None, *, remove: Sequence[str] = ()
    ) -> Device:
        """Sets and removes labels of a device. Raises: NotFoundError."""
        request = wire.LabelDeviceRequest(device=device, set=labels or {}, remove=remove)
        answer = self._connection.repeat(
            lambda: self._stub.LabelDevice(request, timeout=self._deadline_s)
        )
        return device_from(answer)

    def explain(
        self, device: str, model: str | None = None, version: str | None = None
    ) -> Explanation:
        """Which variant a device gets, and why not the others.

        Without a model: every model assigned to it; without a version: the one assigned.
        """
        request = wire.ExplainDeviceRequest(
            device=device,
            model=_model(model) if model else "",
            version=_version(version) if version else "",
        )
        answer = self._connection.repeat(
            lambda: self._stub.ExplainDevice(request, timeout=self._deadline_s)
        )
        return explanation_from(answer)

    def prove(
        self,
        model: str,
        version: str,
        variant: str | None = None,
        *,
        root: bytes,
        evidence: EvidencePolicy | None = None,
        advance: Advance | None = None,
    ) -> tuple[Proved, ...]:
        """Proves a version as a device would: signed metadata from ``root`` on, the manifest,
        every chunk of every file; of each variant, or of one. And, what no device does, that it
        came with what ``evidence`` requires.

        Raises: TrustError, ProofError, NotFoundError, RefusedError.
        """
        from edge_sdk.fleet.proving import Proving

        proving = Proving(self._connection, self.metadata)
        return proving.prove(model, version, variant, root=root, policy=evidence, advance=advance)

    # Rolling out

    def rollout_plan(
        self,
        model: str,
        version: str,
        cohort: Cohort = _EVERY_DEVICE,
        *,
        together: Iterable[tuple[str, str]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> RolloutPlan:
        """Builds the deltas that a rollout would need and says what each device would get.

        ``progress`` hears how many deltas are built, and of how many. Nothing is assigned.
        together: as that of ``rollout_create``.
        """
        request = _rollout_request(model, version, cohort, retry=False, together=together)
        devices: tuple[wire.PlannedDevice, ...] = ()
        for message in self._connection.follow(lambda: self._stub.PlanRollout(request)):
            devices = tuple(message.devices)
            if progress is not None:
                progress(message.deltas_done, message.deltas_total)
        return RolloutPlan(
            model=model,
            version=version,
            devices=tuple(planned_device_from(one) for one in devices),
            together=together_from(request.together),
        )

    def rollout_create(
        self,
        model: str,
        version: str,
        cohort: Cohort = _EVERY_DEVICE,
        *,
        retry: bool = False,
        together: Iterable[tuple[str, str]] = (),
    ) -> Rollout:
        """Brings a version to a cohort. Not repeated by itself: two calls are two rollouts.

        retry: also devices on which this very version failed before try it again.
        together: more models with their versions; each device switches to all of them at once
        or keeps what it has of all.
        """
        request = _rollout_request(model, version, cohort, retry=retry, together=together)
        return rollout_from(
            self._connection.once(
                lambda: self._stub.CreateRollout(request, timeout=self._deadline_s)
            )
        )

    def rollout_status(self, rollout: str) -> Rollout:
        """A rollout with its devices. Raises: NotFoundError."""
        request = wire.GetRolloutRequest(rollout=rollout)
        return rollout_from(
            self._connection.repeat(
                lambda: self._stub.GetRollout(request, timeout=self._deadline_s)
            )
        )

    def rollout_list(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Rollouts without their devices, newest first."""
        request = wire.ListRolloutsRequest(model=_model(model) if model else "")
        answer = self._connection.repeat(
            lambda: self._stub.ListRollouts(request, timeout=self._deadline_s)
        )
        return tuple(rollout_from(one) for one in answer.rollouts)

    def rollout_watch(self, rollout: str, *, timeout_s: float | None = None) -> Iterator[Rollout]:
        """The rollout at each change, until it is done or aborted; also across a restart of the
        distributor. The last value says how it ended.

        Raises: NotFoundError, UnavailableError (``timeout_s`` passed, or nobody answers).
        """
        request = wire.GetRolloutRequest(rollout=rollout)
        end_s = None if timeout_s is None else time.monotonic() + timeout_s

        def left_s() -> float | None:
            return None if end_s is None else max(0.0, end_s - time.monotonic())

        def until_finished() -> Iterator[wire.Rollout]:
            for message in self._stub.WatchRollout(request, timeout=left_s()):
                yield message
                if rollout_from(message).finished:
                    return
            raise UnavailableError(f"the distributor ended the watch of rollout {rollout}")

        try:
            for message in self._connection.follow(until_finished, give_up=lambda: left_s() == 0.0):
                yield rollout_from(message)
        except UnavailableError:
            if left_s() == 0.0:
                raise UnavailableError(
                    f"rollout {rollout} was not done within {timeout_s:g} s; it goes on"
                ) from None
            raise

    def rollout_abort(self, rollout: str) -> Rollout:
        """No device begins it any more; what is committed stays. Raises: NotFoundError."""
        request = wire.AbortRolloutRequest(rollout=rollout)
        return rollout_from(
            self._connection.repeat(
                lambda: self._stub.AbortRollout(request, timeout=self._deadline_s)
            )
        )

    def rollout_undo(self, rollout: str) -> Rollout:
        """A new rollout that sends the devices of this one back to what they had before; its
        ``removals`` are those that had nothing, from which the model is taken away."""
        request = wire.UndoRolloutRequest(rollout=rollout)
        return rollout_from(
            self._connection.once(lambda: self._stub.UndoRollout(request, timeout=self._deadline_s))
        )


def _rollout_request(
    model: str,
    version: str,
    cohort: Cohort,
    *,
    retry: bool,
    together: Iterable[tuple[str, str]],
) -> wire.RolloutRequest:
    return wire.RolloutRequest(
        model=_model(model),
        version=_version(version),
        cohort=cohort_to(cohort),
        retry=retry,
        together=[
            wire.ModelVersion(model=_model(also), version=_version(its)) for also, its in together
        ],
    )


def _model(text: str) -> str:
    return str(ModelName.parse(text))


def _version(text: str) -> str:
    return str(Version.parse(text))


def _naming_file(
    error: EdgeError, prepared: Prepared, required: Sequence[Required], at: datetime
) -> EdgeError:
    """The same, with the file of evidence that is refused by itself for the same reason."""
    for file, one in zip(prepared.evidence_files, prepared.evidence, strict=False):
        own = _refusal_of(one, prepared.manifest, required, at)
        if (type(own), str(own)) == (type(error), str(error)):
            return type(error)(f"{file}: {error.message}", **error.facts)
    return error


def _refusal_of(
    document: bytes, manifest: Manifest, required: Sequence[Required], at: datetime
) -> EdgeError | None:
    try:
        check_evidence((document,), required, manifest, at=at)
    except EdgeError as error:
        return error
    return None
