"""How loads are written down."""

from __future__ import annotations

import pytest

from device_agent.load_test.loads import Goal, Load, named_apart, parse_load, parse_scenario
from edge_sdk.base import UsageError


def test_open_loop_with_goals() -> None:
    """A rate, a priority and goals come out of one text."""
    load = parse_load("team/digits rate=200 priority=high p99-ms=5 failures=0")
    assert load == Load(
        name="team/digits",
        model="team/digits",
        rate_hz=200,
        priority="high",
        goals=(Goal(what="p99-ms", bound=5), Goal(what="failures", bound=0)),
    )
    assert load.is_open


def test_closed_loop_with_a_file_whose_name_has_a_space() -> None:
    """Texts may be quoted as in a shell."""
    load = parse_load("team/detector clients=4 batch=2 inputs='my frames.npz' name=camera")
    assert (load.clients, load.batch, load.inputs, load.name) == (4, 2, "my frames.npz", "camera")
    assert not load.is_open


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate=5", "names no model"),
        ("team/digits", "either rate"),
        ("team/digits rate=5 clients=2", "either rate"),
        ("team/digits rate=fast", "not a number"),
        ("team/digits rate=-1", "not a number"),
        ("team/digits rate=nan", "not a number"),
        ("team/digits rate=inf", "not a number"),
        ("team/digits clients=1.5", "not a whole number"),
        ("team/digits clients=5000", "at most 1024"),
        ("team/digits rate=5 rate=6", "twice"),
        ("team/digits rate=5 speed=9", "'speed' is not known; known are"),
        ("team/digits rate=5 priority=urgent", "one of default, high"),
        ("team/digits rate=5 accuracy=0.9", "needs labels"),
        ("team/digits rate=5 inputs=a.npz labels=b.npz", "brings its inputs"),
        ("team/digits rate=5 batch=0", "more than 0"),
        ("team/digits rate=5 other", "not key=value"),
        ("team/digits rate=5 inputs='a", "No closing quotation"),
        ("Digits rate=5", "Digits"),
    ],
)
def test_wrong_loads_are_refused_by_name(text: str, words: str) -> None:
    """What cannot be meant is said with the text that it stands in."""
    with pytest.raises(UsageError) as refused:
        parse_load(text)
    assert words in refused.value.message


def test_scenario_says_the_same_as_flags() -> None:
    """A table [[load]] and a text with the same settings are the same load."""
    document = {
        "duration-s": 5,
        "load": [{"model": "team/digits", "rate": 200, "priority": "high", "p99-ms": 5}],
    }
    loads, timing = parse_scenario(document, where="s.toml")
    assert loads == (parse_load("team/digits rate=200 priority=high p99-ms=5"),)
    assert timing == {"duration_s": 5}


@pytest.mark.parametrize(
    "document",
    [
        {"load": 3},
        {"loads": []},
        {"load": [{"rate": True}]},
        {"duration-s": "long"},
        {"duration-s": 0},
        {"seed": 1.5},
    ],
)
def test_wrong_scenarios_are_refused(document: dict[str, object]) -> None:
    """A file that is no list of loads, or misspells a key, is said by name."""
    with pytest.raises(UsageError) as refused:
        parse_scenario(document, where="s.toml")
    assert "s.toml" in refused.value.message


def test_loads_of_one_model_are_told_apart() -> None:
    """Two loads of one name are numbered; a third of another name is not."""
    loads = [parse_load(text) for text in ("a/b rate=1", "a/c rate=1", "a/b clients=1")]
    assert [load.name for load in named_apart(loads)] == ["a/b #1", "a/c", "a/b #2"]
