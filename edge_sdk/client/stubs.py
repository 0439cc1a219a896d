"""The calls of both services, each with the name of the other side for messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from edge_sdk.client.errors import NotAnAgentError
from edge_sdk.protos import agent_v1_pb2 as agent_pb
from edge_sdk.protos import inference_v2_pb2 as inference_pb
from edge_sdk.rpc import typed_errors

UNARY_DEADLINE_S = 10.0

_INFERENCE = "/inference.GRPCInferenceService/"
_AGENT = "/edge.agent.v1.AgentService/"


class Agent:
    """AgentService at one address."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self.address = address
        self.peer = f"the agent at {address}"
        self.status = channel.unary_unary(
            _AGENT + "Status",
            request_serializer=agent_pb.StatusRequest.SerializeToString,
            response_deserializer=agent_pb.StatusResponse.FromString,
        )
        self.list_models = channel.unary_unary(
            _AGENT + "ListModels",
            request_serializer=agent_pb.ListModelsRequest.SerializeToString,
            response_deserializer=agent_pb.ListModelsResponse.FromString,
        )
        self.events = channel.unary_stream(
            _AGENT + "Events",
            request_serializer=agent_pb.EventsRequest.SerializeToString,
            response_deserializer=agent_pb.Event.FromString,
        )
        self.hold = channel.unary_stream(
            _AGENT + "Hold",
            request_serializer=agent_pb.HoldRequest.SerializeToString,
            response_deserializer=agent_pb.Held.FromString,
        )

    @contextmanager
    def typed_errors(self) -> Iterator[None]:
        """Turns what a call ends with into our errors. Raises: NotAnAgentError and the others."""
        with typed_errors(self.peer):
            try:
                yield
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                    raise
                raise NotAnAgentError(
                    f"what listens at {self.address} does not answer as an agent: if it is "
                    f"inference, give connect(inference={self.address!r}); if it is an agent, "
                    "it is of an older release",
                    address=self.address,
                ) from None


class Inference:
    """The inference protocol at one address: our messages on the standard's paths."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self.peer = f"inference at {address}"
        self.infer = channel.unary_unary(
            _INFERENCE + "ModelInfer",
            request_serializer=inference_pb.ModelInferRequest.SerializeToString,
            response_deserializer=inference_pb.ModelInferResponse.FromString,
        )
        self.metadata = channel.unary_unary(
            _INFERENCE + "ModelMetadata",
            request_serializer=inference_pb.ModelMetadataRequest.SerializeToString,
            response_deserializer=inference_pb.ModelMetadataResponse.FromString,
        )
