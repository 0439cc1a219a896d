"""Versions change under load, and the application notices nothing but better answers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.support.asker import Asked, asking
from tests.support.fleet_on_loopback import loopback_fleet
from tests.support.known_models import known_versions

pytestmark = pytest.mark.distributor

REQUESTS_PER_S = 600.0  # asked for; what counts is how many were answered
ANSWERED_PER_S = 200.0
SWITCHES = ("2.0.0", "3.0.0", "4.0.0")


def test_no_request_fails_across_three_switches(tmp_path: Path) -> None:
    """With retries off and at least 200 requests per second across each of three switches,
    none fails, and every output equals that of the version its response names."""
    known = known_versions(tmp_path / "models", 4)
    with loopback_fleet(tmp_path / "fleet") as fleet, contextlib.ExitStack() as stack:
        agent = fleet.start_agent("kiosk-1", EDGE_AGENT_PROBATION_DURATION_S="0.6")
        for version, path in known.paths.items():
            fleet.publish(path, version)
        assert fleet.roll_out("1.0.0").succeeded
        asker = stack.enter_context(
            asking(
                agent.ready["inference_address"],
                known.expected,
                known.given,
                tmp_path,
                rate=REQUESTS_PER_S,
            )
        )
        asker.wait_for("1.0.0")
        for version in SWITCHES:
            rollout = fleet.roll_out(version)
            assert rollout.succeeded, rollout
            asker.wait_for(version)
        asked = asker.stop()

    assert not asked.failed, asked.problems
    assert asked.versions() == ["1.0.0", *SWITCHES]
    for version in SWITCHES:
        assert _rate_across(asked, version) >= ANSWERED_PER_S


def test_a_canary_answers_beside_the_version_before(tmp_path: Path) -> None:
    """Under load the new version answers some requests, the one before the others, until it is
    found to be as good; then it answers all. None fails, and each is what its version gives."""
    known = known_versions(tmp_path / "models", 2)
    with loopback_fleet(tmp_path / "fleet") as fleet, contextlib.ExitStack() as stack:
        agent = fleet.start_agent(
            "kiosk-1",
            "--probation-mode",
            "canary",
            "--probation-share",
            "0.3",
            "--probation-s",
            "0.6",
        )
        for version, path in known.paths.items():
            fleet.publish(path, version)
        assert fleet.roll_out("1.0.0").succeeded
        address = agent.ready["inference_address"]
        asker = stack.enter_context(asking(address, known.expected, known.given, tmp_path))
        asker.wait_for("1.0.0")
        assert fleet.roll_out("2.0.0").succeeded
        asker.wait_for("2.0.0")
        asked = asker.stop()

    assert not asked.failed, asked.problems
    order = asked.versions()
    assert order[:4] == ["1.0.0", "2.0.0", "1.0.0", "2.0.0"]
    both = [version for at, version in asked.answers if at >= asked.began("2.0.0")]
    assert both.count("1.0.0") > both[: len(both) - both[::-1].index("1.0.0")].count("2.0.0")


def _rate_across(asked: Asked, version: str) -> float:
    """Answers a second in the second around the first answer of ``version``."""
    switched = asked.began(version)
    return asked.rate(switched - 0.5, switched + 0.5)
