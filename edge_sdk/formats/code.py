"""Which files of a model can run code of their author's in whoever loads them.

Pickles import and call what they name, scripts and libraries are code, and graphs may name
operators that only a library of their author's has. Nothing here is imported, called or
unpacked to disk. "No reason known" is not a promise: it is what these rules find.
Source: pickletools.py of CPython; torch/_weights_only_unpickler.py (what is safe to name)
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge_sdk.base import FormatError
from edge_sdk.formats.custom_operators import (
    ORT,
    TFLITE,
    is_kind,
    ort_operators,
    tflite_models,
    tflite_operators,
)
from edge_sdk.formats.model_file import ModelFile, open_file
from edge_sdk.formats.onnx_operators import find_onnx, operators_used

_CODE_BEGINS = {
    b"\x7fELF": "a program or library (ELF)",
    b"MZ": "a program or library (PE)",
    b"\xcf\xfa\xed\xfe": "a program or library (Mach-O)",
    b"\xce\xfa\xed\xfe": "a program or library (Mach-O)",
    b"\xca\xfe\xba\xbe": "a program or library (Mach-O or Java)",
    b"\x00asm": "a WebAssembly module",
    b"#!": "a script",
}
_CODE_NAMES = frozenset(
    {
        *(".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib", ".exe"),
        *(".sh", ".bat", ".ps1", ".js", ".jar", ".class", ".wasm", ".lua"),
    }
)
_PICKLE_NAMES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".p"})
_ZIP_BEGINS = b"PK\x03\x04"
_NPY_BEGINS = b"\x93NUMPY"
_HDF5_BEGINS = b"\x89HDF\r\n\x1a\n"
_MEMBER_BYTES_MAX = 64 << 20  # of a pickle in an archive; weights lie beside it
_PICKLES_MAX = 8  # PyTorch's legacy form is five, one after the other
_OPCODES_MAX = 2_000_000
_LINE_BYTES_MAX = 1 << 16
_STORES = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
_LOADS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_CALLS = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX"})
_CALLS_WITH_MARK = frozenset({"INST", "OBJ"})
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# What PyTorch's own weights_only loading allows: constructors of tensors, and plain containers.
_SAFE = re.compile(
    r"collections (OrderedDict|defaultdict|Counter)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|parameter_with_state"
    r"|qtensor|sparse_tensor|sparse_csr_tensor|meta_tensor_no_storage|device_tensor_from_numpy)"
    r"|torch\._tensor _rebuild_from_type_v2"
    r"|torch (\w+Storage|Size|device|Tensor|per_tensor_affine|per_channel_affine|sparse_coo|strided"
    r"|bool|u?int\d+|float\d+\w*|bfloat16|complex\d+|half|float|double|short|int|long|qu?int\d+)"
    r"|torch\.storage (Untyped|Typed)Storage"
    r"|torch\.serialization _get_layout"
    r"|torch\.nn\.parameter (Parameter|Buffer)"
    r"|_codecs encode|__builtin__ (set|bytearray|complex)|builtins (set|bytearray|complex)"
)

# Domains whose operators ship with ONNX Runtime itself.
_KNOWN_DOMAINS = frozenset(
    {
        *("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview"),
        *("ai.onnx.preview.training", "com.microsoft", "com.microsoft.nchwc"),
        *("com.microsoft.experimental", "com.ms.internal.nhwc", "org.pytorch.aten"),
    }
)
# Programs for one accelerator (plans of TensorRT, contexts of NPUs) as ONNX Runtime has them.
_COMPILED = frozenset({"EPContext"})
_UNREADABLE_GRAPH = "a graph that cannot be looked into"
_MODELS_WITHIN_MAX = 1000
_VISITS_WITHIN = 10_000  # a model has some dozens of operators
_PYTHON_IN_GRAPH = (b"PyFunc", b"EagerPyFunc", b"PyFuncStateless")


def code_in(path: Path, name: str) -> tuple[str, ...]:
    """Why loading the file at ``path``, called ``name`` in its artifact, may run code.

    Empty where no reason is known. Raises: NotFoundError, UsageError.
    """
    suffix = Path(name).suffix.lower()
    with open_file(path) as file:
        return tuple(dict.fromkeys(_reasons(file, suffix)))


def _reasons(file: ModelFile, suffix: str) -> Iterator[str]:
    begin = bytes(file.data[:16])
    yield from (what for magic, what in _CODE_BEGINS.items() if begin.startswith(magic))
    if suffix in _CODE_NAMES:
        yield f"code by its name ({suffix})"
    if begin.startswith(_ZIP_BEGINS) or zipfile.is_zipfile(file.path):
        yield from _in_archive(file.path)
    elif begin.startswith(_NPY_BEGINS):
        with file.path.open("rb") as stream:
            yield from _in_npy(stream)
    elif begin.startswith(_HDF5_BEGINS) and file.data.find(b'"Lambda"') >= 0:
        yield "a Keras model with a Lambda layer"
    elif suffix in _PICKLE_NAMES:
        yield "a pickle"
    else:
        yield from _in_pickles(file)
    if suffix in (".pb", ".pbtxt"):
        yield from _in_saved_model(file)
    yield from _in_onnx(file, suffix)
    yield from _in_tflite(file, suffix)
    yield from _in_ort(file, suffix)


def _in_pickles(file: ModelFile) -> Iterator[str]:
    """A file that is pickles one after the other: PyTorch's legacy form, or any other."""
    with file.path.open("rb") as stream:
        first: list[object] = []
        for number in range(_PICKLES_MAX):
            try:
                names, values = _pickle(stream)
            except _NoPickleError as error:
                if error.called:
                    yield "a pickle that calls something before it breaks off"
                return
            except _TooLargeError:
                yield "a pickle that is too large to look into"
                return
            if number == 0:
                first = values
            if number == 0 and not (names or len(values) > 1 or _LEGACY_MAGIC in values):
                return  # one number or text: no more than chance
            yield from _unsafe(names)
            if number == 0 and _LEGACY_MAGIC not in first:
                yield "a pickle"


