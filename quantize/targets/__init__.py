"""How a model is made for each kind of engine: one file each, chosen by the profile."""

from quantize.targets.onnxruntime_static import Quantised, quantise_static

__all__ = ["Quantised", "quantise_static"]
