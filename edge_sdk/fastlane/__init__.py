"""The fast lane's wire: packets, sealed memory, where the socket is. PROTOCOL.md is normative.

Both ends use it: ``edge_sdk.client`` and the agent's door. It decides nothing about models.
"""

from edge_sdk.fastlane.channel import Channel, channel_over
from edge_sdk.fastlane.packets import (
    DTYPE_CODES,
    PACKET_BYTES_MAX,
    VERSION,
    Answer,
    Elsewhere,
    Failure,
    Hello,
    Infer,
    Packet,
    Place,
    Resize,
    SlotGiven,
    Take,
    decode,
    encode,
)
from edge_sdk.fastlane.placing import ALIGNMENT_BYTES, aligned
from edge_sdk.fastlane.sealed import map_sealed
from edge_sdk.fastlane.where import lane_path

__all__ = [
    "ALIGNMENT_BYTES",
    "DTYPE_CODES",
    "PACKET_BYTES_MAX",
    "VERSION",
    "Answer",
    "Channel",
    "Elsewhere",
    "Failure",
    "Hello",
    "Infer",
    "Packet",
    "Place",
    "Resize",
    "SlotGiven",
    "Take",
    "aligned",
    "channel_over",
    "decode",
    "encode",
    "lane_path",
    "map_sealed",
]
