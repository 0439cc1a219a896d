"""Which format a file is: asked of its content, never of its name.

| format | a file is one if | then a damaged file is |
|---|---|---|
| tflite | bytes 4 to 7 are ``TFL3`` | FormatError |
| safetensors | a header length below 2**40, then ``{`` and a key or ``}`` | FormatError |
| torch_legacy | the first pickle is PyTorch's magic number | FormatError |
| torch_zip | a ZIP archive with a ``data.pkl`` in one folder | FormatError \
if it begins with that or the directory can be read, else opaque |
| npy | it begins with ``\\x93NUMPY`` | FormatError |
| npz | a ZIP archive of nothing but ``.npy`` | FormatError if it begins with one \
or the directory can be read, else opaque |
| gguf | it begins with ``GGUF`` and version 2 or 3 | FormatError |
| ggml | it begins with ``lmgg``, and tensors follow each other to its end | opaque |
| onnx | all of it is a ModelProto with an IR version and a graph | FormatError if it begins as \
writers of ONNX begin (``onnx.py``), else opaque |
| tflite_bundle | models of TFLite stand anywhere within | passed over |
| opaque | nothing above says so | (cannot be) |

They are asked in this order, so the answer depends on the bytes alone. A format is added by
one module beside these, and one line here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_sdk.base import FormatError, NotFoundError, UsageError, explain_os_error
from edge_sdk.formats import (
    ggml,
    gguf,
    npy,
    onnx,
    opaque,
    safetensors,
    tflite,
    tflite_bundle,
    torch_legacy,
    torch_zip,
)
from edge_sdk.formats.model_file import Contents, Format, ModelFile, open_file
from edge_sdk.formats.tensor_map import TensorMap, arrange

FORMATS: tuple[Format, ...] = (
    tflite.FORMAT,
    safetensors.FORMAT,
    torch_legacy.FORMAT,
    torch_zip.FORMAT,
    npy.ONE,
    npy.SEVERAL,
    gguf.FORMAT,
    ggml.FORMAT,
    onnx.FORMAT,
    tflite_bundle.FORMAT,
    opaque.FORMAT,
)


def open_model(path: Path) -> TensorMap:
    """Recognises a model file and finds its tensors.

    Reads what the file says about itself, not its tensors; never executes or trusts it.
    Raises: FormatError (facts ``file``, ``offset``, and ``tensor`` where one is to blame),
    NotFoundError, UsageError, UnavailableError (it became shorter meanwhile).
    """
    with open_file(path) as file:
        # There is a first one: the last takes everything.
        return next(
            _map(file, form.name, contents)
            for form in FORMATS
            if (contents := form.read(file)) is not None
        )


def _map(file: ModelFile, name: str, contents: Contents) -> TensorMap:
    sizes = {**contents.external_files, file.path.name: file.size_bytes}
    tensors = arrange(contents.tensors)
    for tensor in tensors:
        # Every reader has checked this already; nobody downstream has to.
        if tensor.offset < 0 or tensor.end > sizes[tensor.file]:
            raise file.damaged(0, f"tensor {tensor.name!r} lies outside of {tensor.file!r}")
    return TensorMap(
        format=name,
        path=file.path,
        size_bytes=file.size_bytes,
        tensors=tensors,
        external_files=tuple(sorted(contents.external_files)),
        facts=contents.facts,
    )


def open_folder(folder: Path) -> tuple[TensorMap, ...]:
    """The maps of all files below a folder, in the order of their paths.

    A file that is external data of a model has no map of its own (unless it is itself a model
    that names further files: two that name each other both stay).
    Raises: FormatError (also where something is no plain file), NotFoundError, UsageError.
    """
    maps = [open_model(path) for path in _files(folder)]
    external = {found.path.parent / Path(file) for found in maps for file in found.external_files}
    return tuple(found for found in maps if found.external_files or found.path not in external)


def _files(folder: Path) -> list[Path]:
    if not folder.exists():
        raise NotFoundError(f"no such file or folder: {folder}")
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    found = []
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            raise explain_os_error(error, current) from error
        for entry in entries:
            path = current / entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif stat.S_ISREG(mode):
                found.append(path)
            else:
                raise FormatError(
                    f"{path} is a link or a special file; an artifact has plain files only",
                    file=str(path),
                )
    return sorted(found)
