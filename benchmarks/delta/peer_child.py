"""One peer on one pair, in the peers' own environment: NumPy, the peers, nothing of ours.

``peer_child.py make|apply|decode NAME BUNDLE DELTA`` where BUNDLE is a folder that holds
``old``, ``new``, ``digests.json`` (their SHA-256) and, where our readers know both files,
``tensors.json``: of each aligned tensor its dtype, where it begins in either, and its length.
Prints one JSON object.

``apply`` does what ours does: it reads source and delta, proves the source, makes the target,
proves it, and leaves it as the durable file ``rebuilt``. ``decode`` makes the bytes of the target
from bytes of source and delta, all in memory, and proves nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

TOOLS = Path(sys.prefix) / "debian" / "usr" / "bin"
_WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "int8": 1, "uint8": 1}

# ZipNN 0.5.4 crashes on buffers of one byte or a few: those count as they are.
_ZIPNN_BYTES_MIN = 64


# Of a tensor: dtype, where it begins in the old and in the new file, and its length.
Aligned = tuple[Any, ...]


class NotApplicableError(Exception):
    """The peer cannot do this pair, whatever the machine."""


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        raise FileNotFoundError(name)
    return found


def call(*command: str | Path) -> None:
    ended = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode(errors="replace")[-300:])


def package(name: str) -> str:
    return importlib.metadata.version(name)


class CommandPeer:
    """A command-line tool on the two files."""

    modules: tuple[str, ...] = ()

    def __init__(self, program: str, make: str, apply: str) -> None:
        self._program = program
        self._make_command, self._apply_command = make, apply

    def version(self) -> str:
        tool(self._program)
        kept = TOOLS.parents[1] / f"{self._program}.version"  # by install_peers.sh
        if kept.is_file():
            return kept.read_text().strip()
        ended = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", self._program],
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.stdout or "unknown"

    def make(self, bundle: Path, made: Path) -> None:
        self._call(self._make_command, bundle, bundle / "new", made)

    def apply_to_file(self, bundle: Path, made: Path, rebuilt: Path) -> str:
        """The SHA-256 of what it made."""
        self._call(self._apply_command, bundle, rebuilt, made)
        return file_sha256(rebuilt)

    def _call(self, command: str, bundle: Path, new: Path, made: Path) -> None:
        window = max((bundle / "old").stat().st_size, 1 << 20)
        words = command.format(old=bundle / "old", new=new, delta=made, window=window)
        first, *rest = words.split()
        call(tool(first), *rest)


class BytesPeer:
    """A library on the two files' bytes."""

    def __init__(self, name: str, distribution: str) -> None:
        self._name, self._distribution = name, distribution
        self.modules: tuple[str, ...] = (name,)

    def version(self) -> str:
        return package(self._distribution)

    def make(self, bundle: Path, made: Path) -> None:
        work = getattr(self, f"_{self._name}_make")
        made.write_bytes(work((bundle / "old").read_bytes(), (bundle / "new").read_bytes()))

    def open(self, _bundle: Path) -> None:
        """Nothing but bytes is wanted of a bundle."""

    def apply(self, old: bytes, made: bytes) -> bytes:
        result: bytes = getattr(self, f"_{self._name}_apply")(old, made)
        return result

    @staticmethod
    def _hdiffpatch_make(old: bytes, new: bytes) -> bytes:
        import hdiffpatch

        configs = [hdiffpatch.ZStdConfig(level=21, window=24), hdiffpatch.Lzma2Config(level=9)]
        made = [hdiffpatch.diff(old, new, one, validate=False) for one in configs[:1]]
        made += [hdiffpatch.recompress(made[0], configs[1])]
        return min(made, key=len)

    @staticmethod
    def _hdiffpatch_apply(old: bytes, made: bytes) -> bytes:
        import hdiffpatch

        result: bytes = hdiffpatch.apply(old, made)
        return result

    @staticmethod
    def _detools_make(old: bytes, new: bytes) -> bytes:
        import detools

        out = io.BytesIO()
        detools.create_patch(io.BytesIO(old), io.BytesIO(new), out)
        return out.getvalue()

    @staticmethod
    def _detools_apply(old: bytes, made: bytes) -> bytes:
        import detools

        out = io.BytesIO()
        detools.apply_patch(io.BytesIO(old), io.BytesIO(made), out)
        return out.getvalue()


