"""Messages of the fleet service with every field filled, for tests of both sides."""

from __future__ import annotations

from edge_sdk.base import Digest
from edge_sdk.protos import fleet_v1_pb2 as wire

ARTIFACT = Digest.of(b"artifact")
SOURCE = Digest.of(b"source")


def a_device(name: str = "gate-7", **changes: object) -> wire.Device:
    """A device that is assigned 2.0.0 and still runs 1.0.0."""
    device = wire.Device(
        device=name,
        labels={"site": "berlin"},
        first_seen_ms=1_700_000_000_000,
        last_seen_ms=1_700_000_100_000,
        online=True,
        models=[
            wire.DeviceModel(
                model="team/digits",
                assigned_version="2.0.0",
                assigned_artifact=ARTIFACT.raw,
                running_version="1.0.0",
                running_artifact=SOURCE.raw,
                state="fetching",
            )
        ],
        architecture="x86_64",
        memory_bytes=1 << 30,
        disk_free_bytes=2 << 30,
        agent_version="0.1.0",
        engines=["onnxruntime 1.23.2"],
    )
    for key, value in changes.items():
        setattr(device, key, value)
    return device


def a_rollout_device(name: str = "gate-7", state: str = "committed", **changes: object):
    fields: dict[str, object] = {
        "device": name,
        "model": "team/digits",
        "version": "2.0.0",
        "variant": "fp32",
        "artifact": ARTIFACT.raw,
        "state": state,
        "wire_bytes": 100,
        "whole_bytes": 900,
        "changed_ms": 1_700_000_200_000,
    }
    return wire.RolloutDevice(**{**fields, **changes})


def a_rollout(state: str = "running", *devices: wire.RolloutDevice, **changes: object):
    fields: dict[str, object] = {
        "rollout": "r-7",
        "model": "team/digits",
        "version": "2.0.0",
        "cohort": wire.Cohort(selector="site=berlin"),
        "state": state,
        "created_ms": 1_700_000_000_000,
        "devices": devices,
        "deltas_done": 1,
        "deltas_total": 1,
    }
    return wire.Rollout(**{**fields, **changes})


def a_plan() -> list[wire.PlanProgress]:
    """Two deltas to build; one device gets a delta, one the whole, one nothing."""
    return [
        wire.PlanProgress(deltas_done=0, deltas_total=2),
        wire.PlanProgress(deltas_done=1, deltas_total=2),
        wire.PlanProgress(
            deltas_done=2,
            deltas_total=2,
            devices=[
                wire.PlannedDevice(
                    device="gate-7",
                    variant="fp32",
                    artifact=ARTIFACT.raw,
                    source_artifact=SOURCE.raw,
                    wire_bytes=12_700_000,
                    whole_bytes=89_200_000,
                    steps=2,
                ),
                wire.PlannedDevice(
                    device="gate-8",
                    variant="fp32",
                    artifact=ARTIFACT.raw,
                    wire_bytes=89_200_000,
                    whole_bytes=89_200_000,
                    steps=1,
                    reason="the device holds no version of this model",
                ),
                wire.PlannedDevice(device="gate-9", reason="fp32: needs engine onnxruntime"),
            ],
        ),
    ]


def a_verdict(variant: str = "fp32", **changes: object) -> wire.VariantVerdict:
    fields: dict[str, object] = {
        "artifact": ARTIFACT.raw,
        "model": "team/digits",
        "version": "2.0.0",
        "variant": variant,
        "fits": True,
        "chosen": True,
        "reasons": ["348 bytes"],
    }
    return wire.VariantVerdict(**{**fields, **changes})


def a_storage(**changes: object) -> wire.ListStorageResponse:
    """Two versions, a delta that a rollout needs, a whole that could go."""
    names = {"model": "team/digits", "variant": "fp32"}
    fields: dict[str, object] = {
        "versions": [
            wire.StoredVersion(
                artifact=SOURCE.raw,
                version="1.0.0",
                files_bytes=5_000_000,
                golden_bytes=4_000,
                key=True,
                devices=12,
                reasons=["12 devices run it", "key: older versions come to newer ones by it"],
                **names,
            ),
            wire.StoredVersion(
                artifact=ARTIFACT.raw, version="2.0.0", files_bytes=5_000_000, **names
            ),
        ],
        "deltas": [
            wire.StoredDelta(
                delta=Digest.of(b"whole").raw,
                target_artifact=SOURCE.raw,
                target_version="1.0.0",
                size_bytes=3_500_000,
                methods=["copy"],
                use="nothing",
                reasons=["its target is no longer brought to devices"],
                could_go=True,
                **names,
            ),
            wire.StoredDelta(
                delta=Digest.of(b"delta").raw,
                source_artifact=SOURCE.raw,
                source_version="1.0.0",
                source_variant="fp32",
                target_artifact=ARTIFACT.raw,
                target_version="2.0.0",
                size_bytes=455_000,
                methods=["copy", "residual"],
                decoder_memory_bytes=1 << 20,
                built_ms=1_700_000_000_000,
                use="needed",
                reasons=["rollout r3 needs it", "12 devices run the source"],
                worth_bytes=36_000_000,
                **names,
            ),
        ],
        "files_bytes": 9_000_000,
        "deltas_bytes": 3_955_000,
        "could_go_bytes": 3_500_000,
        "budget_bytes": 20_000_000,
    }
    return wire.ListStorageResponse(**{**fields, **changes})
