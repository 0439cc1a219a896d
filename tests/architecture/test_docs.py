"""Documents name only what exists: paths, make targets, commands, options, links."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.support.source_tree import PACKAGES, ROOT, tracked_files

DOCUMENTS = [
    path
    for path in tracked_files()
    if path.suffix == ".md" and (path.parts[0] == "docs" or len(path.parts) == 1)
]
COMMANDS = {
    "edge-delta": "edge_sdk.delta.cli",
    "edge-fleet": "edge_sdk.fleet.cli",
    "edge-distributor": "distributor.cli",
    "edge-agent": "device_agent.cli",
    "edge-quantize": "quantize.cli",
}
FOLDERS = (*PACKAGES, "docs", "tests", "protos", "benchmarks", "demo", "firmware_examples", ".ci")


def text_of(path: Path) -> str:
    return (ROOT / path).read_text("utf-8")


def spans(text: str) -> list[str]:
    """Code spans outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def command_lines(text: str) -> Iterator[list[str]]:
    """Every use of one of our commands, in code spans and code blocks, as words."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    for line in [*spans(text), *lines]:
        found = re.search(
            r"(?:^|[\s$(;|&])(edge-(?:delta|fleet|distributor|agent|quantize))\b.*", line
        )
        if found:
            start = found.start(1)
            rest = re.split(r"\s[|>&;]|\)$|#", line[start:])[0]
            yield shlex.split(rest)


def program(name: str) -> click.Command:
    module = importlib.import_module(COMMANDS[name])
    found = [
        getattr(module, one)
        for one in ("cli", "main")
        if isinstance(getattr(module, one, None), click.Command)
    ]
    return found[0]


def wrong_words(words: list[str]) -> list[str]:
    """Sub-commands and options of a command line that the command does not have."""
    command, wrong = program(words[0]), []
    options: set[str] = {"--help"}
    expects_command = isinstance(command, click.Group)
    takes_value = False
    for word in words[1:]:
        own = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
        options |= set(own)
        if takes_value:
            takes_value = False
        elif word.startswith("-") and word != "-":
            name = word.split("=")[0]
            if name not in options:
                wrong.append(word)
            option = own.get(name)
            takes_value = isinstance(option, click.Option) and not (
                option.is_flag or "=" in word or option.count
            )
        elif expects_command and isinstance(command, click.Group):
            child = command.get_command(click.Context(command), word)
            if child is None:
                return [*wrong, word]
            command = child
            expects_command = isinstance(child, click.Group)
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_paths_exist(document: Path) -> None:
    """Every path of the repository that a document names is there."""
    paths = [one.rstrip("/") for one in spans(text_of(document)) if one.startswith(FOLDERS)]
    named = [one for one in paths if "/" in one and re.fullmatch(r"[\w./-]+", one)]
    assert [one for one in named if not (ROOT / one).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_modules_exist(document: Path) -> None:
    """Every dotted module that a document names can be found."""
    dotted = [one for one in spans(text_of(document)) if re.fullmatch(r"\w+(\.\w+)+", one)]
    for name in dotted:
        if name.split(".")[0] not in PACKAGES:
            continue
        parts = name.split(".")
        found = any(
            (ROOT / Path(*parts[:end])).is_dir()
            or (ROOT / Path(*parts[:end]).with_suffix(".py")).is_file()
            for end in (len(parts), len(parts) - 1)
            if end > 1 or len(parts) == 1
        )
        assert found, f"{document} names {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document leads to a file."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(document))
    local = [one for one in links if not re.match(r"[a-z]+:", one)]
    assert [one for one in local if not (ROOT / document.parent / one).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_make_targets_exist(document: Path) -> None:
    """Every make target that a document names is in the Makefile, with its description."""
    text = text_of(document)
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL)
    lines = [*spans(text), *(line for block in blocks for line in block.splitlines())]
    targets = [
        word
        for line in lines
        if re.match(r"\s*make\s", line)
        for word in line.split()[1:]
        if "=" not in word
    ]
    known = set(re.findall(r"^([a-z0-9-]+):.*  ## ", text_of(Path("Makefile")), re.MULTILINE))
    assert set(targets) - known == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_exist(document: Path) -> None:
    """Every command, sub-command and option that a document shows exists."""
    wrong = {" ".join(words): wrong_words(words) for words in command_lines(text_of(document))}
    assert {line: words for line, words in wrong.items() if words} == {}


def test_decisions_are_all_listed() -> None:
    """The list of decisions names each of them, numbered without a gap."""
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    listed = re.findall(r"\]\((0[^)]+\.md)\)", text_of(Path("docs/decisions/README.md")))
    assert listed == names
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_fragments_have_their_form() -> None:
    """Fragments of the changelog are named <topic>.<feature|fix|break>.md."""
    names = [path.name for path in (ROOT / "changelog.d").iterdir()]
    assert [
        one for one in names if not re.fullmatch(r"[a-z0-9-]+\.(feature|fix|break)\.md", one)
    ] == []
