"""Messages to values: every field arrives, and absence is None instead of an empty digest."""

from __future__ import annotations

import pytest

from edge_sdk.base import FormatError
from edge_sdk.fleet import Cohort, DeviceModel, ModelVersion
from edge_sdk.fleet.messages import (
    artifact_from,
    cohort_to,
    device_from,
    explanation_from,
    planned_device_from,
    rollout_from,
    storage_from,
)
from edge_sdk.protos import fleet_v1_pb2 as wire
from tests.support.fleet_messages import (
    ARTIFACT,
    SOURCE,
    a_device,
    a_plan,
    a_rollout,
    a_rollout_device,
    a_storage,
    a_verdict,
)


def assert_same_fields(message, value, *, but: tuple[str, ...] = ()) -> None:
    """Fields of a message that are plain stand in the value under the same name."""
    for field in message.DESCRIPTOR.fields:
        if field.name not in but:
            assert getattr(value, field.name) == getattr(message, field.name), field.name


def test_artifact() -> None:
    """An artifact without a parent has None there; a digest is a digest."""
    message = wire.Artifact(
        artifact=ARTIFACT.raw, model="team/digits", version="1.0.0", variant="fp32", format="onnx"
    )
    value = artifact_from(message)
    assert value.artifact == ARTIFACT
    assert value.parent is None
    assert_same_fields(message, value, but=("artifact", "parent", "manifest"))


def test_device() -> None:
    """Assigned and running arrive apart."""
    message = a_device()
    value = device_from(message)
    assert_same_fields(message, value, but=("models", "engines", "refusal"))
    assert value.refusal is None
    said = wire.Refusal(at_ms=7, reason="TrustError", check="floor", message="too old")
    message.refusal.CopyFrom(said)
    refusal = device_from(message).refusal
    assert refusal is not None
    assert_same_fields(said, refusal)
    assert value.engines == ("onnxruntime 1.23.2",)
    assert value.models == (
        DeviceModel(
            model="team/digits",
            assigned_version="2.0.0",
            assigned_artifact=ARTIFACT,
            running_version="1.0.0",
            running_artifact=SOURCE,
            state="fetching",
            reason="",
        ),
    )


def test_explanation() -> None:
    """Verdicts keep their order and reasons."""
    message = wire.ExplainDeviceResponse(
        device=a_device(), verdicts=[a_verdict(), a_verdict("int8", fits=False, chosen=False)]
    )
    value = explanation_from(message)
    assert [one.variant for one in value.verdicts] == ["fp32", "int8"]
    for one, expected in zip(value.verdicts, message.verdicts, strict=True):
        assert_same_fields(expected, one, but=("artifact", "reasons"))
        assert one.reasons == tuple(expected.reasons)


def test_planned_devices() -> None:
    """A device that gets none has no artifact; one from nothing has no source."""
    delta, whole, none = (planned_device_from(one) for one in a_plan()[-1].devices)
    assert (delta.artifact, delta.source_artifact) == (ARTIFACT, SOURCE)
    assert (whole.artifact, whole.source_artifact) == (ARTIFACT, None)
    assert (none.artifact, none.variant) == (None, "")
    assert_same_fields(a_plan()[-1].devices[0], delta, but=("artifact", "source_artifact"))


def test_rollout() -> None:
    """A rollout arrives with its cohort and devices."""
    also = [wire.ModelVersion(model="team/letters", version="3.1.0")]
    row = a_rollout_device(facts={"unproved": "true"})
    message = a_rollout("done", row, undoes="r-6", together=also)
    value = rollout_from(message)
    assert_same_fields(message, value, but=("cohort", "devices", "together"))
    assert value.together == (ModelVersion(model="team/letters", version="3.1.0"),)
    assert value.cohort == Cohort(selector="site=berlin")
    assert_same_fields(message.devices[0], value.devices[0], but=("artifact",))


def test_cohort_goes_and_comes_back() -> None:
    """A cohort survives the wire."""
    cohort = Cohort(devices=("a", "b"), selector="tier!=test")
    assert rollout_from(wire.Rollout(cohort=cohort_to(cohort))).cohort == cohort


def test_impossible_digest_is_refused() -> None:
    """A peer that sends a digest of another length is not believed."""
    with pytest.raises(FormatError):
        artifact_from(wire.Artifact(artifact=b"short"))


def test_storage() -> None:
    """Versions and deltas arrive with every field; a whole has no source."""
    message = a_storage()
    value = storage_from(message)
    assert_same_fields(message, value, but=("versions", "deltas"))
    assert_same_fields(message.versions[0], value.versions[0], but=("artifact", "reasons"))
    digests = ("delta", "source_artifact", "target_artifact")
    for sent, got in zip(message.deltas, value.deltas, strict=True):
        assert_same_fields(sent, got, but=(*digests, "methods", "reasons"))
        assert (got.methods, got.reasons) == (tuple(sent.methods), tuple(sent.reasons))
    assert [one.source_artifact for one in value.deltas] == [None, SOURCE]
    assert [one.target_artifact for one in value.deltas] == [SOURCE, ARTIFACT]
    assert value.versions[0].artifact == SOURCE
