"""What the device keeps: plain files behind one injectable file layer, durable by one sequence.

The updater alone writes here; the inference process reads slots, manifests and trees. The
room never decides what should be kept: reachability does (collect.py).
"""

from device_agent.store.slots import Slot
from device_agent.store.store import Store

__all__ = ["Slot", "Store"]
