"""The smallest models that limits are found with."""

from __future__ import annotations

import onnx
import pytest

from edge_sdk.engines.onnx_limits import DOMAINS, smallest_model


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_bytes_are_the_model_they_claim(domain: str) -> None:
    """The reference library reads version, operator set, node and types back."""
    model = onnx.load_from_string(smallest_model(7, domain, 300))
    assert model.ir_version == 7
    assert [(one.domain, one.version) for one in model.opset_import] == [(domain, 300)]
    assert model.graph.node[0].op_type == DOMAINS[domain]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 1
