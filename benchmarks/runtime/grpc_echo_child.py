"""``python -m benchmarks.runtime.grpc_echo_child``: a plain synchronous gRPC server that answers
each ModelInfer with the bytes that came. The floor of what a Python server over gRPC costs.

The messages are those of the stock client; nothing of ours is imported.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

_THREADS = 16


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    handler = grpc.unary_unary_rpc_method_handler(
        _echo,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"ModelInfer": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(1).wait()


def _echo(request: Any, _context: grpc.ServicerContext) -> Any:
    answer = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
    (given,) = request.inputs
    answer.outputs.add(name="y", datatype=given.datatype, shape=given.shape)
    answer.raw_output_contents.append(request.raw_input_contents[0])
    return answer


if __name__ == "__main__":
    main()
