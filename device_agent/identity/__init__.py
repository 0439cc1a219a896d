"""Who this device is: its key, made here and never sent, and the certificate that it got.

Everything is kept through the store's file layer. The room talks to nobody but through
``edge_sdk.identity``, and never puts a secret into a log, an argument or an error.
"""

from device_agent.identity.enrolling import enrol_device, newer_root, read_token
from device_agent.identity.kept import KeptIdentity, Shown
from device_agent.identity.marks import Marks

__all__ = ["KeptIdentity", "Marks", "Shown", "enrol_device", "newer_root", "read_token"]
