"""What a version is (manifest) and what a device should run (assignment), read and written.

Pure code imports the values from ``edge_sdk.manifest.model``.
"""

from edge_sdk.manifest.canonical import (
    decode_assignment,
    decode_manifest,
    encode_assignment,
    encode_manifest,
)
from edge_sdk.manifest.model import (
    GOLDEN_PATH,
    AssignedModel,
    Assignment,
    FileEntry,
    Golden,
    Manifest,
    Requirements,
    Signature,
    TensorSpec,
    Tolerance,
)

__all__ = [
    "GOLDEN_PATH",
    "AssignedModel",
    "Assignment",
    "FileEntry",
    "Golden",
    "Manifest",
    "Requirements",
    "Signature",
    "TensorSpec",
    "Tolerance",
    "decode_assignment",
    "decode_manifest",
    "encode_assignment",
    "encode_manifest",
]
