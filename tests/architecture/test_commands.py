"""How the commands can be started."""

from __future__ import annotations

import importlib
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
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


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Each command, group and sub-command by how it is typed."""

    def below(
        command: click.Command, typed: str, parent: click.Context | None
    ) -> Iterator[tuple[str, click.Command]]:
        yield typed, command
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=typed, parent=parent)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(found, f"{typed} {name}", context)

    for name, entry in SCRIPTS.items():
        module = importlib.import_module(entry.partition(":")[0])
        yield from below(module.cli, name, None)


def test_each_has_an_example_and_a_document() -> None:
    """As the README promises: ``--help`` shows an example, and what does something has
    ``--json``."""
    for typed, command in every_command():
        said = click.unstyle(command.get_help(click.Context(command, info_name=typed)))
        assert "Example" in said, typed
        assert f"{typed.split()[0]} " in said.partition("Example")[2], typed
        if not isinstance(command, click.Group):
            assert "--json" in said, typed
