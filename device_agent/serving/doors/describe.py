"""Metadata, configuration, statistics and index of what is loaded, as messages."""

from __future__ import annotations

import os

from device_agent.config import ModelConfig
from device_agent.serving.batch_trial import has_rows
from device_agent.serving.doors.demanded import PRIORITY_LOWEST
from device_agent.serving.doors.tensors import datatype
from device_agent.serving.generation import Generation
from device_agent.serving.load import LABELS_FILE
from device_agent.serving.statistics import Served
from edge_sdk.engines.contract import Session
from edge_sdk.manifest import TensorSpec
from edge_sdk.protos import inference_v2_pb2 as pb

_PLATFORMS = {"onnxruntime": "onnxruntime_onnx"}  # the standard's names, where it has one


def metadata(generation: Generation) -> pb.ModelMetadataResponse:
    identity = generation.identity
    return pb.ModelMetadataResponse(
        name=identity.model,
        versions=[identity.version],
        platform=_PLATFORMS.get(identity.engine, identity.engine),
        inputs=[_tensor(spec) for spec in generation.inputs],
        outputs=[_tensor(spec) for spec in generation.outputs],
    )


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=datatype(spec.dtype), shape=spec.shape
    )


def config(generation: Generation, served: ModelConfig) -> pb.ModelConfigResponse:
    """As it is truly served. Where requests are batched, ``max_batch_size`` is the bound and
    shapes lack their first dimension; else it is 0 and they are whole."""
    identity, session = generation.identity, generation.session
    batched = served.batch_max > 1 and has_rows(session)
    first = 1 if batched else 0
    labels = LABELS_FILE if identity.labels else ""
    made = pb.ModelConfig(
        name=identity.model,
        platform=_PLATFORMS.get(identity.engine, identity.engine),
        backend=identity.engine,
        max_batch_size=served.batch_max if batched else 0,
        default_model_filename=identity.entry,
        input=[
            pb.ModelInput(name=spec.name, data_type=_data_type(spec), dims=spec.shape[first:])
            for spec in generation.inputs
        ],
        output=[
            pb.ModelOutput(
                name=spec.name,
                data_type=_data_type(spec),
                dims=spec.shape[first:],
                label_filename=labels,
            )
            for spec in generation.outputs
        ],
        instance_group=[_instances(generation, served)],
        response_cache=None if generation.cache is None else pb.ModelResponseCache(enable=True),
        parameters={
            "artifact": pb.ModelParameter(string_value=str(identity.artifact)),
            "variant": pb.ModelParameter(string_value=identity.variant),
        },
    )
    if served.states:
        made.sequence_batching.CopyFrom(_sequences(session, served))
    else:
        made.dynamic_batching.CopyFrom(_queue(served))
    return pb.ModelConfigResponse(config=made)


def _instances(generation: Generation, served: ModelConfig) -> pb.ModelInstanceGroup:
    on_gpu = generation.identity.engine == "tensorrt" or any(
        name.startswith(("CUDA", "Tensorrt", "NvTensorRt")) for name in served.providers
    )
    group = pb.ModelInstanceGroup
    return group(
        name=generation.identity.model,
        count=served.runs_max or os.cpu_count() or 1,
        kind=group.KIND_GPU if on_gpu else group.KIND_CPU,
    )


def _queue(served: ModelConfig) -> pb.ModelDynamicBatching:
    """Priorities and the bound of the queue are there whether requests are batched or not."""
    return pb.ModelDynamicBatching(
        priority_levels=PRIORITY_LOWEST,
        default_priority_level=served.priority,
        default_queue_policy=pb.ModelQueuePolicy(
            timeout_action=pb.ModelQueuePolicy.REJECT,
            allow_timeout_override=True,
            max_queue_size=served.queue_max,
        ),
    )


def _sequences(session: Session, served: ModelConfig) -> pb.ModelSequenceBatching:
    specs = {spec.name: spec for spec in session.inputs}
    return pb.ModelSequenceBatching(
        state=[
            pb.ModelSequenceBatching.State(
                input_name=given,
                output_name=made,
                data_type=_data_type(specs[given]),
                dims=specs[given].shape,
            )
            for given, made in served.states.items()
            if given in specs
        ]
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


def index_of_gone(model: str) -> pb.RepositoryIndexResponse.ModelIndex:
    return pb.RepositoryIndexResponse.ModelIndex(name=model, state="UNAVAILABLE", reason="unloaded")
