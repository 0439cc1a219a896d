"""Which source values predict each tensor of the target, and how.

``pairing`` finds the tensor (by name, content, order, correlation), ``layouts`` the order of
its numbers, ``fitting`` what was done to them; ``sampling`` reads the few numbers that all of
them decide by. A wrong guess costs bytes, never a wrong result.
"""

from edge_sdk.delta.alignment.align import align
from edge_sdk.delta.alignment.located import LocatedTensor, locate_tensors
from edge_sdk.delta.alignment.ranges import AlignedRange

__all__ = ["AlignedRange", "LocatedTensor", "align", "locate_tensors"]
