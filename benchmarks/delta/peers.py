"""The peers' sizes: kept in a committed file by the pair's hash, or measured anew.

Everything that runs a peer is in ``peer_child.py``, in an environment of its own
(``install_peers.sh``).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks.delta.pairs import Pair, sha256
from edge_sdk.base import FormatError
from edge_sdk.formats import TensorRange, open_model

GENERIC = ("zstd", "xdelta3", "bsdiff", "hdiffpatch", "detools")
XOR = ("z4ai", "zipnn", "bitx")
ALL = (*GENERIC, *XOR, "pcodec")

KEPT = Path(__file__).with_name("peer_sizes.json")
_CHILD = Path(__file__).with_name("peer_child.py")
_LIMIT_S = 600
# The most that bsdiff and what is built like it (detools) need, in sizes of old and new.
_SUFFIX_SORTED = {"bsdiff": 17, "detools": 17, "hdiffpatch": 10}

# Why a peer may have no size and still count as one that was run.
NO_MEMORY = "beyond this machine's memory"
NOT_APPLICABLE = "not applicable"
NOT_RUN = "not run by the list"
_ACCOUNTED = (NO_MEMORY, NOT_APPLICABLE)

# How the tools are called in a list of sizes that comes with given pairs (sizes.json).
_GIVEN_NAMES = {
    "zstd19_patch_from": ("zstd", "1.5.4"),
    "xdelta3": ("xdelta3", "3.0.11"),
    "bsdiff": ("bsdiff", "4.3-23"),
    "hdiffpatch": ("hdiffpatch", "4.12.0, command line"),
    "z4ai": ("z4ai", "0.2.0"),
    "zipnn_xor": ("zipnn", "0.5.4"),
    "pcodec_diff": ("pcodec", "1.1.0"),
    "bitx_like19": ("bitx", "zstd -19"),
}

Record = dict[str, Any]


def read_kept(path: Path = KEPT) -> dict[str, Record]:
    if not path.is_file():
        return {}
    pairs: dict[str, Record] = json.loads(path.read_text())["pairs"]
    return pairs


def write_kept(kept: Mapping[str, Record], path: Path = KEPT) -> None:
    note = "bytes of each peer's delta by the pair's hash; null: not applicable, or not run (why)"
    text = json.dumps({"note": note, "pairs": kept}, indent=1, sort_keys=True)
    path.write_text(text + "\n")


def adopt(pair: Pair, given: Mapping[str, Any], kept: dict[str, Record]) -> None:
    """Takes over the sizes that came with a pair, unless they were measured here."""
    record = _record(pair, kept)
    unrun = {_GIVEN_NAMES[name][0] for name in given.get("missing", ()) if name in _GIVEN_NAMES}
    for name, (peer, version) in _GIVEN_NAMES.items():
        if name not in given or peer in record["peers"]:
            continue
        entry: Record = {"bytes": given[name], "version": version}
        if given[name] is None:
            entry["why"] = NOT_RUN if peer in unrun else NOT_APPLICABLE
        record["peers"][peer] = entry


def _record(pair: Pair, kept: dict[str, Record]) -> Record:
    empty: Record = {"peers": {}}
    record = kept.setdefault(pair.key, empty)
    record |= {"id": pair.id, "row": pair.row, "new_bytes": pair.new_bytes}
    return record


class PeerRoom:
    """The environment that the peers are installed in, and what a session learnt of it."""

    def __init__(self, folder: Path) -> None:
        self._python = folder / "bin" / "python"
        self._versions: dict[str, str | None] = {}

    def version(self, name: str) -> str | None:
        """None where the peer is not installed."""
        if name not in self._versions:
            answer = self._call("version", name) if self._python.is_file() else None
            self._versions[name] = answer if isinstance(answer, str) else None
        return self._versions[name]

    def measure(self, pair: Pair, kept: dict[str, Record], names: tuple[str, ...]) -> bool:
        """Adds the sizes of the installed ones of ``names``; tells whether any was run."""
        wanted = [name for name in names if self.version(name) is not None]
        record = _record(pair, kept)
        if wanted:
            with tempfile.TemporaryDirectory(prefix="peers-", dir=pair.new.parent) as folder:
                bundle = write_bundle(pair, Path(folder))
                for name in wanted:
                    entry = self._size(name, pair, bundle)
                    if entry["bytes"] is None and entry["why"] not in _ACCOUNTED:
                        click.echo(f"{pair.id}: {name}: {entry['why']}", err=True)
                        continue
                    record["peers"][name] = {**entry, "version": self.version(name)}
        return bool(wanted)

    def _size(self, name: str, pair: Pair, bundle: Path) -> Record:
        need = _SUFFIX_SORTED.get(name, 0) * max(pair.old.stat().st_size, pair.new_bytes)
        if need > _available_bytes():
            return {"bytes": None, "why": NO_MEMORY}
        made, applied = (self.job(job, name, bundle) for job in ("make", "apply"))
        if made["bytes"] is None:
            return {"bytes": None, "why": made["why"]}
        if "why" in applied:
            return {"bytes": None, "why": f"its delta cannot be applied: {applied['why']}"}
        return {"bytes": made["bytes"]}

    def job(self, job: str, name: str, bundle: Path) -> Record:
        """``make``, ``apply`` or ``decode`` once, in a process: bytes and seconds, or why there
        are none."""
        answer = self._call(job, name, str(bundle), str(bundle / f"{name}.delta"))
        rebuilt = bundle / "rebuilt"
        if isinstance(answer, str):
            return {"bytes": None, "why": answer}
        if job == "apply" and rebuilt.is_file():
            same = rebuilt.read_bytes() == (bundle / "new").read_bytes()
            rebuilt.unlink()
            if not same:
                return {"bytes": None, "why": "the target does not come out"}
        return dict(answer or {"bytes": None, "why": "failed"})

    def _call(self, job: str, name: str, *words: str) -> Record | str | None:
        """The child's answer; a version, or what went wrong, as text."""
        command = [str(self._python), str(_CHILD), job, name, *words]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return f"not done in {_LIMIT_S} s"
        if ended.returncode:
            said = ended.stderr.strip().splitlines()[-1:] or [f"exit {ended.returncode}"]
            return None if job == "version" else f"failed: {said[0][:200]}"
        answer: Record | str = json.loads(ended.stdout.splitlines()[-1])
        return answer


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def write_bundle(pair: Pair, folder: Path) -> Path:
    """The pair's files, their digests, and where their aligned tensors are."""
    digests = {}
    for name, path in (("old", pair.old), ("new", pair.new)):
        (folder / name).symlink_to(path.resolve())
        digests[name] = sha256(path)
    (folder / "digests.json").write_text(json.dumps(digests))
    aligned = aligned_tensors(pair)
    if aligned:
        index = [[new.dtype, old.offset, new.offset, new.length] for old, new in aligned]
        (folder / "tensors.json").write_text(json.dumps(index))
    return folder


def aligned_tensors(pair: Pair) -> list[tuple[TensorRange, TensorRange]]:
    """Tensors of one dtype and shape, by name, then by order; those of the file itself only."""
    try:
        maps = open_model(pair.old), open_model(pair.new)
    except FormatError:
        return []
    if any(one.format == "opaque" for one in maps):
        return []
    old, new = (
        [one for one in tensors.tensors if one.file == path.name and one.length]
        for tensors, path in zip(maps, (pair.old, pair.new), strict=True)
    )
    waiting: dict[Any, list[TensorRange]] = defaultdict(list)
    named = {(one.name, _form(one)): one for one in old}
    matched = {id(named[key]) for one in new if (key := (one.name, _form(one))) in named}
    for one in reversed(old):
        if id(one) not in matched:
            waiting[_form(one)].append(one)
    found = []
    for one in new:
        before = named.get((one.name, _form(one)))
        if before is None and waiting[_form(one)]:
            before = waiting[_form(one)].pop()
        if before is not None:
            found.append((before, one))
    return found


def _form(one: TensorRange) -> tuple[str, tuple[int, ...], int]:
    return one.dtype, tuple(one.shape), one.length