class TensorPeer:
    """A float tool: aligned tensors by the tool, all other bytes by zstd with the old ones.

    Its delta's size counts payloads only, none of the framing that a real tool would need; where
    the tensors are it is told.
    """

    def __init__(self, name: str, distribution: str, *modules: str) -> None:
        self._name, self._distribution = name, distribution
        self.modules = modules
        self._aligned: list[Aligned] = []

    def version(self) -> str:
        return package(self._distribution)

    def open(self, bundle: Path) -> None:
        """Raises: NotApplicableError."""
        index = bundle / "tensors.json"
        if not index.is_file():
            raise NotApplicableError("our readers do not know both files, or nothing aligns")
        self._aligned = [(kind, *numbers) for kind, *numbers in json.loads(index.read_text())]

    def make(self, bundle: Path, made: Path) -> None:
        self.open(bundle)
        work = getattr(self, f"_{self._name}_make")
        old, new = ((bundle / name).read_bytes() for name in ("old", "new"))
        payloads = [
            work(kind, old[before : before + length], new[after : after + length])
            for kind, before, after, length in self._aligned
        ]
        rest = _zstd(19, self._old_rest(old)).compress(_rest(new, self._places(1)))
        made.write_bytes(pickle.dumps((payloads, rest, len(new))))

    def apply(self, old: bytes, made: bytes) -> bytearray:
        payloads, packed, new_bytes = pickle.loads(made)
        work = getattr(self, f"_{self._name}_apply")
        new = bytearray(new_bytes)
        for (kind, before, after, length), payload in zip(self._aligned, payloads, strict=True):
            new[after : after + length] = work(kind, old[before : before + length], payload)
        rest, taken = _unpacked(packed, self._old_rest(old)), 0
        for at, end in _gaps(self._places(1), new_bytes):
            new[at:end] = rest[taken : taken + end - at]
            taken += end - at
        return new

    def _old_rest(self, old: bytes) -> bytes:
        return _rest(old, self._places(0))

    def _places(self, side: int) -> list[tuple[int, int]]:
        """Where the tensors of the old file (0) or the new one (1) begin and end."""
        return sorted((one[1 + side], one[1 + side] + one[3]) for one in self._aligned)

    @staticmethod
    def _z4ai_make(kind: str, old: bytes, new: bytes) -> bytes:
        import z4ai.delta

        names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float64": "fp64"}
        made: bytes = z4ai.delta.compress(new, old, dtype=names.get(kind))
        return made

    @staticmethod
    def _z4ai_apply(_kind: str, old: bytes, payload: bytes) -> bytes:
        import z4ai.delta

        return bytes(z4ai.delta.decompress(payload, old))

    @staticmethod
    def _zipnn_coder(kind: str) -> Any:
        import zipnn

        return zipnn.ZipNN(
            input_format="byte", bytearray_dtype=kind, delta_compressed_type="byte", threads=1
        )

    @classmethod
    def _zipnn_make(cls, kind: str, old: bytes, new: bytes) -> bytes:
        if len(new) < _ZIPNN_BYTES_MIN:
            return new
        kinds = [kind] if kind in {"bfloat16", "float16", "float32"} else ["bfloat16", "float32"]
        made = []
        for one in kinds:
            coded = cls._zipnn_coder(one).compress(bytearray(new), delta_second_data=old)
            made.append((one, bytes(coded)))
        best = min(made, key=lambda pair: len(pair[1]))
        return best[0][:1].encode() + best[1]

    @classmethod
    def _zipnn_apply(cls, kind: str, old: bytes, payload: bytes) -> bytes:
        if len(old) < _ZIPNN_BYTES_MIN:
            return payload
        if kind not in {"bfloat16", "float16", "float32"}:
            kind = "bfloat16" if payload[:1] == b"b" else "float32"
        coder = cls._zipnn_coder(kind)
        return bytes(coder.decompress(bytes(payload[1:]), delta_second_data=old))

    @staticmethod
    def _pcodec_make(kind: str, old: bytes, new: bytes) -> bytes:
        from pcodec import ChunkConfig, standalone

        difference = _ordered(kind, new) - _ordered(kind, old)
        signed = difference.view(f"i{difference.itemsize}")
        if signed.itemsize == 1:
            signed = signed.astype(np.int16)
        made: bytes = standalone.simple_compress(signed, ChunkConfig(compression_level=8))
        return made

    @staticmethod
    def _pcodec_apply(kind: str, old: bytes, payload: bytes) -> bytes:
        from pcodec import standalone

        before = _ordered(kind, old)
        difference = standalone.simple_decompress(payload)
        if difference is None:
            return b""
        narrow = difference.astype(f"i{before.itemsize}").view(before.dtype)
        return _unordered(kind, before + narrow)

    @staticmethod
    def _bitx_make(kind: str, old: bytes, new: bytes) -> bytes:
        """XOR, byte planes, zstd: the 20 lines that BitX comes down to."""
        xor = np.frombuffer(old, np.uint8) ^ np.frombuffer(new, np.uint8)
        planes = xor.reshape(-1, _WIDTHS.get(kind, 1)).T
        return b"".join(
            len(packed).to_bytes(4, "little") + packed
            for packed in (_zstd(19).compress(plane.tobytes()) for plane in planes)
        )

    @staticmethod
    def _bitx_apply(kind: str, old: bytes, payload: bytes) -> bytes:
        import zstandard

        planes, at = [], 0
        for _ in range(_WIDTHS.get(kind, 1)):
            end = at + 4 + int.from_bytes(payload[at : at + 4], "little")
            plane = zstandard.ZstdDecompressor().decompress(payload[at + 4 : end])
            planes.append(np.frombuffer(plane, np.uint8))
            at = end
        xor = np.stack(planes, axis=1).reshape(-1)
        return (xor ^ np.frombuffer(old, np.uint8)).tobytes()


