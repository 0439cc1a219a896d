"""How the commands can be started."""

from __future__ import annotations

import runpy
import sys
import tomllib
from pathlib import Path

import pytest

SCRIPTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
    "scripts"
]
MODULES = {
    name: command
    for command, entry in SCRIPTS.items()
    for name in (entry.partition(":")[0], entry.partition(":")[0].rpartition(".")[0])
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_command_is_a_module_too(
    module: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python -m`` with the package of a command, or with its ``cli``, is that command."""
    monkeypatch.setattr(sys, "argv", ["something", "--version"])
    if not hasattr(sys.modules.get(module), "__path__"):
        # As in a fresh interpreter, where only the packages above it were imported before.
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"{MODULES[module]}, version ")
