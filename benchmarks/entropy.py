"""What an update is worth: the order-0 entropy of its tokens given the source's exponent.

The token of a numeric difference is that of the delta container's residual (see "Numeric
difference" in edge_sdk/delta/FORMAT.md): bits of a float are mapped to integers in the
order of the floats, the difference is taken modulo the width; a magnitude below 16 is a
token of its own, a larger one gives the position of its top bit, the two bits below it and
the sign, and what lies under those bits counts as it is. An order-0 coder with one table
for each source exponent cannot do better; one that looks further can. Integers have one
class. Bytes outside of tensors are not counted, so the bound is on the low side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_sdk.formats import TensorRange, open_model

EXACT_BELOW = 16
_BITS_KEPT = 2
_TOKENS_PER_TOP_BIT = 1 << (_BITS_KEPT + 1)
_TOKENS = 2 * EXACT_BELOW + 33 * _TOKENS_PER_TOP_BIT
_PIECE = 1 << 21

# dtype: bytes, exponent bits, mantissa bits; integers have no exponent.
_DTYPES = {
    "float32": (4, 8, 23),
    "float16": (2, 5, 10),
    "bfloat16": (2, 8, 7),
    "int8": (1, 0, 0),
    "uint8": (1, 0, 0),
    "int16": (2, 0, 0),
    "uint16": (2, 0, 0),
    "int32": (4, 0, 0),
    "uint32": (4, 0, 0),
}


def model_bound_bytes(source: Path, target: Path) -> int:
    """The bound for all tensors of two model files, aligned by name.

    A tensor without a counterpart of the same type and size counts at the entropy of its bytes.
    """
    old = {tensor.name: tensor for tensor in open_model(source).tensors}
    bits = 0.0
    for tensor in open_model(target).tensors:
        data = _bytes(target, tensor)
        match = old.get(tensor.name)
        if match and (match.dtype, match.length) == (tensor.dtype, tensor.length):
            bits += bound_bits(_bytes(source, match), data, tensor.dtype)
        else:
            bits += entropy_bits(np.bincount(data, minlength=256))
    return int(np.ceil(bits / 8))


def _bytes(model: Path, tensor: TensorRange) -> npt.NDArray[np.uint8]:
    # Every file of a model lies in its folder (edge_sdk.formats refuses others).
    return np.memmap(
        model.parent / tensor.file, np.uint8, "r", offset=tensor.offset, shape=(tensor.length,)
    )


def bound_bits(source: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8], dtype: str) -> float:
    """The bound in bits for two byte arrays of one length that hold values of ``dtype``."""
    if dtype not in _DTYPES:
        return entropy_bits(np.bincount(target ^ source, minlength=256))
    width_bytes, exponent_bits, mantissa_bits = _DTYPES[dtype]
    old, new = (part.view(f"<u{width_bytes}") for part in (source, target))
    counts = np.zeros((1 << exponent_bits, _TOKENS), np.int64)
    raw_bits = 0
    for start in range(0, len(old), _PIECE):
        piece = old[start : start + _PIECE], new[start : start + _PIECE]
        difference = _difference(*piece, is_float=exponent_bits > 0)
        tokens, raw = tokenise(difference)
        classes = (piece[0] >> mantissa_bits) & ((1 << exponent_bits) - 1)
        flat = classes.astype(np.int64) * _TOKENS + tokens
        counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        raw_bits += raw
    return raw_bits + sum(entropy_bits(row) for row in counts)


def _difference(
    old: npt.NDArray[np.unsignedinteger], new: npt.NDArray[np.unsignedinteger], *, is_float: bool
) -> npt.NDArray[np.int64]:
    """Signed difference modulo the width."""
    signed = f"<i{old.itemsize}"
    if is_float:
        old, new = _ordered(old), _ordered(new)
    return (new - old).view(signed).astype(np.int64)


def _ordered(bits: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Bit patterns of floats to unsigned integers in the order of the floats, bijective."""
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def tokenise(difference: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], int]:
    """The token of each difference, and how many bits lie under the tokens in all."""
    magnitude = np.abs(difference)
    top_bit = np.frexp(magnitude.astype(np.float64))[1] - 1  # exact below 2**53
    large = magnitude >= EXACT_BELOW
    raw = np.where(large, top_bit - _BITS_KEPT, 0).astype(np.int64)
    kept = (magnitude >> raw) & ((1 << _BITS_KEPT) - 1)
    negative = difference < 0
    exact_token = 2 * magnitude + negative
    large_token = 2 * EXACT_BELOW + top_bit * _TOKENS_PER_TOP_BIT + 2 * kept + negative
    return np.where(large, large_token, exact_token).astype(np.int64), int(raw.sum())


def entropy_bits(counts: npt.NDArray[np.integer]) -> float:
    """Bits that an ideal order-0 coder needs for symbols that occur ``counts`` times."""
    seen = counts[counts > 0].astype(np.float64)
    if len(seen) == 0:
        return 0.0
    return float((seen * (np.log2(seen.sum()) - np.log2(seen))).sum())
