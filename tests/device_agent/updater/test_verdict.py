"""The rule that keeps or puts back a candidate."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.updater.verdict import Rule, Seen, Verdict, judge, ratio

RULE = Rule(duration_s=10, deadline_s=30, samples_min=5, ratio_max=1.5, requests_min=1)
WELL = Seen(
    requests=10,
    errors=0,
    active_compute_ns=(100,) * 5,
    candidate_compute_ns=(120,) * 5,
    comparable=True,
)


def test_as_good_as_before_is_proved_after_the_time() -> None:
    """Enough samples, traffic and time, nothing against it."""
    assert judge(RULE, WELL, 10.0) == (Verdict.PROVED, "")
    assert judge(RULE, WELL, 9.9)[0] is Verdict.WAIT


def test_errors_are_worse_at_once() -> None:
    """One failed request is enough, whatever else was seen."""
    verdict, why = judge(RULE, dataclasses.replace(WELL, errors=1), 0.1)
    assert verdict is Verdict.WORSE
    assert "1 of 10 requests" in why


@pytest.mark.parametrize(("candidate", "wanted"), [(150, Verdict.PROVED), (151, Verdict.WORSE)])
def test_the_ratio_of_medians_decides_about_speed(candidate: int, wanted: Verdict) -> None:
    """1.5 times is allowed, more is not."""
    seen = dataclasses.replace(WELL, candidate_compute_ns=(candidate,) * 5)
    assert judge(RULE, seen, 10.0)[0] is wanted


def test_slow_outliers_do_not_decide() -> None:
    """A stall of the host in a minority of samples changes no median."""
    seen = dataclasses.replace(WELL, candidate_compute_ns=(110, 110, 110, 90_000, 90_000))
    assert judge(RULE, seen, 10.0)[0] is Verdict.PROVED


def test_what_noise_could_explain_is_watched_longer() -> None:
    """Medians too far apart, but samples that overlap: no verdict before the deadline, for a
    wrong one would block the version on this device; a clear one falls at once."""
    noisy = dataclasses.replace(
        WELL,
        active_compute_ns=(100, 100, 100, 240, 250),
        candidate_compute_ns=(110, 115, 170, 240, 260),
    )
    assert judge(RULE, noisy, 0.5)[0] is Verdict.WAIT
    assert judge(RULE, noisy, 29.0)[0] is Verdict.WAIT
    assert judge(RULE, noisy, 30.0)[0] is Verdict.WORSE
    clear = dataclasses.replace(noisy, candidate_compute_ns=(400, 410, 420, 900, 900))
    assert judge(RULE, clear, 0.5)[0] is Verdict.WORSE


def test_too_few_samples_wait_until_the_deadline() -> None:
    """Speed is not judged by a few samples; without more it stays unproved."""
    seen = dataclasses.replace(WELL, candidate_compute_ns=(900,) * 4)
    assert judge(RULE, seen, 29.0)[0] is Verdict.WAIT
    verdict, why = judge(RULE, seen, 30.0)
    assert verdict is Verdict.UNPROVED
    assert "4 golden replays" in why


def test_silence_is_not_proof() -> None:
    """No traffic: unproved, never proved."""
    verdict, why = judge(RULE, dataclasses.replace(WELL, requests=0), 10.0)
    assert verdict is Verdict.UNPROVED
    assert "0 requests" in why


def test_a_first_version_has_nothing_to_be_compared_with() -> None:
    """Without a version before it, time and errors decide."""
    seen = Seen(
        requests=3, errors=0, active_compute_ns=(), candidate_compute_ns=(), comparable=False
    )
    assert judge(RULE, seen, 10.0)[0] is Verdict.PROVED
    assert ratio(seen) is None


@given(
    samples=st.integers(0, 9),
    slower=st.floats(0.1, 4),
    requests=st.integers(0, 3),
    errors=st.integers(0, 3),
    elapsed_s=st.floats(0, 60),
)
def test_never_proved_with_errors_or_without_traffic(
    samples: int, slower: float, requests: int, errors: int, elapsed_s: float
) -> None:
    """PROVED needs traffic, time, no error, and medians within the ratio."""
    seen = Seen(
        requests=requests,
        errors=errors,
        active_compute_ns=(1000,) * samples,
        candidate_compute_ns=(int(1000 * slower),) * samples,
        comparable=True,
    )
    verdict, why = judge(RULE, seen, elapsed_s)
    if verdict is Verdict.PROVED:
        assert not errors
        assert requests
        assert elapsed_s >= RULE.duration_s
        assert samples >= RULE.samples_min
        assert slower <= 1.5 + 1e-3
    if verdict in (Verdict.WORSE, Verdict.UNPROVED):
        assert why
