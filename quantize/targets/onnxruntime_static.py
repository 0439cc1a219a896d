"""Static INT8 quantisation by ONNX Runtime's own quantiser."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edge_sdk.base import FormatError, RefusedError
from quantize.calibrate import Samples
from quantize.graph import FloatModel
from quantize.profiles import Profile

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # is read when onnxruntime is imported

import onnxruntime as ort
from onnxruntime import quantization as ortq

_TYPES = {"uint8": ortq.QuantType.QUInt8, "int8": ortq.QuantType.QInt8}
_STATE = ort.capi.onnxruntime_pybind11_state
_ENGINE_ERRORS: tuple[type[Exception], ...] = (
    *(_STATE.Fail, _STATE.InvalidArgument, _STATE.InvalidGraph, _STATE.InvalidProtobuf),
    *(_STATE.NotImplemented, _STATE.RuntimeException),
)
_METHODS = {"minmax": ortq.CalibrationMethod.MinMax}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """What was made: the model's bytes, its operators by type, and how it agrees with the
    float model on the calibration samples, by output."""

    data: bytes
    ir_version: int
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    agreement: Mapping[str, Agreement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Over all calibration samples. ``flips``: share of samples whose largest element is
    another one; None where an output is no list of scores."""

    max_abs_difference: float
    root_mean_square_difference: float
    root_mean_square: float
    flips: float | None


def quantise_static(model: FloatModel, samples: Samples, profile: Profile) -> Quantised:
    """Quantises ``model`` with ranges from ``samples``; the float model stays as it is.

    Raises: RefusedError (the target cannot run models like this one), FormatError (the
    engine refuses the model).
    """
    if not profile.opset_min <= model.opset <= profile.opset_max:
        raise RefusedError(
            f"the model uses operator set {model.opset}; target {profile.name} takes "
            f"{profile.opset_min} to {profile.opset_max}: export it again within these"
        )
    with tempfile.TemporaryDirectory(prefix="edge-quantize-") as folder, _quiet():
        try:
            float_path, int8_path = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            onnx.save(model.proto, float_path)
            _quantise(float_path, int8_path, samples, profile)
            proto = _tidy(onnx.load(int8_path), profile)
            data = proto.SerializeToString(deterministic=True)
            agreement = _agreement(_open(float_path), _open(data), samples)
        except _ENGINE_ERRORS as error:
            reason = " ".join(str(error).split())[:300]
            raise FormatError(f"ONNX Runtime cannot run the model: {reason}") from None
    return Quantised(
        data=data,
        ir_version=proto.ir_version,
        opsets={one.domain: one.version for one in proto.opset_import},
        operators=dict(sorted(Counter(node.op_type for node in proto.graph.node).items())),
        agreement=agreement,
    )


class _Reader(ortq.CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    def __init__(self, samples: Samples) -> None:
        self._batches = samples.batches()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _quantise(source: Path, target: Path, samples: Samples, profile: Profile) -> None:
    # Folds constants and batch norms first: quantised apart they cost accuracy and time.
    prepared = source.with_name("prepared.onnx")
    ortq.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    ortq.quantize_static(
        prepared,
        target,
        _Reader(samples),
        quant_format=ortq.QuantFormat.QDQ,
        activation_type=_TYPES[profile.activations],
        weight_type=_TYPES[profile.weights],
        per_channel=profile.per_channel,
        reduce_range=profile.reduce_range,
        calibrate_method=_METHODS[profile.calibration_method],
    )


def _tidy(proto: onnx.ModelProto, profile: Profile) -> onnx.ModelProto:
    """Limits the version that a device must know, and drops operator sets that nothing uses.

    The engine's optimiser declares every domain that it was built with: a device that lacks
    one would refuse a model that never needs it.
    """
    used = {node.domain for node in proto.graph.node}
    kept = [one for one in proto.opset_import if one.domain in used or not one.domain]
    del proto.opset_import[:]
    proto.opset_import.extend(sorted(kept, key=lambda one: one.domain))
    proto.ir_version = min(proto.ir_version, profile.ir_version_max)
    proto.producer_name = "edge-quantize"
    proto.ClearField("producer_version")
    onnx.checker.check_model(proto)
    return proto


def _open(model: Path | bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _agreement(
    float_session: ort.InferenceSession, int8_session: ort.InferenceSession, samples: Samples
) -> dict[str, Agreement]:
    names = [one.name for one in float_session.get_outputs()]
    sums = {name: _Sums() for name in names}
    for batch in samples.batches():
        wanted = float_session.run(names, batch)
        got = int8_session.run(names, batch)
        for name, one, two in zip(names, wanted, got, strict=True):
            sums[name].add(np.asarray(one, np.float64), np.asarray(two, np.float64))
    return {name: total.agreement() for name, total in sums.items()}


class _Sums:
    """Adds up how two outputs differ, so that no batch has to be kept."""

    def __init__(self) -> None:
        self.elements = self.samples = self.flipped = 0
        self.largest = self.squares = self.wanted_squares = 0.0
        self.scores = True

    def add(self, wanted: np.ndarray, got: np.ndarray) -> None:
        difference = np.abs(wanted - got)
        self.elements += difference.size
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.squares += float(np.square(difference).sum())
        self.wanted_squares += float(np.square(wanted).sum())
        self.scores = self.scores and wanted.ndim == 2 and wanted.shape[1] > 1
        if self.scores:
            self.samples += len(wanted)
            self.flipped += int((wanted.argmax(1) != got.argmax(1)).sum())

    def agreement(self) -> Agreement:
        elements = max(1, self.elements)
        return Agreement(
            max_abs_difference=self.largest,
            root_mean_square_difference=float(np.sqrt(self.squares / elements)),
            root_mean_square=float(np.sqrt(self.wanted_squares / elements)),
            flips=self.flipped / self.samples if self.scores and self.samples else None,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises through the root logger; standard error is ours."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