def _zstd(level: int, dictionary: bytes = b"") -> Any:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=27, enable_ldm=bool(dictionary)
    )
    kind = zstandard.DICT_TYPE_RAWCONTENT
    content = zstandard.ZstdCompressionDict(dictionary, dict_type=kind) if dictionary else None
    return zstandard.ZstdCompressor(dict_data=content, compression_params=parameters)


def _unpacked(packed: bytes, dictionary: bytes) -> bytes:
    import zstandard

    kind = zstandard.DICT_TYPE_RAWCONTENT
    content = zstandard.ZstdCompressionDict(dictionary, dict_type=kind) if dictionary else None
    unpacked: bytes = zstandard.ZstdDecompressor(dict_data=content).decompress(packed)
    return unpacked


def _gaps(places: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """What lies between sorted ranges of ``length`` bytes, before the first and behind the last."""
    at = 0
    for begin, end in chain(places, [(length, length)]):
        if at < begin:
            yield at, begin
        at = max(at, end)


def _rest(data: bytes, places: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(data[at:end] for at, end in _gaps(places, len(data)))


def _ordered(kind: str, data: bytes) -> Any:
    """Bits of floats to integers in their order; of integers, themselves."""
    bits = np.frombuffer(data, f"<u{_WIDTHS.get(kind, 1)}")
    if "float" not in kind:
        return bits
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _unordered(kind: str, ordered: Any) -> bytes:
    if "float" in kind:
        sign = ordered.dtype.type(1 << (8 * ordered.itemsize - 1))
        ordered = np.where(ordered & sign, ordered ^ sign, ~ordered)
    return bytes(ordered.tobytes())


def delta_bytes(name: str, made: Path) -> int:
    if not isinstance(PEERS[name], TensorPeer):
        return made.stat().st_size
    payloads, rest, _ = pickle.loads(made.read_bytes())
    return sum(map(len, payloads)) + len(rest)


Peer = CommandPeer | BytesPeer | TensorPeer

PEERS: dict[str, Peer] = {
    "zstd": CommandPeer(
        "zstd",
        "zstd -q -f -19 --long=31 --patch-from={old} {new} -o {delta}",
        "zstd -q -f -d --long=31 --patch-from={old} {delta} -o {new}",
    ),
    "xdelta3": CommandPeer(
        "xdelta3",
        "xdelta3 -e -f -9 -S lzma -B {window} -s {old} {new} {delta}",
        "xdelta3 -d -f -B {window} -s {old} {delta} {new}",
    ),
    "bsdiff": CommandPeer("bsdiff", "bsdiff {old} {new} {delta}", "bspatch {old} {new} {delta}"),
    "hdiffpatch": BytesPeer("hdiffpatch", "hdiffpatch"),
    "detools": BytesPeer("detools", "detools"),
    "z4ai": TensorPeer("z4ai", "z4ai", "z4ai.delta", "zstandard"),
    "zipnn": TensorPeer("zipnn", "zipnn", "zipnn", "zstandard"),
    "pcodec": TensorPeer("pcodec", "pcodec", "pcodec.standalone", "zstandard"),
    "bitx": TensorPeer("bitx", "zstandard", "zstandard"),
}


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def prove(found: str, expected: str) -> None:
    if found != expected:
        raise RuntimeError("a file is not what it should be")


def load(peer: Peer) -> None:
    """Imports what the peer is, which no clock counts: ours is imported before it, too."""
    # ZipNN imports these for its other inputs; bytes need none of them.
    for name in ("torch", "safetensors", "safetensors.torch"):
        sys.modules.setdefault(name, mock.MagicMock())
    for name in peer.modules:
        importlib.import_module(name)


def apply(peer: Peer, bundle: Path, made: Path) -> tuple[float, float]:
    """Files to a durable file, both proved: what it took. Ends with ``rebuilt`` in the bundle."""
    digests = json.loads((bundle / "digests.json").read_text())
    part, rebuilt = bundle / "rebuilt.part", bundle / "rebuilt"
    with Clock() as clock:
        if isinstance(peer, CommandPeer):
            prove(file_sha256(bundle / "old"), digests["old"])
            prove(peer.apply_to_file(bundle, made, part), digests["new"])
        else:
            old = (bundle / "old").read_bytes()
            prove(hashlib.sha256(old).hexdigest(), digests["old"])
            peer.open(bundle)
            new = peer.apply(old, made.read_bytes())
            prove(hashlib.sha256(new).hexdigest(), digests["new"])
            part.write_bytes(new)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(rebuilt)
        folder = os.open(bundle, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return clock.taken


def decode(peer: Peer, bundle: Path, made: Path) -> tuple[float, float]:
    """Bytes to bytes: what it took. Raises: NotApplicableError (it knows only files)."""
    if isinstance(peer, CommandPeer):
        raise NotApplicableError("it works on files")
    old, delta = (bundle / "old").read_bytes(), made.read_bytes()
    peer.open(bundle)
    with Clock() as clock:
        new = peer.apply(old, delta)
    if new != (bundle / "new").read_bytes():
        raise RuntimeError("the target does not come out")
    return clock.taken


class Clock:
    """Seconds of the clock, and those of processors, children included."""

    def __enter__(self) -> Clock:
        self._begun = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu = self._now()
        self.taken = wall - self._begun[0], cpu - self._begun[1]

    @staticmethod
    def _now() -> tuple[float, float]:
        used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    job, name = sys.argv[1:3]
    peer = PEERS[name]
    if job == "version":
        print(json.dumps(peer.version()))
        return
    bundle, made = map(Path, sys.argv[3:5])
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (available, available))
    load(peer)
    try:
        if job == "make":
            with Clock() as clock:
                peer.make(bundle, made)
            wall_s, cpu_s = clock.taken
        else:
            wall_s, cpu_s = (apply if job == "apply" else decode)(peer, bundle, made)
    except NotApplicableError:
        print(json.dumps({"bytes": None, "why": "not applicable"}))
        return
    except MemoryError:
        print(json.dumps({"bytes": None, "why": "beyond this machine's memory"}))
        return
    print(json.dumps({"bytes": delta_bytes(name, made), "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
