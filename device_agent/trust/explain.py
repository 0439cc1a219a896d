"""python-tuf's errors and the disk's, as ours."""

from __future__ import annotations

import errno

from tuf.api.exceptions import (
    DownloadError,
    DownloadLengthMismatchError,
    RepositoryError,
    SlowRetrievalError,
)

from edge_sdk.base import EdgeError, ResourceError, TrustError, UnavailableError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def explain(error: RepositoryError | DownloadError) -> EdgeError:
    """The fact ``check`` names which of the client's checks said no; without it none did, and
    whoever serves the metadata is away."""
    check = type(error).__name__
    slow = isinstance(error, SlowRetrievalError)
    if isinstance(error.__cause__, UnavailableError) and not slow:
        return UnavailableError(f"the metadata cannot be fetched: {error}")
    if isinstance(error, DownloadError) and not isinstance(error, DownloadLengthMismatchError):
        return UnavailableError(f"the metadata cannot be fetched ({check}): {error}", check=check)
    return TrustError(f"the metadata served is refused ({check}): {error}", check=check)


def disk_or_trust(error: OSError) -> EdgeError:
    """Nothing new is installed until the trust store can be written again."""
    if error.errno in NO_ROOM:
        return ResourceError(f"no space left for the trust store: {error}", short="disk")
    return ResourceError(f"the trust store cannot be used: {error}")
