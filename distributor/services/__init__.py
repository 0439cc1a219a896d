"""The gRPC doors: messages become values here, identity comes from the interceptor alone.

Rules are not made here: rooms below decide, these call them and answer.
"""

from distributor.services.access import Access, Permit, permitted, visible
from distributor.services.contents import Contents
from distributor.services.delivery import Delivery
from distributor.services.driver import RolloutDriver, now_ms
from distributor.services.fleet import Fleet
from distributor.services.identity_services import IdentityServices, make_identity_services
from distributor.services.interceptor import Caller, Door, caller
from distributor.services.keeping import Keeper
from distributor.services.limits import DEVICE_LIMITS, OPERATOR_LIMITS, Limits, limits_for
from distributor.services.listener import (
    Listener,
    ServerCredentials,
    ServerTls,
    open_listener,
)
from distributor.services.metadata import DeviceMetadata, OperatorMetadata, Renewal
from distributor.services.operators import Audit, Operators
from distributor.services.shared_standing import SharedStanding
from distributor.services.standing import Standing
from distributor.services.wakeups import Wakeups
from distributor.services.ways import Ways

__all__ = [
    "DEVICE_LIMITS",
    "OPERATOR_LIMITS",
    "Access",
    "Audit",
    "Caller",
    "Contents",
    "Delivery",
    "DeviceMetadata",
    "Door",
    "Fleet",
    "IdentityServices",
    "Keeper",
    "Limits",
    "Listener",
    "OperatorMetadata",
    "Operators",
    "Permit",
    "Renewal",
    "RolloutDriver",
    "ServerCredentials",
    "ServerTls",
    "SharedStanding",
    "Standing",
    "Wakeups",
    "Ways",
    "caller",
    "limits_for",
    "make_identity_services",
    "now_ms",
    "open_listener",
    "permitted",
    "visible",
]
