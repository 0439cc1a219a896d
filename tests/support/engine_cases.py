"""The engines that the contract suite runs over, each with the models that it can be given.

An engine of another package is tested by a line more in ``CASES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_sdk.engines import Engine, Loading, Session, open_engine
from edge_sdk.engines.tensorrt import TensorRt
from tests.support import onnx_models
from tests.support.fake_gpu import FakeGpu
from tests.support.fake_tensorrt import fake_tensorrt
from tests.support.tflite_models import Shape, Weights, add_model

Writer = Callable[[Path], Path]
OFFSETS = np.arange(4, dtype=np.float32).reshape(1, 4)

_NUMBERS = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "bool": TensorProto.BOOL,
    **{f"int{bits}": getattr(TensorProto, f"INT{bits}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": getattr(TensorProto, f"UINT{bits}") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """``add``: float32 ``y = x + OFFSETS``, x of any number of rows. ``fixed``: the same for one
    row, said by the model. ``passes``: by type, a model that gives a vector x of any length
    back as y. ``where``: of x, three rows of two float32, ``where`` the places of what is not 0
    (2, any) and ``twice`` = 2 x. ``texts``: as ``passes``, of strings. ``heavy``: as ``add``,
    with 8 MiB of weights. What an engine cannot be given is None or missing."""

    engine: Callable[[], Engine]
    add: Writer
    fixed: Writer
    heavy: Writer
    passes: Mapping[str, Writer] = field(default_factory=dict)
    where: Writer | None = None
    texts: Writer | None = None
    loading: Loading = "auto"
    needs: str | None = None  # the engine that must be installed here

    def load(self, writer: Writer, folder: Path) -> Session:
        folder.mkdir(parents=True, exist_ok=True)
        return self.engine().load(writer(folder), loading=self.loading)


def _onnx(model: Callable[[], onnx.ModelProto]) -> Writer:
    return lambda folder: onnx_models.save(model(), folder / "model.onnx")


def _onnx_add(rows: int | str, extra_bytes: int = 0) -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    weights = [numpy_helper.from_array(OFFSETS, "w")]
    if extra_bytes:
        # Its product with zeros: weights that are used and change nothing.
        features = extra_bytes // 16
        nodes = [
            helper.make_node("MatMul", ["x", "big"], ["wide"]),
            helper.make_node("ReduceMin", ["wide"], ["least"], keepdims=0),
            helper.make_node("Mul", ["least", "zero"], ["none"]),
            helper.make_node("Add", ["x", "w"], ["sum"]),
            helper.make_node("Add", ["sum", "none"], ["y"]),
        ]
        weights += [
            numpy_helper.from_array(np.ones((4, features), np.float32), "big"),
            numpy_helper.from_array(np.zeros((), np.float32), "zero"),
        ]
    shape = [rows, 4]
    return onnx_models.finish(
        nodes,
        [onnx_models.value("x", TensorProto.FLOAT, shape)],
        [onnx_models.value("y", TensorProto.FLOAT, shape)],
        weights,
    )


def _tflite(signature: tuple[int, ...] | None, extra_bytes: int = 0) -> Writer:
    weights = [Weights("w", OFFSETS)]
    if extra_bytes:
        weights.append(Weights("big", np.ones((extra_bytes // 16, 4), np.float32)))

    def write(folder: Path) -> Path:
        path = folder / "model.tflite"
        path.write_bytes(add_model(weights, shape=Shape(inputs=(1, 4), signature=signature)))
        return path

    return write


def _onnx_case(
    engine: Callable[[], Engine],
    *,
    dtypes: list[str],
    loading: Loading = "auto",
    needs: str | None = "onnxruntime",
    texts: bool = True,
) -> Case:
    return Case(
        engine=engine,
        needs=needs,
        loading=loading,
        add=_onnx(lambda: _onnx_add("rows")),
        fixed=_onnx(lambda: _onnx_add(1)),
        heavy=_onnx(lambda: _onnx_add("rows", 8 << 20)),
        passes={
            dtype: _onnx(lambda number=_NUMBERS[dtype]: onnx_models.identity(number))  # type: ignore[misc]
            for dtype in dtypes
        },
        where=_onnx(onnx_models.nonzero),
        texts=_onnx(lambda: onnx_models.identity(TensorProto.STRING)) if texts else None,
    )


def _stand_in() -> Engine:
    gpu = FakeGpu()
    return TensorRt(library=fake_tensorrt(gpu), device=gpu)


CASES: dict[str, Case] = {
    "onnxruntime": _onnx_case(lambda: open_engine("onnxruntime"), dtypes=list(_NUMBERS)),
    "onnxruntime-mapped": _onnx_case(
        lambda: open_engine("onnxruntime"), loading="mapped", dtypes=["float32", "bfloat16"]
    ),
    # No GPU is used: what stands around the library is, as on a device.
    "tensorrt-stand-in": _onnx_case(
        _stand_in, dtypes=["float32", "int32"], needs=None, texts=False
    ),
    "litert": Case(
        engine=lambda: open_engine("litert"),
        needs="litert",
        add=_tflite((-1, 4)),
        fixed=_tflite(None),
        heavy=_tflite((-1, 4), 8 << 20),
    ),
}
