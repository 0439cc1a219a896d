"""Whatever no other format recognises: one range of bytes, still updatable."""

from __future__ import annotations

from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.tensor_map import TensorRange


def read(file: ModelFile) -> Contents:
    """The whole file as one tensor without a name (none where the file is empty)."""
    whole = TensorRange(
        name="",
        dtype="uint8",
        shape=(file.size_bytes,),
        file=file.path.name,
        offset=0,
        length=file.size_bytes,
    )
    return Contents(tensors=[whole])


FORMAT = Format(name="opaque", read=read)