def _in_archive(path: Path) -> Iterator[str]:
    """ZIP: PyTorch, TorchScript, NumPy, Keras, or anything else that holds code."""
    try:
        with zipfile.ZipFile(path) as archive:
            for one in archive.infolist():
                yield from _in_member(archive, one)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        yield "an archive that cannot be looked into"


def _in_member(archive: zipfile.ZipFile, one: zipfile.ZipInfo) -> Iterator[str]:
    suffix = Path(one.filename).suffix.lower()
    if "/code/" in f"/{one.filename}" and suffix in (".py", ".debug_pkl"):
        yield "a TorchScript program"
        return
    if suffix in _CODE_NAMES:
        yield f"code by its name ({suffix}) in an archive"
    if suffix in _PICKLE_NAMES:
        if one.file_size > _MEMBER_BYTES_MAX:
            yield "a pickle that is too large to look into"
            return
        try:
            names, _ = _pickle(io.BytesIO(archive.read(one)))
        except (_NoPickleError, _TooLargeError):
            yield "a pickle that cannot be looked into"
            return
        yield from _unsafe(names)
    elif suffix == ".npy":
        with archive.open(one) as stream:
            yield from _in_npy(stream)
    elif _is_small_config(one) and b'"Lambda"' in archive.read(one):
        yield "a Keras model with a Lambda layer"


def _is_small_config(one: zipfile.ZipInfo) -> bool:
    return one.filename.endswith("config.json") and one.file_size <= _MEMBER_BYTES_MAX


def _in_npy(stream: IO[bytes]) -> Iterator[str]:
    """An array of objects is a pickle."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        dtype = read(stream)[2]
    except (ValueError, KeyError, OSError):
        return  # NumPy does not read it either
    if dtype.hasobject:
        yield "a pickle (an array of objects)"


def _in_saved_model(file: ModelFile) -> Iterator[str]:
    if any(file.data.find(name) >= 0 for name in _PYTHON_IN_GRAPH):
        yield "a TensorFlow graph that calls Python"


def _in_onnx(file: ModelFile, suffix: str) -> Iterator[str]:
    """Operators that neither the runtime knows nor the model itself defines."""
    try:
        model = find_onnx(file)
    except FormatError:
        if suffix == ".onnx":
            yield _UNREADABLE_GRAPH
        return
    if model is None:
        return
    try:
        operators = operators_used(model)
    except FormatError:
        yield _UNREADABLE_GRAPH
        return
    yield from _foreign(operators)


def _foreign(operators: set[tuple[str, str]]) -> Iterator[str]:
    """``operators``: domain and type each."""
    for domain in sorted({domain for domain, _ in operators} - _KNOWN_DOMAINS):
        yield f"operators of a library that is not ours (domain {domain[:100]})"
    if any(one in _COMPILED for _, one in operators):
        yield "a part that is compiled for an accelerator"


def _in_ort(file: ModelFile, suffix: str) -> Iterator[str]:
    """ONNX Runtime's own format, by its content as ONNX Runtime tells it, whatever its name."""
    if not is_kind(file, ORT):
        if suffix == ".ort":
            yield _UNREADABLE_GRAPH
        return
    try:
        yield from _foreign(ort_operators(file))
    except FormatError:
        yield _UNREADABLE_GRAPH


