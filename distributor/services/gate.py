"""The gates that every published artifact passes. The rest of what is checked is in ``publish``.

What can run code needs leave of two: who publishes says so (``--allow-code``), and who runs the
distributor lets the namespace (``code_namespaces``). And the distributor's policy can require
evidence (``evidence_policy``): statements that others signed about the very files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from distributor.operators import EVERYWHERE
from edge_sdk.base import Digest, FormatError, ProofError, RefusedError
from edge_sdk.evidence import (
    Evidence,
    EvidencePolicy,
    Required,
    check_evidence,
    load_policy,
    made_sample,
)
from edge_sdk.formats import code_in, external_locations, safetensors_names
from edge_sdk.manifest import GOLDEN_PATH, FileEntry, Manifest

_SHOWN_MAX = 5


class CodeGate:
    """``namespaces``: those that may publish models that can run code; ``*`` is every one."""

    def __init__(self, namespaces: str = "") -> None:
        self._namespaces = {one.strip() for one in namespaces.split(",")} - {""}

    async def check(
        self, manifest: Manifest, path_of: Callable[[Digest], Path], *, asked: bool
    ) -> tuple[str, ...]:
        """Why the artifact can run code, where it may; empty where no reason is known.

        ``path_of``: where a file's bytes lie now; ``asked``: the publisher wants it.
        Raises: RefusedError.
        """
        reasons = await asyncio.to_thread(_look, manifest.files, path_of)
        if not reasons:
            return ()
        shown = "; ".join(reasons[:_SHOWN_MAX])
        namespace = manifest.model.namespace
        if not self._namespaces & {namespace, EVERYWHERE}:
            raise RefusedError(
                f"the model can run code on devices: {shown}. This distributor does not let "
                f"namespace {namespace} publish such models",
                namespace=namespace,
            )
        if not asked:
            raise RefusedError(
                f"the model can run code on devices: {shown}. If that is wanted, publish it with "
                "--allow-code",
                namespace=namespace,
            )
        return reasons


class EvidenceGate:
    """``policy``: a file, read once; without one nothing is required."""

    def __init__(self, policy: str = "") -> None:
        self._policy = load_policy(Path(policy)) if policy else EvidencePolicy()

    def required(self, namespace: str) -> tuple[Required, ...]:
        return self._policy.of(namespace)

    async def check(
        self, manifest: Manifest, documents: Sequence[bytes], *, at_ms: int
    ) -> tuple[Evidence, ...]:
        """What the artifact comes with. Raises: RefusedError, TrustError, ProofError,
        FormatError."""
        required = self._policy.of(manifest.model.namespace)
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return await asyncio.to_thread(check_evidence, documents, required, manifest, at=at)

    async def check_sample(self, manifest: Manifest, path_of: Callable[[Digest], Path]) -> None:
        """Proves that the file of which no evidence speaks is a golden sample, and that the model
        does not take its weights from it. ``path_of``: as in ``CodeGate``.

        Raises: ProofError, FormatError.
        """
        sample = made_sample(manifest)
        if sample is not None and self._policy.of(manifest.model.namespace):
            await asyncio.to_thread(_prove_sample, manifest, sample, path_of)


def _prove_sample(manifest: Manifest, sample: FileEntry, path_of: Callable[[Digest], Path]) -> None:
    names = _read(safetensors_names, sample, path_of)
    foreign = [one for one in names if not one.startswith(("input.", "output."))]
    if foreign:
        raise ProofError(
            f"{sample.path} is no golden sample, of which evidence need not speak: it holds "
            f"{foreign[0][:200]!r}"
        )
    for entry in manifest.files:
        for location in _read(external_locations, entry, path_of):
            if location.replace("\\", "/").rpartition("/")[2].casefold() == GOLDEN_PATH:
                raise ProofError(
                    f"{entry.path} takes weights from {GOLDEN_PATH}, of which no evidence speaks"
                )


def _read(
    what: Callable[[Path], Iterable[str]], entry: FileEntry, path_of: Callable[[Digest], Path]
) -> Iterable[str]:
    try:
        return what(path_of(entry.digest))
    except FormatError as error:  # which names where it lies here
        raise FormatError(f"{entry.path}: {error.message.partition(': ')[2]}") from None


def _look(files: tuple[FileEntry, ...], path_of: Callable[[Digest], Path]) -> tuple[str, ...]:
    return tuple(
        f"{entry.path} is or holds {reason}"
        for entry in files
        for reason in code_in(path_of(entry.digest), entry.path)
    )
