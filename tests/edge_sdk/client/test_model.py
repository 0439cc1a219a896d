"""A model seen from an app: infer, version, files, events."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from edge_sdk.base import NotFoundError, UnavailableError, UsageError
from edge_sdk.client import Client, SequenceStep, VersionNotActiveError, connect
from edge_sdk.client.model import _request, _result
from edge_sdk.protos import agent_v1_pb2, inference_v2_pb2
from tests.support import onnx_models
from tests.support.agent_service import FakeAgent, fake_agent
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, listening

MODEL = "team/linear"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with listening(
        tmp_path,
        {
            MODEL: onnx_models.linear(2.0),
            "team/text": onnx_models.identity(TensorProto.STRING),
            "team/brain": onnx_models.identity(TensorProto.BFLOAT16),
            "team/short": onnx_models.identity(TensorProto.UINT16),
            "team/nonzero": onnx_models.nonzero(),
        },
        lane=False,
    ) as made:
        yield made


@pytest.fixture
def agent(tmp_path: Path, served: Serving) -> Iterator[FakeAgent]:
    with fake_agent(tmp_path) as made:
        made.inference_address = served.door.address
        yield made


@pytest.fixture
def client(agent: FakeAgent) -> Iterator[Client]:
    with connect(agent.address) as made:
        yield made


def ones() -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.ones((2, 4), np.float32)}


def test_infer_answers_with_the_version(client: Client) -> None:
    """Arrays in, writable arrays and the version out."""
    result = client.model(MODEL).infer(ones())
    assert result.version == "1.0.0"
    assert (result.outputs["y"] == 2).all()
    result.outputs["y"][0, 0] = 7


def test_a_demanded_version_is_that_or_an_error(client: Client, served: Serving) -> None:
    """The active version may be demanded; any other is VersionNotActiveError with both named."""
    model = client.model(MODEL)
    assert model.infer(ones(), version="1.0.0").version == "1.0.0"
    served.serve(MODEL, onnx_models.linear(5.0), "2.0.0")
    with pytest.raises(VersionNotActiveError) as refused:
        model.infer(ones(), version="1.0.0")
    assert refused.value.facts["active"] == "2.0.0"
    assert refused.value.exit_code == 7
    assert (model.infer(ones()).outputs["y"] == 5).all()


def test_only_wanted_outputs_travel(client: Client) -> None:
    """Outputs can be chosen."""
    x = {"x": np.ones((1, 2), np.float32)}
    assert set(client.model("team/nonzero").infer(x, outputs=["where"]).outputs) == {"where"}


@pytest.mark.parametrize("texts", [["a", "grüß", ""], [b"x", b"yz"]])
def test_text_goes_both_ways(client: Client, texts: list[Any]) -> None:
    """str and bytes become BYTES; the answer is str."""
    got = client.model("team/text").infer({"x": np.array(texts)}).outputs["y"]
    assert [t if isinstance(t, str) else t.decode() for t in texts] == got.tolist()


def test_sixteen_bits_are_what_the_model_says(client: Client) -> None:
    """uint16 is bit patterns for a bfloat16 model and numbers for another."""
    x = np.array([1, 0x3F80, 65535], np.uint16)
    for name in ("team/brain", "team/short"):
        got = client.model(name).infer({"x": x}).outputs["y"]
        assert got.dtype == np.uint16
        assert (got == x).all()


def test_wrong_tensors_are_usage_errors(client: Client) -> None:
    """Wrong shape, wrong name and a type that no model takes."""
    model = client.model(MODEL)
    for inputs, message in (
        ({"x": np.ones((2, 5), np.float32)}, "got \\[2, 5\\]"),
        ({"z": np.ones((2, 4), np.float32)}, "unexpected input 'z'"),
        ({"x": np.ones((2, 4), np.complex64)}, "complex64"),
    ):
        with pytest.raises(UsageError, match=message):
            model.infer(inputs)


@pytest.mark.parametrize(
    ("step", "id_field"),
    [
        (SequenceStep(id=7, start=True), "int64_param"),
        (SequenceStep(id="a", start=True), "string_param"),
    ],
)
def test_priority_and_sequence_are_parameters(step: SequenceStep, id_field: str) -> None:
    """Over gRPC they have the names that Triton's clients use; without them there are none."""
    request = _request(("m", "", ()), [], 1, step)
    assert request.parameters["priority"].uint64_param == 1
    assert getattr(request.parameters["sequence_id"], id_field) == step.id
    assert request.parameters["sequence_start"].bool_param
    assert not request.parameters["sequence_end"].bool_param
    assert not _request(("m", "", ()), [], 0, None).parameters


def test_priorities_are_three(client: Client) -> None:
    """Any other number is refused before it is sent."""
    for wrong in (-1, 4):
        with pytest.raises(UsageError, match="priority"):
            client.model(MODEL).infer(ones(), priority=wrong)
    assert (client.model(MODEL).infer(ones(), priority=3).outputs["y"] == 2).all()


