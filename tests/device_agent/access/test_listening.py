"""The address that a running agent leaves in its state folder."""

from __future__ import annotations

from pathlib import Path

from device_agent.access import listening, running_address


def test_told_as_long_as_it_runs(tmp_path: Path) -> None:
    """A shorter address after a longer one is whole, and asking disturbs nobody."""
    assert running_address(tmp_path) == ""
    for address in ("unix:/run/edge-agent/agent.sock", "127.0.0.1:8001"):
        with listening(tmp_path, address):
            assert running_address(tmp_path) == address
            assert running_address(tmp_path) == address
        assert running_address(tmp_path) == ""


def test_what_a_killed_agent_left_is_not_believed(tmp_path: Path) -> None:
    """Somebody else may listen there by now, and would be shown the agent's token."""
    (tmp_path / "listening").write_text("127.0.0.1:8001")
    assert running_address(tmp_path) == ""
    with listening(tmp_path, "127.0.0.1:1"):
        assert running_address(tmp_path) == "127.0.0.1:1"


def test_what_is_no_file_is_no_address(tmp_path: Path) -> None:
    """A link is not followed; a folder that is not there says nothing."""
    (tmp_path / "elsewhere").write_text("127.0.0.1:8001")
    (tmp_path / "listening").symlink_to(tmp_path / "elsewhere")
    assert running_address(tmp_path) == running_address(tmp_path / "gone") == ""
