"""Errors of the project carry facts, an exit code and a status, and survive pickling."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pickle

import pytest

from edge_sdk.base import (
    EdgeError,
    ProofError,
    ResourceError,
    WrongSourceError,
    error_classes,
)


def fail(message: str) -> None:
    raise ProofError(message, file="model.onnx", chunk=3)


def test_facts_survive_pickling() -> None:
    """Message, facts and class come back from a pickle as they were."""
    error = pickle.loads(pickle.dumps(ProofError("chunk 3 differs", chunk=3)))
    assert type(error) is ProofError
    assert (error.message, str(error), error.facts) == (
        "chunk 3 differs",
        "chunk 3 differs",
        {"chunk": 3},
    )


def test_error_in_worker_leaves_the_pool_alive() -> None:
    """An error raised in a worker process reaches the caller and does not break the pool."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        with pytest.raises(ProofError) as failed:
            pool.submit(fail, "differs").result()
        assert failed.value.facts == {"file": "model.onnx", "chunk": 3}
        assert pool.submit(len, "four").result() == 4


def test_reason_is_the_name_of_the_class() -> None:
    """The machine-readable reason is the class name that Python shows."""
    assert ResourceError("full").reason == "ResourceError"


def test_wrong_source_is_a_failed_proof() -> None:
    """A wrong source shares the exit code of a failed proof, but tells its own status."""
    assert WrongSourceError.exit_code == ProofError.exit_code == 4
    assert WrongSourceError.grpc_status == "FAILED_PRECONDITION"
    assert issubclass(WrongSourceError, EdgeError)


def test_classes_are_found_by_name() -> None:
    """Every loaded class, of any depth, is found by the name that travels."""

    class VeryWrongSourceError(WrongSourceError):
        """Deeper than the families."""

    known = error_classes()
    assert known["VeryWrongSourceError"] is VeryWrongSourceError
    assert known["WrongSourceError"] is WrongSourceError
    assert known["EdgeError"] is EdgeError
