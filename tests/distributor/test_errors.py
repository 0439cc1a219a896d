"""Each error says what the caller can do, and survives a worker process."""

from __future__ import annotations

import pickle

import pytest

from distributor import errors
from edge_sdk.base import EdgeError
from edge_sdk.rpc import to_status

CLASSES = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, EdgeError) and one.__module__ == errors.__name__
]


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_travel(cls: type[EdgeError]) -> None:
    """Message and facts survive pickling and the wire; the class is documented."""
    error = cls("what is wrong", wanted="x")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.facts) == (cls, "what is wrong", {"wanted": "x"})
    assert cls.__doc__
    assert cls.exit_code in range(2, 9)
    assert to_status(error).message == "what is wrong"


def test_there_are_some() -> None:
    """The walk above found the classes of this package."""
    assert errors.BeingBuiltError in CLASSES
    assert len(CLASSES) >= 3
