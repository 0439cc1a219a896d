"""Float models as they come in: read, checked, described. Never changes what they compute."""

from quantize.graph.float_model import FloatModel, InputFact, read_float_model

__all__ = ["FloatModel", "InputFact", "read_float_model"]
