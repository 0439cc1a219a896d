"""The search over settings that the test plays."""

from __future__ import annotations

import pytest

from device_agent.tuning import Found, Search, Setting, Wish, words
from edge_sdk.base import RefusedError
from tests.support.played_trials import PlayedTrials, Truth

PRESENT = Setting(threads=1, loading="auto", batch_max=1)


def run(trials: PlayedTrials, wish: Wish, *, minutes: float = 60, cores: int = 2) -> Found:
    search = Search(
        trials,
        wish=wish,
        clients=8,
        end_s=trials.now_s + 60 * minutes,
        now_s=trials.clock,
    )
    found = search.run(PRESENT, cores=cores)
    assert trials.open_now == 0
    return found


def test_what_is_better_is_found_and_verified() -> None:
    """Two threads halve the latency: they are chosen, with the figures of the second look."""
    trials = PlayedTrials(lambda setting: Truth(latency_ms=10 / setting.threads))
    found = run(trials, Wish(goal="latency"))
    assert found.best is not None
    assert found.best.threads == 2
    assert found.verified is not None
    assert found.verified.latency.ratio == pytest.approx(0.5, rel=0.05)
    assert trials.opened[-6:] == [PRESENT, found.best] * 3
    assert found.library == "numpy"


def test_throughput_tries_batches_of_the_best_threads() -> None:
    """The bound of a batch is chosen after threads; a latency bound can rule one out."""

    def truth(setting: Setting) -> Truth:
        return Truth(
            throughput=100 * setting.threads * min(setting.batch_max, 8),
            latency_ms=10 + setting.batch_max,
        )

    free = run(PlayedTrials(truth), Wish(goal="throughput"))
    assert free.best is not None
    assert (free.best.threads, free.best.batch_max >= 8) == (2, True)
    bound = run(PlayedTrials(truth), Wish(goal="throughput", latency_ms_max=15))
    assert bound.best is not None
    assert bound.best.batch_max == 4
    fixed = run(PlayedTrials(truth, takes_batches=False), Wish(goal="throughput"))
    assert fixed.best is not None
    assert fixed.best.batch_max == 1


def test_memory_is_less_at_a_price_that_is_bounded() -> None:
    """Mapped weights win where they are not too slow."""

    def truth(slower: float) -> PlayedTrials:
        return PlayedTrials(
            lambda setting: (
                Truth(latency_ms=10 * slower, memory_bytes=10**6)
                if setting.loading == "mapped"
                else Truth()
            )
        )

    found = run(truth(1.1), Wish(goal="memory"))
    assert found.best is not None
    assert found.best.loading == "mapped"
    assert run(truth(1.5), Wish(goal="memory")).best is None


def test_noise_is_not_kept() -> None:
    """Where all settings are alike, the luckiest hardly ever passes a second measurement."""
    kept = [
        seed
        for seed in range(60)
        if run(PlayedTrials(lambda _: Truth(), noise=0.3, seed=seed), Wish(goal="latency")).best
    ]
    assert len(kept) <= 3


def test_a_setting_that_cannot_be_is_passed_over() -> None:
    """An engine's refusal is kept as the reason, and the others are still tried."""

    def truth(setting: Setting) -> Truth:
        refused = "cannot load a model mapped" if setting.loading == "mapped" else ""
        return Truth(latency_ms=10 / setting.threads, refused=refused)

    found = run(PlayedTrials(truth), Wish(goal="latency"))
    assert found.best == Setting(threads=2, loading="prepacked", batch_max=1)
    refused = [one for one in found.tried if one.outcome == "refused"]
    assert [one.why for one in refused] == ["cannot load a model mapped"] * 2


def test_a_present_setting_that_cannot_be_measured_is_an_error() -> None:
    """Without something to compare with there is nothing to find."""
    with pytest.raises(RefusedError, match="broken"):
        run(PlayedTrials(lambda _: Truth(refused="broken")), Wish(goal="latency"))


def test_the_time_is_bounded() -> None:
    """When it is over, the rest is not tried, and what it takes to verify is left."""
    trials = PlayedTrials(lambda setting: Truth(latency_ms=10 / setting.threads))
    found = run(trials, Wish(goal="latency"), minutes=1.0, cores=8)
    assert trials.now_s <= 60
    assert found.best is not None
    assert "not tried" in {one.outcome for one in found.tried}


def test_a_time_too_short_for_anything_is_said() -> None:
    """With no time to try one candidate and verify it, the reason is the time."""
    found = run(PlayedTrials(lambda _: Truth()), Wish(goal="latency"), minutes=0.1)
    assert found.best is None
    assert "more minutes" in found.why


def test_a_lucky_process_is_not_taken_for_a_better_setting() -> None:
    """Where one of three pairs of processes is against it, the others do not outvote it."""

    def mood(unlucky: int) -> PlayedTrials:
        """Processes: the present one, a pair to try, then three pairs to verify."""
        return PlayedTrials(
            lambda _: Truth(),
            mood=lambda number, one: 1.1 if number == unlucky else 0.6 if one != PRESENT else 1,
            loadings=("prepacked",),
        )

    assert run(mood(99), Wish(goal="latency"), cores=1).best is not None
    found = run(mood(6), Wish(goal="latency"), cores=1)
    assert found.verified is not None
    assert found.verified.latency.p_less <= 0.01
    assert found.best is None
    assert "not surely" in found.why


def test_what_is_far_behind_is_not_measured_to_the_end() -> None:
    """A setting that was half as good in each of the first rounds costs three of them."""
    trials = PlayedTrials(lambda setting: Truth(latency_ms=10 * setting.threads))
    found = run(trials, Wish(goal="latency"))
    lost = [one for one in found.tried if one.outcome == "lost"]
    assert {one.setting.threads for one in lost} == {2}
    assert all(one.figures is not None and one.figures.latency.pairs == 3 for one in lost)


def test_a_bound_that_the_present_setting_breaks_is_worth_speed() -> None:
    """With too much memory now, a slower setting that fits is chosen all the same."""

    def truth(setting: Setting) -> Truth:
        if setting.loading == "mapped":
            return Truth(latency_ms=14, memory_bytes=10**6)
        return Truth()

    wish = Wish(goal="latency", memory_bytes_max=2 * 10**6)
    found = run(PlayedTrials(truth), wish)
    assert found.best is not None
    assert found.best.loading == "mapped"


def test_words_for_people() -> None:
    """A setting is said in one phrase."""
    assert words(PRESENT) == "1 thread, auto, batches up to 1"
