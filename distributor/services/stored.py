"""Proves what a manifest says of files that are here already, and so do not come with it.

That a file's digest is here says nothing of the size and the plain SHA-256 beside it, and it is
the SHA-256 of which evidence speaks. It is computed once for each stored file.
"""

from __future__ import annotations

from collections.abc import Collection

from distributor.catalog import StoredBytes, mark_damaged, note_bytes, stored_bytes
from distributor.storage import Blobs, Database
from edge_sdk.base import Digest, ProofError, UnavailableError
from edge_sdk.manifest import Manifest


async def prove_stored(
    database: Database, blobs: Blobs, manifest: Manifest, proved: Collection[Digest]
) -> None:
    """``proved``: those that came, and were proved as they did.

    Raises: ProofError (size or SHA-256 differs), UnavailableError (a stored file is damaged).
    """
    here = {one.digest: one for one in manifest.files if one.digest not in proved}
    known = await database.read(stored_bytes, here)
    for digest, entry in here.items():
        found = known.get(digest)
        if found is None or found.sha256 is None:
            found = await _read(database, blobs, digest, entry.path)
        if found != (entry.size_bytes, entry.sha256):
            raise ProofError(
                f"size or SHA-256 of {entry.path} are not those of the file with its digest, "
                "which is here already"
            )


async def _read(database: Database, blobs: Blobs, digest: Digest, path: str) -> StoredBytes:
    proof = await blobs.prove(digest)
    if proof is None:
        await database.write(mark_damaged, digest)
        raise UnavailableError(f"{path} is damaged in the distributor's store; publish again")
    await database.write(note_bytes, digest, proof.size_bytes, proof.sha256)
    return StoredBytes(proof.size_bytes, proof.sha256)