def _in_tflite(file: ModelFile, suffix: str) -> Iterator[str]:
    """The model that a file is, and those that stand in it: bundles of tasks, packs of assets."""
    names: list[str] = []
    if is_kind(file, TFLITE):
        try:
            names += tflite_operators(file)
        except FormatError:
            yield _UNREADABLE_GRAPH
    elif suffix == ".tflite":
        yield _UNREADABLE_GRAPH
    for number, start in enumerate(tflite_models(file)):
        if number == _MODELS_WITHIN_MAX:
            yield "more models than are looked into"
            break
        with suppress(FormatError):  # what only looks like one
            names += tflite_operators(file, start, _VISITS_WITHIN)
    for name in dict.fromkeys(names):
        yield f"operators of a library that is not ours (custom operator {name!r:.100})"


class _NoPickleError(Exception):
    """These bytes are no pickle. ``called``: up to where they are, something was called, which
    whoever reads them would do before it came to the end."""

    def __init__(self, *, called: bool = False) -> None:
        super().__init__(called)
        self.called = called


class _TooLargeError(Exception):
    """More opcodes, or longer strings, than are read."""


class _Capped:
    """A stream of which no single read takes much memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        at = stream.tell()
        self._end = stream.seek(0, io.SEEK_END)
        stream.seek(at)

    def read(self, count: int) -> bytes:
        if count > self._end - self._stream.tell():
            raise _NoPickleError  # a length that no reader finds
        if count > _MEMBER_BYTES_MAX:
            raise _TooLargeError
        return self._stream.read(count)

    def readline(self) -> bytes:
        return self._stream.readline(_LINE_BYTES_MAX)

    def tell(self) -> int:
        return self._stream.tell()


def _pickle(stream: IO[bytes]) -> tuple[list[str], list[object]]:
    """What a pickle names, as ``module name``, and the plain values in it, in their order."""
    names: list[str] = []
    values: list[object] = []
    memo: dict[object, object] = {}
    # What the last opcodes put on the stack, as far as that is certain: any other opcode may
    # have taken it away again, and then a name is not known.
    certain: list[object] = []
    capped: Any = _Capped(stream)
    marked = called = False
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(capped)):
            if count >= _OPCODES_MAX:
                raise _TooLargeError
            if count == 0 and opcode.stack_before:
                raise _NoPickleError  # no reader gets past it: nothing is on its stack yet
            marked = marked or opcode.name == "MARK"
            if opcode.name in _CALLS or (marked and opcode.name in _CALLS_WITH_MARK):
                called = bool(names) or opcode.name == "INST"
            if opcode.name in _STORES:
                memo[_key(argument, memo)] = certain[-1] if certain else None
                continue
            if opcode.name in ("GLOBAL", "INST"):
                names.append(str(argument))
            elif opcode.name == "STACK_GLOBAL":
                names.append(_stacked(certain))
            elif opcode.name in ("EXT1", "EXT2", "EXT4"):
                names.append("an extension")
            if opcode.name in _LOADS:
                certain.append(memo.get(argument))
            elif isinstance(argument, str) and opcode.name.endswith(
                ("STRING", "UNICODE", "UNICODE8")
            ):
                certain.append(argument)
            else:
                certain.clear()
            if argument is not None and opcode.name not in ("PROTO", "FRAME"):
                values.append(argument)
    except _TooLargeError:
        raise
    except Exception:  # noqa: BLE001 - of whatever kind: pickletools promises none
        raise _NoPickleError(called=called) from None
    return names, values


def _key(argument: object, memo: dict[object, object]) -> object:
    """Where MEMOIZE, which has no argument, and PUT keep something."""
    return len(memo) if argument is None else argument


def _stacked(certain: list[object]) -> str:
    """The two texts on top of the stack; where they are not certain, what is never safe."""
    if len(certain) < 2 or not all(isinstance(one, str) for one in certain[-2:]):
        return "a name made while it is read"
    return f"{certain[-2]} {certain[-1]}"


def _unsafe(names: list[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if not _SAFE.fullmatch(name):
            yield f"a pickle that calls {name[:100].replace(' ', '.')}"
