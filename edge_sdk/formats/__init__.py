"""Where the tensors of a model file lie: recognised by content, read without being trusted.

Nothing here loads a tensor, executes anything from a model, or follows a path out of the
model's folder. What is not recognised is ``opaque``: one range, still updatable. How each
format is told from the others, and what is an error instead: ``detect.py``.
"""

from edge_sdk.formats.code import code_in
from edge_sdk.formats.detect import FORMATS, open_folder, open_model
from edge_sdk.formats.npz import is_npz, read_npz
from edge_sdk.formats.onnx import external_locations
from edge_sdk.formats.onnx_skeleton import onnx_skeleton
from edge_sdk.formats.safetensors import (
    read_safetensors,
    safetensors_names,
    write_safetensors,
)
from edge_sdk.formats.tensor_map import (
    DTYPE_BITS,
    ModelFacts,
    TensorFact,
    TensorMap,
    TensorRange,
    packed_bytes,
)

__all__ = [
    "DTYPE_BITS",
    "FORMATS",
    "ModelFacts",
    "TensorFact",
    "TensorMap",
    "TensorRange",
    "code_in",
    "external_locations",
    "is_npz",
    "onnx_skeleton",
    "open_folder",
    "open_model",
    "packed_bytes",
    "read_npz",
    "read_safetensors",
    "safetensors_names",
    "write_safetensors",
]
