"""Metadata, configuration, statistics and index of what is loaded, as messages."""

from __future__ import annotations

from device_agent.serving.doors.tensors import datatype
from device_agent.serving.generation import Generation
from device_agent.serving.statistics import Served
from edge_sdk.manifest import TensorSpec
from edge_sdk.protos import inference_v2_pb2 as pb

_PLATFORMS = {"onnxruntime": "onnxruntime_onnx"}  # the standard's names, where it has one


def metadata(generation: Generation) -> pb.ModelMetadataResponse:
    identity = generation.identity
    return pb.ModelMetadataResponse(
        name=identity.model,
        versions=[identity.version],
        platform=_PLATFORMS.get(identity.engine, identity.engine),
        inputs=[_tensor(spec) for spec in generation.session.inputs],
        outputs=[_tensor(spec) for spec in generation.session.outputs],
    )


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=datatype(spec.dtype), shape=spec.shape
    )


def config(generation: Generation) -> pb.ModelConfigResponse:
    """Shapes are given whole (``max_batch_size`` 0), a batch dimension among them."""
    identity = generation.identity
    return pb.ModelConfigResponse(
        config=pb.ModelConfig(
            name=identity.model,
            platform=_PLATFORMS.get(identity.engine, identity.engine),
            backend=identity.engine,
            default_model_filename=identity.entry,
            input=[
                pb.ModelInput(name=spec.name, data_type=_data_type(spec), dims=spec.shape)
                for spec in generation.session.inputs
            ],
            output=[
                pb.ModelOutput(name=spec.name, data_type=_data_type(spec), dims=spec.shape)
                for spec in generation.session.outputs
            ],
            instance_group=[
                pb.ModelInstanceGroup(
                    name=identity.model, count=1, kind=pb.ModelInstanceGroup.KIND_CPU
                )
            ],
            response_cache=None if generation.cache is None else pb.ModelResponseCache(enable=True),
            parameters={
                "artifact": pb.ModelParameter(string_value=str(identity.artifact)),
                "variant": pb.ModelParameter(string_value=identity.variant),
            },
        )
    )


def _data_type(spec: TensorSpec) -> pb.DataType.ValueType:
    name = datatype(spec.dtype)
    return pb.DataType.Value("TYPE_STRING" if name == "BYTES" else f"TYPE_{name}")


def statistics(generation: Generation) -> pb.ModelStatistics:
    served = generation.statistics.snapshot()
    phases = {
        phase: pb.StatisticDuration(count=served.count[phase], ns=served.ns[phase])
        for phase in served.count
    }
    return pb.ModelStatistics(
        name=generation.identity.model,
        version=generation.identity.version,
        last_inference=served.last_ms,
        inference_count=served.count["compute_infer"],
        execution_count=served.executions,
        inference_stats=pb.InferStatistics(**phases),
        batch_stats=_batches(served),
        memory_usage=[pb.MemoryUsage(type="CPU", id=0, byte_size=generation.memory_bytes)],
    )


def _batches(served: Served) -> list[pb.InferBatchStatistics]:
    """Those of 64 or more count as 64."""
    return [
        pb.InferBatchStatistics(
            batch_size=size,
            compute_input=pb.StatisticDuration(count=runs.count, ns=runs.input_ns),
            compute_infer=pb.StatisticDuration(count=runs.count, ns=runs.infer_ns),
            compute_output=pb.StatisticDuration(count=runs.count, ns=runs.output_ns),
        )
        for size, runs in sorted(served.batches.items())
    ]


def index(generation: Generation) -> pb.RepositoryIndexResponse.ModelIndex:
    return pb.RepositoryIndexResponse.ModelIndex(
        name=generation.identity.model, version=generation.identity.version, state="READY"
    )
