"""Every error class has the documented exit code, a meaning, and survives pickling."""

from __future__ import annotations

import pickle
import re

import grpc
import pytest

from edge_sdk.base import EdgeError, error_classes
from tests.support.source_tree import PACKAGES, ROOT, import_all

import_all()
OURS = sorted(
    (one for one in error_classes().values() if one.__module__.split(".")[0] in PACKAGES),
    key=lambda one: (one.__module__, one.__name__),
)


def documented() -> dict[int, set[str]]:
    """The table of docs/exit-codes.md: exit code to the names of error classes."""
    text = (ROOT / "docs" / "exit-codes.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \|[^|]*\|([^|]*)\|", text, flags=re.MULTILINE)
    return {int(code): set(re.findall(r"`(\w+)`", names)) for code, names in rows}


@pytest.mark.parametrize("error", OURS, ids=lambda one: one.__name__)
def test_class_says_what_to_do(error: type[EdgeError]) -> None:
    """A class has a docstring of its own: what the caller can know or do."""
    assert (error.__dict__.get("__doc__") or "").strip()


@pytest.mark.parametrize("error", OURS, ids=lambda one: one.__name__)
def test_exit_code_is_documented(error: type[EdgeError]) -> None:
    """The class, or the family that it belongs to, stands in the table with its exit code."""
    if error is EdgeError:
        return
    names = documented()[error.exit_code]
    assert names & {one.__name__ for one in error.__mro__}


def test_table_names_only_what_exists() -> None:
    """Every class in the table exists and has the code of its row."""
    for code, names in documented().items():
        for name in names:
            assert error_classes()[name].exit_code == code


@pytest.mark.parametrize("error", OURS, ids=lambda one: one.__name__)
def test_status_is_one_of_grpc(error: type[EdgeError]) -> None:
    """The name of the status is one that gRPC has."""
    assert error.grpc_status in grpc.StatusCode.__members__


@pytest.mark.parametrize("error", OURS, ids=lambda one: one.__name__)
def test_instances_survive_pickling(error: type[EdgeError]) -> None:
    """Message and facts come back from a pickle: worker processes send errors so."""
    again = pickle.loads(pickle.dumps(error("what is wrong", path="a", chunk=3)))
    assert type(again) is error
    assert (again.message, again.facts) == ("what is wrong", {"path": "a", "chunk": 3})


def test_reasons_are_unique() -> None:
    """The name alone travels as the reason, so no two classes share one."""
    names = [one.__name__ for one in OURS]
    assert len(names) == len(set(names))
