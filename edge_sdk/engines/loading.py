"""Which way of loading a device takes where nobody said one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_sdk.engines.contract import Loading

# Loaded prepacked, 100 MB took 96 of private memory, and 112 on the way there: up to half of
# what is free, that leaves room for buffers and for everybody else.
_SHARE = 2
# A quantised model runs several times slower from mapped weights (docs/engines.md): it is given
# up to four fifths.
_SHARE_QUANTISED = 5 / 4


def choose_loading(
    wanted: Loading,
    *,
    known: Sequence[Loading],
    model_bytes: int,
    free_bytes: int,
    batch_max: int = 1,
    is_quantised: Callable[[], bool] = lambda: False,
) -> Loading:
    """``mapped`` for what runs one by one and is large beside the free memory.

    Mapped weights cost no memory of their own and no time to load; with batches they cost
    twice the time to run. ``known``: what the engine can be asked for. ``is_quantised``:
    asked only where it decides.
    """
    if wanted != "auto" or "mapped" not in known:
        return wanted
    if batch_max > 1 or model_bytes * _SHARE <= free_bytes:
        return "prepacked"
    fits = model_bytes * _SHARE_QUANTISED <= free_bytes
    return "prepacked" if fits and is_quantised() else "mapped"
