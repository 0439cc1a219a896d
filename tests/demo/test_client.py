"""The client's verdict on an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from demo.client import Counts, judge, read_expected

WANT = np.array([[1.0, 2.0]], np.float32)
EXPECTED = {"1.0.0": {"scores": WANT}, "2.0.0": {"scores": WANT + 1}}


def test_the_right_answer_of_either_version_is_good() -> None:
    """An answer is good where it is that of the version which it names."""
    assert judge("1.0.0", {"scores": WANT}, EXPECTED) == ""
    assert judge("2.0.0", {"scores": WANT + 1}, EXPECTED) == ""


def test_another_versions_answer_is_bad() -> None:
    """Numbers of one version under the name of another are a failure."""
    assert "not what version 2.0.0 answers" in judge("2.0.0", {"scores": WANT}, EXPECTED)


def test_a_version_that_must_not_serve_is_bad() -> None:
    """A version outside the expected ones is a failure, whatever it answers."""
    assert "must not serve" in judge("3.0.0", {"scores": WANT}, EXPECTED)


def test_a_missing_or_misshapen_output_is_bad() -> None:
    """Each output has to be there with its shape; NaN is no number."""
    assert "without 'scores'" in judge("1.0.0", {}, EXPECTED)
    assert "without 'scores'" in judge("1.0.0", {"scores": WANT.T}, EXPECTED)
    assert judge("1.0.0", {"scores": WANT * np.float32("nan")}, EXPECTED)


def test_counts_keep_the_first_problems() -> None:
    """Good answers count by version, bad ones keep a few sentences."""
    counts = Counts()
    counts.add("1.0.0", "")
    for number in range(9):
        counts.add("", f"problem {number}")
    assert (counts.served, counts.failed, dict(counts.by_version)) == (1, 9, {"1.0.0": 1})
    assert counts.problems == [f"problem {number}" for number in range(5)]


def test_expected_answers_are_read_by_version(tmp_path: Path) -> None:
    """The file holds inputs and each version's outputs, whose names may contain slashes."""
    tensors = {"input/x": WANT, "1.0.0/scores": WANT, "1.0.0/a/b": WANT}
    np.savez(tmp_path / "e.npz", **tensors)
    groups = read_expected(tmp_path / "e.npz")
    assert set(groups) == {"input", "1.0.0"}
    assert set(groups["1.0.0"]) == {"scores", "a/b"}