def test_an_unknown_model_is_not_found(client: Client) -> None:
    """For infer and for files."""
    with pytest.raises(NotFoundError):
        client.model("team/other").infer(ones())
    with pytest.raises(NotFoundError, match="not held"), client.model("team/other").files():
        pass


def test_the_version_is_the_agents_word(client: Client, agent: FakeAgent, tmp_path: Path) -> None:
    """From the agent, also for a model that only has files; none active is NotFoundError."""
    agent.models["team/files"] = ("4.2.0", tmp_path)
    agent.models["team/new"] = ("", tmp_path)
    assert client.model("team/files").version == "4.2.0"
    for name in ("team/new", "team/other"):
        with pytest.raises(NotFoundError):
            _ = client.model(name).version


def test_without_an_agent_inference_says_the_version(served: Serving) -> None:
    """With the inference address alone, the version comes from there."""
    with connect(inference=served.door.address) as client:
        assert client.model(MODEL).version == "1.0.0"


def test_files_are_held_while_the_block_lasts(
    client: Client, agent: FakeAgent, tmp_path: Path
) -> None:
    """The folder is there with its names; the agent is told when the app is done."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "labels.txt").write_text("zero\none\n")
    agent.models[MODEL] = ("1.0.0", folder)
    with client.model(MODEL).files() as files:
        assert files.version == "1.0.0"
        assert files.names == ("labels.txt",)
        assert files.path("labels.txt").read_text().split() == ["zero", "one"]
        with pytest.raises(NotFoundError):
            files.path("tokenizer.json")
        assert agent.holds == 1
    wait_for(lambda: agent.holds == 0, "the folder to be let go")


def test_a_folder_is_let_go_after_an_error(
    client: Client, agent: FakeAgent, tmp_path: Path
) -> None:
    """An exception in the block ends the hold too; an agent without an answer is unavailable."""
    agent.models[MODEL] = ("1.0.0", tmp_path)
    with pytest.raises(KeyError), client.model(MODEL).files():
        raise KeyError
    wait_for(lambda: agent.holds == 0, "the folder to be let go")
    agent.models[MODEL] = ("", tmp_path)
    with pytest.raises(UnavailableError), client.model(MODEL).files():
        pass


def event(number: int, state: str, model: str = MODEL) -> agent_v1_pb2.Event:
    return agent_v1_pb2.Event(
        number=number, model=model, version=f"{number}.0.0", state=state, facts={"k": "v"}
    )


def test_switch_events_are_told(client: Client, agent: FakeAgent) -> None:
    """Only switches of this model by default, from the number after the last seen."""
    for one in (
        event(1, "switched"),
        event(2, "fetching"),
        event(3, "switched", "team/other"),
        event(4, "rolled_back"),
    ):
        agent.feed.put(one)
    seen = client.model(MODEL).events()
    first, second = next(seen), next(seen)
    assert (first.number, first.version, first.state) == (1, "1.0.0", "switched")
    assert first.facts == {"k": "v"}
    assert (second.number, second.state) == (4, "rolled_back")
    seen.close()
    agent.feed.put(None)


def test_every_step_can_be_heard(client: Client, agent: FakeAgent) -> None:
    """With states None nothing is left out, and the end of the agent's stream ends it."""
    for one in (event(1, "planned"), event(2, "fetching"), None):
        agent.feed.put(one)
    assert [one.number for one in client.model(MODEL).events(after=1, states=None)] == [2]


def test_a_lost_agent_ends_events_with_a_typed_error(tmp_path: Path) -> None:
    """When the agent goes away, the listener gets UnavailableError, not a hang."""
    with connect(f"unix:{tmp_path}/none.sock") as client, pytest.raises(UnavailableError):
        next(client.model(MODEL).events())


def test_many_threads_share_one_client(client: Client) -> None:
    """Four threads each get answers to their own values."""
    wrong: list[float] = []

    def work(number: int) -> None:
        model = client.model(MODEL)
        for turn in range(20):
            value = float(100 * number + turn)
            got = model.infer({"x": np.full((1, 4), value, np.float32)}).outputs["y"]
            if not (got == 2 * value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_another_versions_answer_is_not_passed_on() -> None:
    """Even a server that ignores the demand cannot make the client return another version."""
    answer = inference_v2_pb2.ModelInferResponse(model_name=MODEL, model_version="2.0.0")
    with pytest.raises(VersionNotActiveError):
        _result(answer, "1.0.0")
    answer.outputs.add(name="y", datatype="FP32", shape=[1])
    with pytest.raises(UsageError, match="raw"):
        _result(answer, None)


def test_no_engine_is_imported() -> None:
    """An app that uses the client loads neither onnxruntime nor the agent."""
    script = (
        "import sys, edge_sdk.client; "
        "print([m for m in ('onnxruntime', 'device_agent', 'onnx', 'edge_sdk.engines') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
