"""One peer on one pair, in the peers' own environment: NumPy, the peers, nothing of ours.

``peer_child.py make|apply NAME BUNDLE DELTA`` where BUNDLE is a folder that holds ``old``,
``new``, and, where our readers know both files, ``old.tensors``, ``new.tensors`` (the aligned
tensors, one after the other), ``old.rest``, ``new.rest`` and ``tensors.json`` (their dtypes
and lengths). Prints one JSON object. ``apply`` proves that the target comes out.
"""

from __future__ import annotations

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

TOOLS = Path(sys.prefix) / "debian" / "usr" / "bin"
_WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "int8": 1, "uint8": 1}

# ZipNN 0.5.4 crashes on buffers of one byte or a few: those count as they are.
_ZIPNN_BYTES_MIN = 64


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

    def __init__(self, program: str, make: str, apply: str) -> None:
        self._program = program
        self._commands = {"make": make, "apply": apply}

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

    def run(self, job: str, bundle: Path, made: Path) -> None:
        old_bytes = (bundle / "old").stat().st_size
        words = self._commands[job].format(
            old=bundle / "old",
            new=bundle / ("new" if job == "make" else "rebuilt"),
            delta=made,
            window=max(old_bytes, 1 << 20),
        )
        first, *rest = words.split()
        call(tool(first), *rest)


class BytesPeer:
    """A library on the two files' bytes."""

    def __init__(self, name: str, distribution: str) -> None:
        self._name, self._distribution = name, distribution

    def version(self) -> str:
        return package(self._distribution)

    def run(self, job: str, bundle: Path, made: Path) -> None:
        work = getattr(self, f"_{self._name}_{job}")
        if job == "make":
            made.write_bytes(work((bundle / "old").read_bytes(), (bundle / "new").read_bytes()))
        else:
            (bundle / "rebuilt").write_bytes(work((bundle / "old").read_bytes(), made.read_bytes()))

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

    Its delta's size counts payloads only, none of the framing that a real tool would need.
    """

    def __init__(self, name: str, distribution: str) -> None:
        self._name, self._distribution = name, distribution

    def version(self) -> str:
        return package(self._distribution)

    def run(self, job: str, bundle: Path, made: Path) -> None:
        if not (bundle / "tensors.json").is_file():
            raise NotApplicableError("our readers do not know both files, or nothing aligns")
        tensors = list(_tensors(bundle))
        if job == "make":
            work = getattr(self, f"_{self._name}_make")
            payloads = [work(kind, old, new) for kind, old, new in tensors]
            old_rest, new_rest = ((bundle / f"{one}.rest").read_bytes() for one in ("old", "new"))
            rest = _zstd(19, old_rest).compress(new_rest)
            made.write_bytes(pickle.dumps((payloads, rest)))
            return
        payloads, _ = pickle.loads(made.read_bytes())
        work = getattr(self, f"_{self._name}_apply")
        for (kind, old, new), payload in zip(tensors, payloads, strict=True):
            if work(kind, old, payload) != new:
                raise RuntimeError("a tensor did not come back")

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
        # ZipNN imports these for its other inputs; bytes need none of them.
        for name in ("torch", "safetensors", "safetensors.torch"):
            sys.modules.setdefault(name, mock.MagicMock())
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


def _tensors(bundle: Path) -> Iterator[tuple[str, bytes, bytes]]:
    with (bundle / "old.tensors").open("rb") as old, (bundle / "new.tensors").open("rb") as new:
        for kind, length in json.loads((bundle / "tensors.json").read_text()):
            yield kind, old.read(length), new.read(length)


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
    payloads, rest = pickle.loads(made.read_bytes())
    return sum(map(len, payloads)) + len(rest)


PEERS: dict[str, CommandPeer | BytesPeer | TensorPeer] = {
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
    "z4ai": TensorPeer("z4ai", "z4ai"),
    "zipnn": TensorPeer("zipnn", "zipnn"),
    "pcodec": TensorPeer("pcodec", "pcodec"),
    "bitx": TensorPeer("bitx", "zstandard"),
}


def main() -> None:
    job, name = sys.argv[1:3]
    peer = PEERS[name]
    if job == "version":
        print(json.dumps(peer.version()))
        return
    bundle, made = map(Path, sys.argv[3:5])
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (available, available))
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    try:
        peer.run(job, bundle, made)
    except NotApplicableError:
        print(json.dumps({"bytes": None, "why": "not applicable"}))
        return
    except MemoryError:
        print(json.dumps({"bytes": None, "why": "beyond this machine's memory"}))
        return
    taken = {"wall_s": time.perf_counter() - wall, "cpu_s": sum(os.times()[:4]) - cpu}
    print(json.dumps({"bytes": delta_bytes(name, made), **taken}))


if __name__ == "__main__":
    main()
