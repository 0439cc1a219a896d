"""The C extension of csrc/. Negative results are errors (csrc/kernel.h)."""

from typing import Any

Buffer = Any  # contiguous; lengths are checked

def scales(kind: int, source: Buffer, target: Buffer, counts: Buffer, sums: Buffer, /) -> int: ...
def levels(
    kind: int, source: Buffer, target: Buffer, inverse_means: Buffer, levels: Buffer, /
) -> int: ...
def bins(kind: int, model: int, levels: int, table_of: Buffer, raw_bits: Buffer, /) -> int: ...
def histogram(
    kind: int,
    model: int,
    levels: int,
    table_of: Buffer,
    raw_bits: Buffer,
    source: Buffer,
    target: Buffer,
    level_list: Buffer,
    bins: Buffer,
    /,
) -> int: ...
def encoder_bytes(
    kind: int, model: int, levels: int, table_of: Buffer, raw_bits: Buffer, /
) -> int: ...
def decoder_bytes(
    kind: int, model: int, levels: int, table_of: Buffer, raw_bits: Buffer, /
) -> int: ...
def make_encoder(
    kind: int,
    model: int,
    levels: int,
    table_of: Buffer,
    raw_bits: Buffer,
    counts: Buffer,
    symbols: Buffer,
    frequencies: Buffer,
    level_counts: Buffer,
    level_symbols: Buffer,
    level_frequencies: Buffer,
    encoder: Buffer,
    /,
) -> int: ...
def make_decoder(
    kind: int,
    model: int,
    levels: int,
    table_of: Buffer,
    raw_bits: Buffer,
    counts: Buffer,
    symbols: Buffer,
    frequencies: Buffer,
    level_counts: Buffer,
    level_symbols: Buffer,
    level_frequencies: Buffer,
    decoder: Buffer,
    plain: bool = False,
    /,
) -> int: ...
def encode_bytes(encoder: Buffer, count: int, lanes: int, /) -> tuple[int, int]: ...
def encode(
    encoder: Buffer,
    source: Buffer,
    target: Buffer,
    levels: Buffer,
    lanes: int,
    scratch: Buffer,
    stream: Buffer,
    /,
) -> int: ...
def decode(
    decoder: Buffer,
    source: Buffer,
    lanes: int,
    stream: Buffer,
    scratch: Buffer,
    target: Buffer,
    /,
) -> int: ...
def decode_scratch_bytes() -> int: ...
def parse_table(body: Buffer, numbers: Buffer, /) -> int: ...
def parse_factors(bits: Buffer, shifts: Buffer, left: Buffer, right: Buffer, /) -> int: ...
