"""The C extension of csrc/sums.c, where it was built."""

def ran(
    words: memoryview, at: int, queue_ns: int, input_ns: int, infer_ns: int, output_ns: int, /
) -> None: ...
