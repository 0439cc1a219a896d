"""Publishes models and rolls them out: the operators' and pipelines' side of a fleet.

Never talks to a device, never trusts the distributor to prove anything for a device, and
never sends a file that the distributor already holds.
"""

from edge_sdk.fleet.api import DEFAULT_ADDRESS, Fleet
from edge_sdk.fleet.bearer import Bearer
from edge_sdk.fleet.connection import Patience
from edge_sdk.fleet.first_keys import begin
from edge_sdk.fleet.home import FleetHome
from edge_sdk.fleet.identities import Enrolled, Identities, Token
from edge_sdk.fleet.key_folder import KeyFolder
from edge_sdk.fleet.marks import TrustMarks
from edge_sdk.fleet.metadata import MetadataClient, OnlineKey
from edge_sdk.fleet.model import (
    Artifact,
    Cohort,
    Device,
    DeviceModel,
    Explanation,
    HeldEvidence,
    ModelVersion,
    PlannedDevice,
    Published,
    Refusal,
    Rollout,
    RolloutDevice,
    RolloutPlan,
    Storage,
    StoredDelta,
    StoredVersion,
    VariantVerdict,
)
from edge_sdk.fleet.own_identity import OwnIdentity, default_folder
from edge_sdk.fleet.publish import Draft, Prepared, prepare

__all__ = [
    "DEFAULT_ADDRESS",
    "Artifact",
    "Bearer",
    "Cohort",
    "Device",
    "DeviceModel",
    "Draft",
    "Enrolled",
    "Explanation",
    "Fleet",
    "FleetHome",
    "HeldEvidence",
    "Identities",
    "KeyFolder",
    "MetadataClient",
    "ModelVersion",
    "OnlineKey",
    "OwnIdentity",
    "Patience",
    "PlannedDevice",
    "Prepared",
    "Published",
    "Refusal",
    "Rollout",
    "RolloutDevice",
    "RolloutPlan",
    "Storage",
    "StoredDelta",
    "StoredVersion",
    "Token",
    "TrustMarks",
    "VariantVerdict",
    "begin",
    "default_folder",
    "prepare",
]
