"""Which devices there are: labels, what each can do, what it holds and last said it runs.

A device registers itself by checking in. Functions over a connection.
"""

from distributor.devices.model import CheckIn, DeviceRecord, ModelState, Refusal
from distributor.devices.registry import (
    find_devices,
    get_device,
    label_device,
    list_devices,
    note_refusal,
    note_update,
    record_check_in,
    running_on,
)

__all__ = [
    "CheckIn",
    "DeviceRecord",
    "ModelState",
    "Refusal",
    "find_devices",
    "get_device",
    "label_device",
    "list_devices",
    "note_refusal",
    "note_update",
    "record_check_in",
    "running_on",
]
