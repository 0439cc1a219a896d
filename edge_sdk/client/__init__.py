"""For embedded apps: run models that the agent serves, read their files, hear of switches.

Needs gRPC and NumPy only, no engine; it never loads a model itself.
"""

from edge_sdk.client.errors import VersionNotActiveError

__all__ = ["VersionNotActiveError"]
