"""Calibration samples: read, checked against the model's inputs, cut into fixed batches."""

from quantize.calibrate.samples import Samples, read_samples

__all__ = ["Samples", "read_samples"]
