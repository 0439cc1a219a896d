"""What a distributor is started with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import UsageError

DEVICE_ADDRESS = "127.0.0.1:7443"
OPERATOR_ADDRESS = "127.0.0.1:7444"
ENROLMENT_ADDRESS = "127.0.0.1:7445"
CERTIFICATE_DAYS = 30.0
RENEWAL_GRACE_DAYS = 365.0
CONNECTION_AGE_S = 1800.0
CHECK_IN_S = 60.0
PLAN_WAIT_S = 20.0
FETCHES_MAX = 64  # a stalled reader holds about 1 MiB here (measured at 64 KiB frames)
RECONNECT_CAP_S = 5.0
AUDIT_HEAD_S = 600.0
PENDING_MAX = 1000  # how many may wait for an operator's approval
FACTORY_PENDING_MAX = 1  # under how many names one factory certificate may wait
ONLINE_ROLES = ("snapshot", "timestamp", "assignments")  # what the distributor signs itself


def default_build_workers() -> int:
    """Half of the cores: builds run beside the server, not in its place."""
    return max(1, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributorConfig:
    """Everything that ``edge-distributor serve`` can be told."""

    data: Path
    database: str = ""  # URL of the catalog in PostgreSQL; empty: a file of SQLite in ``data``
    device_address: str = DEVICE_ADDRESS
    operator_address: str = OPERATOR_ADDRESS
    enrolment_address: str = ENROLMENT_ADDRESS
    token_address: str = ""  # for pipelines with short-lived tokens; empty: there is none
    names: str = ""  # under which this machine is reached, with commas; the first is in tokens
    certificate_days: float = CERTIFICATE_DAYS  # of devices and operators
    renewal_grace_days: float = RENEWAL_GRACE_DAYS  # how long an expired one is still renewed
    connection_age_s: float = CONNECTION_AGE_S  # then a connection is made anew
    listener_certificate: str = ""  # PEM file of an outside authority, in place of our own
    listener_key: str = ""
    client_authorities: str = ""  # PEM file: an outside authority that is believed as well
    factory_authorities: str = ""  # PEM file: manufacturers whose devices may ask to enrol
    pending_max: int = PENDING_MAX
    factory_pending_max: int = FACTORY_PENDING_MAX
    build_workers: int = 1
    check_in_s: float = CHECK_IN_S  # how long a device waits between check-ins
    plan_wait_s: float = PLAN_WAIT_S  # how long a Plan call waits for a delta being built
    fetches_max: int = FETCHES_MAX
    delta_storage_bytes: int = 0  # what stored deltas may take; 0: no limit but the disk
    reconnect_cap_s: float = RECONNECT_CAP_S  # watches come back within this after a goodbye
    code_namespaces: str = ""  # may publish models that can run code, with commas; "*": all
    evidence_policy: str = ""  # TOML file: what namespaces have to bring, and whom to believe
    audit_key: str = ""  # URI of the key that signs heads (edge-key:, hsm:, ...); empty: a file
    audit_public: str = ""  # PEM file of its public half; an edge-key: has it itself
    audit_head_s: float = AUDIT_HEAD_S  # how often the audit log's head is signed

    def __post_init__(self) -> None:
        if not 1 <= self.build_workers <= 256:
            raise UsageError(f"build workers must be 1 to 256, not {self.build_workers}")
        if self.fetches_max < 1:
            raise UsageError(f"at least one fetch must be allowed, not {self.fetches_max}")
        if self.delta_storage_bytes < 0:
            raise UsageError(f"deltas cannot take {self.delta_storage_bytes} bytes; 0: no limit")
        if not 1 / 1440 <= self.certificate_days <= 3650:
            raise UsageError("certificates last from a minute (1/1440 of a day) to ten years")
        if not 0 <= self.renewal_grace_days <= 3650:
            raise UsageError("certificates are renewed for at most ten years after their end")
        if self.pending_max < 0 or self.factory_pending_max < 0:
            raise UsageError("pending_max and factory_pending_max are numbers from 0 on")
        if not 1 <= self.connection_age_s <= 86_400:
            raise UsageError("connection_age_s must be between 1 and 86400 seconds")
        if bool(self.listener_certificate) != bool(self.listener_key):
            raise UsageError("listener_certificate and listener_key belong together")
        for name in ("check_in_s", "plan_wait_s", "reconnect_cap_s", "audit_head_s"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise UsageError(f"{name} must be between 0 and 86400 seconds")
