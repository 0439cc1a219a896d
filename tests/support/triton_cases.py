"""Which calls of the stock client are claimed, and what messages must say."""

from __future__ import annotations

import numpy as np
import tritonclient.grpc as triton

from tests.support.triton_calls import (
    SLOW_S,
    TYPES,
    Case,
    answer,
    by_callback,
    cancelled,
    counted,
    fixed,
    in_region,
    index,
    infer,
    metadata,
    one_output_there,
    out_region,
    output_in_region,
    parameter,
    plain,
    queue_is_full,
    raw,
    region_and_contents,
    region_parameter,
    regions,
    register,
    rows,
    shapes_of_config,
    size_missing,
    sleep,
    stream,
    stream_error,
    tensor,
    texts_in_region,
    typed,
    unregister_in_use,
    unregistered,
    want,
    with_region,
)

_EVERY_TYPE = {
    "half": np.array([1.5, -2, 65504], np.float16),
    "long": np.array([2**62, -1, 0], np.int64),
    "bool": np.array([True, False]),
    "small": np.array([-128, 127], np.int8),
    "text": np.array([b"", "grüß".encode(), b"a\n"], object),
}
_scores = fixed([0.5, 3.0, 0.25, -1.0])
_pair = fixed([0.5, 3.0, 0.25, -1.0, 9.0, 8.0, 7.0, 1e-7], "batched")

