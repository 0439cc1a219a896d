"""Makes smaller variants of a model for a target, from calibration samples, repeatably.

The same model, samples, target and release of ONNX Runtime on the same kind of CPU give the
same bytes. Never trains, and never needs a training framework. The one call for Python is
``quantize.compile.compile_model``; it is not imported here, since it loads the engine.
"""

__all__: list[str] = []
