"""TensorRT 10.3, 10.16 and 11: plans built on the device from the ONNX artifact, and kept.

Written against the names and signatures of the bindings' wheels and tested with a stand-in of
the library that computes on the host. **Nothing of it has run on a GPU yet.** Plug-ins are
never loaded, and a plan only where its hash is the one that this device wrote down.
"""

from edge_sdk.engines.tensorrt.engine import TensorRt
from edge_sdk.engines.tensorrt.plans import Plans

__all__ = ["Plans", "TensorRt"]