CASES: dict[str, Case] = {
    "live and ready": Case(lambda to: [to.client.is_server_live(), to.client.is_server_ready()]),
    "model ready": Case(
        lambda to: [
            to.client.is_model_ready("linear"),
            to.client.is_model_ready("linear", to.version),
            to.client.is_model_ready("linear", to.other),
            to.client.is_model_ready("unknown"),
        ]
    ),
    "model ready, version is no number": Case(
        lambda to: to.client.is_model_ready("linear", "latest"), ("version", "'latest'")
    ),
    "metadata": Case(lambda to: metadata(to, "linear")),
    "metadata of a version": Case(lambda to: metadata(to, "linear", to.version)),
    "metadata of a batched model": Case(lambda to: metadata(to, "batched")),
    "metadata of texts": Case(lambda to: metadata(to, "text")),
    "metadata, unknown model": Case(
        lambda to: metadata(to, "unknown"), ("unknown model: 'unknown' is not found",)
    ),
    "metadata, unknown version": Case(
        lambda to: metadata(to, "linear", to.other), ("version 9", "is not found")
    ),
    "metadata, version is no number": Case(
        lambda to: metadata(to, "linear", "latest"), ("version", "'latest'")
    ),
    "configuration": Case(lambda to: shapes_of_config(to, "linear")),
    "configuration of a batched model": Case(lambda to: shapes_of_config(to, "batched")),
    "configuration, unknown model": Case(
        lambda to: shapes_of_config(to, "unknown"), ("unknown model: 'unknown' is not found",)
    ),
    "statistics": Case(counted),
    "statistics, unknown model": Case(
        lambda to: to.client.get_inference_statistics("unknown"), ("'unknown'",)
    ),
    "statistics, unknown version": Case(
        lambda to: to.client.get_inference_statistics("linear", to.other), ("version", "'linear'")
    ),
    "index": Case(index),
    "index of what is ready": Case(lambda to: index(to, ready=True)),
    "load of a loaded model": Case(lambda to: to.client.load_model("linear")),
    "load, unknown model": Case(
        lambda to: to.client.load_model("unknown"), ("failed to load 'unknown'",)
    ),
    "unload, unknown model": Case(lambda to: to.client.unload_model("unknown")),
    # -- inference
    "infer": Case(infer()),
    "infer two rows": Case(infer(inputs=[rows(2)])),
    "infer with an id": Case(infer(request_id="r7")),
    "infer a version": Case(
        lambda to: answer(to.client.infer("linear", [rows()], model_version=to.version))
    ),
    "infer a named output": Case(infer(outputs=[triton.InferRequestedOutput("y")])),
    "infer an output named twice": Case(infer(outputs=[triton.InferRequestedOutput("y")] * 2)),
    "infer compressed": Case(infer(compression_algorithm="gzip")),
    "infer by callback": Case(by_callback),
    "infer, cancelled": Case(cancelled),
    "infer, no time": Case(
        infer("slow", [sleep(SLOW_S)], client_timeout=SLOW_S / 5), ("deadline exceeded",)
    ),
    "infer no rows": Case(infer(inputs=[rows(0)])),
    **{
        f"infer {TYPES[name]}": Case(infer(name, [tensor(array, TYPES[name])]))
        for name, array in _EVERY_TYPE.items()
    },
    "infer typed FP32": Case(raw(change=typed("fp32_contents", [1, 2, 3, 4]))),
    "infer typed INT64": Case(
        raw(model="long", shape=(1,), datatype="INT64", change=typed("int64_contents", [-7]))
    ),
    "infer typed BYTES": Case(
        raw(
            model="text",
            shape=(2,),
            datatype="BYTES",
            change=typed("bytes_contents", [b"a", b"bc"]),
        )
    ),
    "infer typed BOOL": Case(
        raw(model="bool", shape=(2,), datatype="BOOL", change=typed("bool_contents", [True, False]))
    ),
    "infer typed INT8": Case(
        raw(model="small", shape=(2,), datatype="INT8", change=typed("int_contents", [-5, 5]))
    ),
    "infer, unknown model": Case(infer("unknown"), ("unknown model: 'unknown' is not found",)),
    "infer, unknown version": Case(
        lambda to: to.client.infer("linear", [rows()], model_version=to.other),
        ("unknown model: 'linear' version 9", "is not found"),
    ),
    "infer, version is no number": Case(infer(model_version="latest"), ("version", "'latest'")),
    "infer, no input": Case(infer(inputs=[]), ("expected", "inputs", "got", "'x'")),
    "infer, an input twice": Case(infer(inputs=[rows(), rows()]), ("input 'x'",)),
    "infer, an unknown input": Case(
        infer(inputs=[tensor(np.ones((1, 4), np.float32), name="z")]), ("unexpected", "input 'z'")
    ),
    "infer, an input too many": Case(
        infer(inputs=[rows(), tensor(np.ones(1, np.float32), name="z")]), ("input", "'z'")
    ),
    "infer, unknown output": Case(
        infer(outputs=[triton.InferRequestedOutput("q")]), ("unexpected", "output 'q'")
    ),
    "infer, wrong type": Case(
        infer(inputs=[tensor(np.ones((1, 4)), "FP64")]), ("input 'x'", "64", "32")
    ),
    "infer, unknown type": Case(raw(bytes(16), datatype="FP31"), ("input 'x'",)),
    "infer, wrong size": Case(
        infer(inputs=[rows(1, 5)]),
        ("unexpected shape for input 'x'", "expected [-1,4], got [1,5]"),
    ),
    "infer, wrong rank": Case(
        infer(inputs=[tensor(np.ones(4, np.float32))]), ("unexpected shape for input 'x'", "[4]")
    ),
    "infer, negative size": Case(raw(bytes(16), shape=(-1, 4)), ("input 'x'", "[-1,4]")),
    "infer, a byte too few": Case(raw(bytes(15)), ("byte size", "input 'x'", "16", "15")),
    "infer, a byte too many": Case(raw(bytes(17)), ("byte size", "input 'x'", "16", "17")),
    "infer, a number too few": Case(
        raw(change=typed("fp32_contents", [1, 2, 3])), ("input 'x'", "expect")
    ),
    "infer, nothing in it": Case(raw(), ("unable to find data for input tensor 'x'",)),
    "infer, raw and typed": Case(
        raw(bytes(16), change=typed("fp32_contents", [1, 2, 3, 4])),
        ("contents", "'x'", "raw_input_contents"),
    ),
    "infer, FP16 typed": Case(
        raw(model="half", shape=(1,), datatype="FP16", change=typed("fp32_contents", [1])),
        ("'x'", "FP16"),
    ),
    "infer, a text cut off": Case(
        raw(b"\x09\0\0\0a", model="text", shape=(1,), datatype="BYTES"), ("'x'",)
    ),
    "infer, a length cut off": Case(
        raw(b"\x09\0", model="text", shape=(1,), datatype="BYTES"), ("'x'",)
    ),
    "infer, a text too many": Case(
        raw(b"\1\0\0\0a\1\0\0\0b", model="text", shape=(1,), datatype="BYTES"),
        ("elements", "input 'x'", "2", "1"),
    ),
    "infer, a text too few": Case(
        raw(b"", model="text", shape=(1,), datatype="BYTES"), ("elements", "input 'x'", "0", "1")
    ),
    "infer, the queue is full": Case(queue_is_full, ("Exceeds maximum queue size",)),
    # -- parameters of a request
    "priority": Case(infer(priority=1)),
    "priority beyond the levels": Case(infer(priority=7, timeout=5_000_000)),
    "priority as int64": Case(parameter("priority", int64_param=1)),
    "priority as uint64": Case(parameter("priority", uint64_param=9)),
    "priority, negative": Case(parameter("priority", int64_param=-1), ("'priority'", ">= 0")),
    "priority as text": Case(
        parameter("priority", string_param="1"), ("invalid value type for 'priority'",)
    ),
    "timeout, negative": Case(parameter("timeout", int64_param=-1)),
    "timeout as text": Case(
        parameter("timeout", string_param="1"),
        ("invalid value type for 'timeout' parameter, expected int64_param",),
    ),
    "timeout as uint64": Case(
        parameter("timeout", uint64_param=1), ("invalid value type for 'timeout'",)
    ),
    "a sequence": Case(infer(sequence_id=5, sequence_start=True, sequence_end=True)),
    "a sequence named by a text": Case(infer(sequence_id="five", sequence_start=True)),
    "sequence as bool": Case(
        parameter("sequence_id", bool_param=True), ("invalid value type for 'sequence_id'",)
    ),
    "sequence start as number": Case(
        parameter("sequence_start", int64_param=1),
        ("invalid value type for 'sequence_start' parameter, expected bool_param",),
    ),
    "a parameter of the client's own": Case(parameter("mine", string_param="x")),
    "a reserved parameter": Case(
        parameter("triton_unheard", bool_param=True),
        ("'triton_", "reserved", "triton_enable_empty_final_response"),
    ),
    "an empty final response": Case(
        parameter("triton_enable_empty_final_response", bool_param=True)
    ),
    "an empty final response as text": Case(
        parameter("triton_enable_empty_final_response", string_param="x"),
        ("invalid value type for 'triton_enable_empty_final_response'",),
    ),
    # -- classification
    "the largest": Case(_scores(1)),
    "the two largest": Case(_scores(2)),
    "more classes than there are": Case(_scores(9)),
    "equal ones": Case(fixed([1, 5, 2, 5])(4)),
    "large, small and broken numbers": Case(fixed([1 / 3, 1e20, 123456789, 1e-9])(4)),
    "endless ones": Case(fixed([1, float("inf"), float("-inf"), 0])(4)),
    "without labels": Case(fixed([0.5, 3.0, 0.25, -1.0], "linear")(2)),
    "fewer labels than classes": Case(fixed([1, 2, 3, 4, 8, 7, 6, 5])(8)),
    "of each row of a batch": Case(_pair(1)),
    "all of each row": Case(_pair(9)),
    "of integers": Case(
        infer(
            "long",
            [tensor(np.array([2**62, -1, 7]), "INT64")],
            outputs=[triton.InferRequestedOutput("y", class_count=2)],
        )
    ),
    "of bytes": Case(
        infer(
            "small",
            [tensor(np.array([5, -6], np.int8), "INT8")],
            outputs=[triton.InferRequestedOutput("y", class_count=2)],
        )
    ),
    "of nothing": Case(
        infer(inputs=[rows(0)], outputs=[triton.InferRequestedOutput("y", class_count=2)])
    ),
    "classes of truth values": Case(
        infer(
            "bool",
            [tensor(np.array([True, False]), "BOOL")],
            outputs=[triton.InferRequestedOutput("y", class_count=1)],
        ),
        ("unsupported type", "bool"),
    ),
    "classes of FP16": Case(
        infer(
            "half",
            [tensor(np.array([1, 2], np.float16), "FP16")],
            outputs=[triton.InferRequestedOutput("y", class_count=1)],
        ),
        ("unsupported type", "16"),
    ),
    "no classes": Case(raw(bytes(16), change=want(int64_param=0)), ("'classification'",)),
    "less than no classes": Case(
        raw(bytes(16), change=want(int64_param=-1)), ("'classification'",)
    ),
    "classes as text": Case(
        raw(bytes(16), change=want(string_param="1")),
        ("invalid value type for 'classification' parameter, expected int64_param",),
    ),
    # -- streams
    "stream": Case(stream({"request_id": "a"}, {}, {"inputs": [rows(2)], "request_id": "c"})),
    "stream that lives on": Case(
        stream({"inputs": [rows(1, 5)]}, {"model_name": "unknown"}, {"request_id": "c"})
    ),
    "stream, wrong version, no input": Case(
        stream({"model_version": "latest"}, {"inputs": []}, {"request_id": "d"})
    ),
    "stream with parameters": Case(
        stream(
            {"enable_empty_final_response": True},
            {"sequence_id": 4, "sequence_start": True},
            {"priority": 1, "timeout": 1_000_000},
        )
    ),
    "stream, an error": Case(stream_error),
    # -- system shared memory
    "region": Case(register()),
    "region that begins later": Case(register(offset=4096)),
    "region, all of the object": Case(register(size_bytes=8192)),
    "region, its status": Case(with_region(lambda to: regions(to, "r"))),
    "regions, none": Case(regions),
    "region, unknown status": Case(
        with_region(lambda to: regions(to, "q")), ("unable to find", "region: 'q'")
    ),
    "region registered twice": Case(
        with_region(
            lambda to: to.client.register_system_shared_memory("r", f"{to.prefix}numbers", 64)
        ),
        ("'r' already in manager",),
    ),
    "region of no object": Case(register(key="none"), ("unable to open shared memory region",)),
    "region with a slash inside": Case(
        register(key="a/b"), ("unable to open shared memory region", "a/b")
    ),
    "region without a key": Case(
        register(key="", absolute=True), ("unable to open shared memory region",)
    ),
    "region that is too large": Case(
        register(size_bytes=8193), ("failed to register shared memory region 'q'",)
    ),
    "region that ends too late": Case(
        register(size_bytes=8192, offset=4096), ("failed to register shared memory region 'q'",)
    ),
    "region of no bytes": Case(
        register(size_bytes=0), ("failed to register shared memory region 'q'",)
    ),
    "region unregistered": Case(unregistered),
    "region unregistered while in use": Case(
        unregister_in_use, ("cannot unregister shared memory region 'r', it is currently in use",)
    ),
    "input in a region": Case(with_region(infer(inputs=[in_region()]))),
    "input further on in a region": Case(with_region(infer(inputs=[in_region(offset=16)]))),
    "output in a region": Case(output_in_region),
    "output in a region, then in the answer": Case(one_output_there),
    "texts in a region": Case(texts_in_region),
    "classes of an input in a region": Case(
        with_region(
            infer(
                "named",
                [in_region()],
                outputs=[triton.InferRequestedOutput("y", class_count=2)],
            )
        )
    ),
    "input in an unknown region": Case(
        with_region(infer(inputs=[in_region(name="q")])),
        ("unable to find shared memory region: 'q'",),
    ),
    "input beyond a region": Case(
        with_region(infer(inputs=[in_region(offset=8184)])),
        ("invalid offset + byte size for shared memory region: 'r'",),
    ),
    "input far beyond a region": Case(
        with_region(infer(inputs=[in_region(offset=1 << 40)])),
        ("invalid offset for shared memory region: 'r'",),
    ),
    "input in a region, a byte too few": Case(
        with_region(infer(inputs=[in_region(15)])), ("byte size", "input 'x'", "16", "15")
    ),
    "input in a region, too many bytes": Case(
        with_region(infer(inputs=[in_region(20)])), ("byte size", "input 'x'", "16", "20")
    ),
    "output in an unknown region": Case(
        with_region(infer(outputs=[out_region(name="q")])),
        ("unable to find shared memory region: 'q'",),
    ),
    "output beyond a region": Case(
        with_region(infer(outputs=[out_region(offset=8184)])),
        ("invalid offset + byte size for shared memory region: 'r'",),
    ),
    "output does not fit": Case(
        with_region(infer(outputs=[out_region(15)])),
        (
            "shared memory size specified with the request",
            "15 bytes",
            "should be at least 16 bytes",
        ),
    ),
    "region as number": Case(
        region_parameter(region={"int64_param": 1}),
        ("invalid value type for 'shared_memory_region' parameter for tensor 'x'",),
    ),
    "region's size as text": Case(
        region_parameter(byte_size={"string_param": "16"}),
        ("invalid value type for 'shared_memory_byte_size' parameter for tensor 'x'",),
    ),
    "region's offset as text": Case(
        region_parameter(offset={"string_param": "0"}),
        ("invalid value type for 'shared_memory_offset' parameter for tensor 'x'",),
    ),
    "region's offset, negative": Case(
        region_parameter(offset={"int64_param": -1}), ("invalid offset", "region: 'r'")
    ),
    "region's size, negative": Case(
        region_parameter(byte_size={"int64_param": -1}),
        ("invalid offset + byte size", "region: 'r'"),
    ),
    "region without a size": Case(
        with_region(raw(change=size_missing)), ("'shared_memory_byte_size' must be specified",)
    ),
    "region and contents": Case(
        with_region(raw(change=region_and_contents)),
        ("unexpected 'content'", "shared memory", "input", "'x'"),
    ),
    # -- CUDA shared memory, where there is no GPU
    "CUDA regions, none": Case(lambda to: plain(to.client.get_cuda_shared_memory_status())),
    "CUDA region, unknown": Case(
        lambda to: to.client.get_cuda_shared_memory_status("q"),
        ("unable to find cuda shared memory region: 'q'",),
    ),
    "CUDA region": Case(
        lambda to: to.client.register_cuda_shared_memory("q", b"QUFB" * 16, 0, 64),
        ("failed to register shared memory region",),
    ),
    "CUDA region unregistered": Case(lambda to: to.client.unregister_cuda_shared_memory("q")),
    "CUDA regions unregistered": Case(lambda to: to.client.unregister_cuda_shared_memory()),
}
