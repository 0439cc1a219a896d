"""The rule that keeps or puts back a candidate."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.updater.verdict import Mirrored, Rule, Seen, Verdict, doubt, judge, ratio

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


PAIRS = tuple(range(1000, 1040))
BOTH = Mirrored(
    active_ns=PAIRS,
    candidate_ns=tuple(int(1.2 * one) for one in PAIRS),
    compared=40,
    agreed=40,
    rows=40,
    rows_agreed=40,
    active_requests=40,
)


def mirrored(seen: Seen = WELL, **changes: object) -> Seen:
    return dataclasses.replace(seen, mirrored=dataclasses.replace(BOTH, **changes))  # type: ignore[arg-type]


def times(slower: float) -> tuple[int, ...]:
    return tuple(int(slower * one) for one in PAIRS)


def test_pairs_of_requests_are_proved_or_worse() -> None:
    """Surely faster than the limit: proved after the time; surely slower: worse at once."""
    assert judge(RULE, mirrored(), 9.9)[0] is Verdict.WAIT
    assert judge(RULE, mirrored(), 10.0) == (Verdict.PROVED, "")
    verdict, why = judge(RULE, mirrored(candidate_ns=times(2.0)), 0.5)
    assert verdict is Verdict.WORSE
    assert "2.00 times as long" in why
    assert "40 pairs" in why


def test_what_pairs_cannot_tell_waits_and_stays_unproved() -> None:
    """At the limit itself no number of pairs is sure: neither kept as proved nor blocked."""
    near = tuple(int((1.4 if n % 2 else 1.6) * one) for n, one in enumerate(PAIRS))
    assert judge(RULE, mirrored(candidate_ns=near), 29.0)[0] is Verdict.WAIT
    verdict, why = judge(RULE, mirrored(candidate_ns=near), 30.0)
    assert verdict is Verdict.UNPROVED
    assert "not sure" in why


def test_golden_inputs_decide_while_requests_are_few() -> None:
    """Pairs of replays are pairs, too."""
    seen = dataclasses.replace(WELL, active_compute_ns=PAIRS, candidate_compute_ns=times(2.0))
    few = mirrored(seen, active_ns=PAIRS[:9], candidate_ns=PAIRS[:9])
    assert judge(RULE, few, 1.0)[0] is Verdict.WORSE
    enough = mirrored(seen, active_ns=PAIRS, candidate_ns=PAIRS)
    assert judge(RULE, enough, 10.0)[0] is Verdict.PROVED


def test_errors_beside_errors_are_weighed() -> None:
    """One error alone is enough; where the version before fails as well, only more than
    chance explains."""
    alone = mirrored(dataclasses.replace(WELL, requests=100, errors=1))
    assert judge(RULE, alone, 0.1)[0] is Verdict.WORSE
    both = {"active_errors": 9, "active_requests": 900}
    as_often = dataclasses.replace(WELL, requests=100, errors=2)
    assert judge(RULE, mirrored(as_often, **both), 10.0)[0] is Verdict.PROVED
    verdict, why = judge(
        RULE, mirrored(dataclasses.replace(WELL, requests=100, errors=20), **both), 0.1
    )
    assert verdict is Verdict.WORSE
    assert "20 of 100" in why
    assert "9 of 900" in why


def test_agreement_decides_only_where_it_is_asked_for() -> None:
    """A version that was trained again answers otherwise: told, not judged, by default. With a
    least share: worse, unproved and proved, each only when it is sure."""
    otherwise = mirrored(compared=400, agreed=0, rows=400, rows_agreed=200)
    assert judge(RULE, otherwise, 10.0)[0] is Verdict.PROVED
    rule = dataclasses.replace(RULE, agree_min=0.9)
    assert judge(rule, otherwise, 0.1)[0] is Verdict.WORSE
    assert judge(rule, mirrored(compared=400, agreed=400), 10.0)[0] is Verdict.PROVED
    assert judge(rule, mirrored(compared=30, agreed=30), 29.0)[0] is Verdict.WAIT
    verdict, why = judge(rule, mirrored(compared=30, agreed=30), 30.0)
    assert verdict is Verdict.UNPROVED
    assert "30 of 30 answers" in why
    verdict, why = judge(dataclasses.replace(RULE, top1_min=0.9), otherwise, 0.1)
    assert verdict is Verdict.WORSE
    assert "200 of 400 first choices" in why


def test_a_canary_without_requests_is_unproved() -> None:
    """Nobody asked: said after the time, not proved."""
    verdict, why = judge(
        RULE, mirrored(dataclasses.replace(WELL, requests=0), active_ns=(), candidate_ns=()), 10.0
    )
    assert verdict is Verdict.UNPROVED
    assert "0 requests" in why


@given(
    slower=st.lists(st.floats(0.2, 4), max_size=60),
    agreed=st.integers(0, 400),
    errors=st.integers(0, 4),
    active_errors=st.integers(0, 4),
    requests=st.integers(0, 300),
    elapsed_s=st.floats(0, 60),
)
def test_no_verdict_on_pairs_without_evidence(
    slower: list[float],
    agreed: int,
    errors: int,
    active_errors: int,
    requests: int,
    elapsed_s: float,
) -> None:
    """PROVED needs requests, time, pairs and most of these within the limit; WORSE needs an
    error, or most pairs beyond it, or answers that differ; both give their reason but PROVED."""
    rule = dataclasses.replace(RULE, agree_min=0.5)
    seen = mirrored(
        dataclasses.replace(
            WELL,
            requests=requests,
            errors=errors,
            active_compute_ns=(),
            candidate_compute_ns=(),
        ),
        active_ns=(1000,) * len(slower),
        candidate_ns=tuple(int(1000 * one) for one in slower),
        compared=400,
        agreed=agreed,
        active_errors=active_errors,
    )
    verdict, why = judge(rule, seen, elapsed_s)
    beyond = sum(one > 1.5 for one in slower)
    if verdict is Verdict.PROVED:
        assert requests
        assert elapsed_s >= RULE.duration_s
        assert len(slower) >= RULE.samples_min
        assert beyond < len(slower)
        assert agreed > 200
        assert not errors or active_errors
    else:
        assert why or verdict is Verdict.WAIT
    if verdict is Verdict.WORSE:
        assert errors or agreed < 200 or beyond
    if verdict is Verdict.WAIT:
        assert elapsed_s < RULE.deadline_s


def test_each_look_may_err_with_a_part_of_the_doubt() -> None:
    """Of a probation of 300 s, each of 1,200 looks with 1 in 120,000."""
    assert doubt(dataclasses.replace(RULE, deadline_s=300)) * 1200 == pytest.approx(0.01)
    assert doubt(dataclasses.replace(RULE, deadline_s=0.1)) == 0.01
