"""A hollow TensorRT under the real bindings: every call of it sleeps and gives an object.

Nothing is computed, but the bindings' own part runs: whether they take our arguments, and
whether they hold the GIL meanwhile, which decides if other threads are served while a plan is
built or loaded. Used by tests/support/tensorrt_record.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

SLEEP_S = 0.15
_TICK_S = 0.002

# All interfaces of TensorRT are objects whose second word points to another with virtual
# methods; here each of those methods is the same one. The two words before a table of methods
# would name the type: none.
SOURCE = f"""
#include <unistd.h>
static void *object[64], *inner[64], *table[258];
static void *call(void) {{ usleep({int(SLEEP_S * 1e6)}); return object; }}
static void *make(void) {{
    for (int i = 2; i < 258; i++) table[i] = (void *)call;
    inner[0] = table + 2;
    for (int i = 1; i < 64; i++) object[i] = inner;
    object[0] = table + 2;
    return object;
}}
void *createInferBuilder_INTERNAL(void) {{ return make(); }}
void *createInferRefitter_INTERNAL(void) {{ return make(); }}
void *createInferRuntime_INTERNAL(void) {{ return make(); }}
void *createNvOnnxParserRefitter_INTERNAL(void) {{ return make(); }}
void *createNvOnnxParser_INTERNAL(void) {{ return make(); }}
void *getBuilderPluginRegistry(void) {{ return 0; }}
void *getNvOnnxParserVersion(void) {{ return 0; }}
void *getPluginRegistry(void) {{ return 0; }}
void *initLibNvInferPlugins(void) {{ return 0; }}
"""


class _Watch:
    """A second thread that wants the GIL every two milliseconds, and sees how long it waits."""

    def __init__(self) -> None:
        self._ticks: list[float] = []
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while True:
            self._ticks.append(time.perf_counter())
            time.sleep(_TICK_S)

    def holds(self, call: Callable[[], Any]) -> tuple[Any, bool]:
        """What a call gives, and whether the other thread stood still for most of it."""
        begin = time.perf_counter()
        result = call()
        end = time.perf_counter()
        seen = [begin, *(tick for tick in self._ticks if begin <= tick <= end), end]
        pauses = (later - earlier for earlier, later in pairwise(seen))
        return result, max(pauses) > 0.9 * SLEEP_S


def calls_on_it() -> dict[str, bool]:
    """Run in a child, which must end without destructors: our calls, and which hold the GIL."""
    import tensorrt_bindings as library

    from edge_sdk.engines.tensorrt.library import import_tensorrt, make_log
    from edge_sdk.engines.tensorrt.session import make_allocator
    from tests.support.fake_gpu import FakeGpu

    assert import_tensorrt() is library
    log = make_log(import_tensorrt())
    watch, held = _Watch(), {}
    kept: list[Any] = []

    def call(name: str, what: Callable[[], Any]) -> Any:
        result, held[name] = watch.holds(what)
        kept.append(result)
        return result

    flags, entry = library.BuilderFlag, str(Path("model.onnx"))
    builder = library.Builder(log)
    typed = 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = call("create_network", lambda: builder.create_network(typed))
    parser = library.OnnxParser(network, log)
    call("parse_from_file", lambda: parser.parse_from_file(entry))
    tensor = call("get_input", lambda: network.get_input(0))
    call("is_shape_tensor", lambda: tensor.is_shape_tensor)
    config = call("create_builder_config", builder.create_builder_config)
    call("set_flag", lambda: config.set_flag(flags.REFIT))
    call("clear_flag", lambda: config.clear_flag(flags.TF32))
    call("builder_optimization_level", lambda: setattr(config, "builder_optimization_level", 3))
    pool = library.MemoryPoolType.WORKSPACE
    call("set_memory_pool_limit", lambda: config.set_memory_pool_limit(pool, 1 << 30))
    profile = call("create_optimization_profile", builder.create_optimization_profile)
    call("set_shape", lambda: profile.set_shape("x", (1, 4), (2, 4), (8, 4)))
    call("add_optimization_profile", lambda: config.add_optimization_profile(profile))
    cache = call("create_timing_cache", lambda: config.create_timing_cache(b""))
    call("set_timing_cache", lambda: config.set_timing_cache(cache, False))
    call("build_serialized_network", lambda: builder.build_serialized_network(network, config))
    call("get_timing_cache", config.get_timing_cache)
    call("timing_cache.serialize", cache.serialize)
    runtime = library.Runtime(log)
    engine = call("deserialize_cuda_engine", lambda: runtime.deserialize_cuda_engine(b"plan"))
    call("serialize", engine.serialize)
    call("refittable", lambda: engine.refittable)
    call("get_tensor_location", lambda: engine.get_tensor_location("x"))
    context = call("create_execution_context", engine.create_execution_context)
    call("set_input_shape", lambda: context.set_input_shape("x", (2, 4)))
    call("set_tensor_address", lambda: context.set_tensor_address("x", 1 << 40))
    allocator = make_allocator(import_tensorrt(), FakeGpu())
    call("set_output_allocator", lambda: context.set_output_allocator("y", allocator))
    call("execute_async_v3", lambda: context.execute_async_v3(1 << 40))
    refitter = library.Refitter(engine, log)
    weights = library.OnnxParserRefitter(refitter, log)
    call("refit_from_file", lambda: weights.refit_from_file(entry))
    call("refit_cuda_engine", refitter.refit_cuda_engine)
    return held
