"""What every part stands on: errors, digests, names, whole output files.

Never imports anything else of this project, and nothing of gRPC: statuses are names here.
"""

from edge_sdk.base.digest import (
    CHUNK_BYTES,
    Digest,
    FileProof,
    chunk_count,
    chunk_length,
    file_digest,
    prove_stream,
    read_chunks,
)
from edge_sdk.base.errors import (
    BusyError,
    ConflictError,
    DeltaError,
    EdgeError,
    ForbiddenError,
    FormatError,
    NotFoundError,
    ProofError,
    RefusedError,
    ResourceError,
    TrustError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
    WrongSourceError,
    error_classes,
)
from edge_sdk.base.files import (
    explain_os_error,
    refuse_overlap,
    refuse_unwritable,
    sync_folder,
    whole_file,
    whole_folder,
)
from edge_sdk.base.names import ModelName, Version, check_path, check_paths, check_segment
from edge_sdk.base.private import make_private_folder, refuse_open_file, refuse_open_folder

__all__ = [
    "CHUNK_BYTES",
    "BusyError",
    "ConflictError",
    "DeltaError",
    "Digest",
    "EdgeError",
    "FileProof",
    "ForbiddenError",
    "FormatError",
    "ModelName",
    "NotFoundError",
    "ProofError",
    "RefusedError",
    "ResourceError",
    "TrustError",
    "UnauthenticatedError",
    "UnavailableError",
    "UsageError",
    "Version",
    "WrongSourceError",
    "check_path",
    "check_paths",
    "check_segment",
    "chunk_count",
    "chunk_length",
    "error_classes",
    "explain_os_error",
    "file_digest",
    "make_private_folder",
    "prove_stream",
    "read_chunks",
    "refuse_open_file",
    "refuse_open_folder",
    "refuse_overlap",
    "refuse_unwritable",
    "sync_folder",
    "whole_file",
    "whole_folder",
]
