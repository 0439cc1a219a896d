"""The distributor: catalog, device registry, delta builds, rollouts, and the two gRPC listeners.

Devices believe nothing it says: whatever it sends is proved where it arrives.
"""

__all__: list[str] = []
