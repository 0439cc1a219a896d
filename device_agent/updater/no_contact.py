"""Why this device and its distributor do not speak, since when, and what to do. Decides nothing."""

from __future__ import annotations

from device_agent.records import NoContact
from edge_sdk.base import EdgeError, RefusedError, TrustError


def no_contact(
    error: EdgeError, before: NoContact | None, *, device: str, now_ms: int
) -> NoContact:
    """``before``: what was said of the last attempt; the same trouble goes on since then."""
    refused = isinstance(error, TrustError | RefusedError)
    goes_on = before is not None and before.refused == refused
    return NoContact(
        reason=error.reason,
        message=error.message,
        since_ms=before.since_ms if before is not None and goes_on else now_ms,
        remedy=_remedy(error, device),
        refused=refused,
    )


def _remedy(error: EdgeError, device: str) -> str:
    if isinstance(error, TrustError):
        return (
            "models go on serving; to let it in again, an operator runs: edge-fleet devices token "
            f"create --name {device}; then stop the agent, remove identity from its state folder, "
            "and start it with --token-file"
        )
    if isinstance(error, RefusedError):
        return "models go on serving; ask who runs the distributor"
    return "it is tried again by itself; look at the network, the address and the distributor"
