"""``edge-delta``: deltas of files and folders by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_sdk.base import NotFoundError, UsageError, refuse_overlap, whole_file
from edge_sdk.base.command import (
    PathArgument,
    bytes_text,
    json_option,
    note,
    print_json,
    print_table,
    progress,
    run,
)
from edge_sdk.delta.apply import apply, naming, read_header
from edge_sdk.delta.coder import KERNEL
from edge_sdk.delta.container import DEFAULT_MEMORY_LIMIT_BYTES, FileRef
from edge_sdk.delta.encode import encode
from edge_sdk.delta.files import open_one, open_tree
from edge_sdk.delta.inspect import inspect
from edge_sdk.delta.methods import NAMES
from edge_sdk.delta.writer import MethodUse

if TYPE_CHECKING:
    from edge_sdk.delta.explain import Explanation, Part

_NOTHING = "-"
_BACKENDS = {"c": "the compiled kernel", "numpy": "NumPy, slowly: there is no compiled kernel"}
# Tensors that `explain` shows unless asked for all.
_EXPLAINED_PARTS = 30

_debug = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback.")
_memory = click.option(
    "--memory-limit",
    "memory_limit_bytes",
    type=click.IntRange(min=1),
    default=DEFAULT_MEMORY_LIMIT_BYTES,
    show_default=True,
    metavar="BYTES",
    help="What a decoder may need.",
)
_threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Work with so many at once; the result is the same.",
)
_force = click.option("--force", is_flag=True, help="Replace what is already there.")


@click.group()
@click.version_option(package_name="edge-model-sdk")
@_debug
def cli() -> None:
    """Computes, applies and shows deltas between versions of a model.

    \b
    Example:
      edge-delta diff v1.onnx v2.onnx -o v1-v2.delta
      edge-delta apply v1.onnx v1-v2.delta -o v2.onnx
    """


@cli.command()
@click.argument("source", type=PathArgument())
@click.argument("target", type=PathArgument())
@click.option("-o", "--output", required=True, type=PathArgument(), metavar="DELTA")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(NAMES),
    help="Use only these (repeat it); all by default.",
)
@_memory
@_threads
@_force
@json_option
@_debug
def diff(
    *,
    source: Path,
    target: Path,
    output: Path,
    methods: Sequence[str],
    memory_limit_bytes: int,
    threads: int,
    force: bool,
    as_json: bool,
) -> None:
    """Writes the delta that turns SOURCE into TARGET, each a file or a folder.

    SOURCE may be - for none: then DELTA holds the whole of TARGET, compressed.

    \b
    Example: edge-delta diff v1/ v2/ -o v1-v2.delta
    """
    _refuse_nothing(output)
    origin = _origin(source)
    total_bytes = _total_bytes(target)
    _refuse_mixing(output, [target] if origin is None else [origin, target])
    with whole_file(output, replace=force) as out, progress("diff", total_bytes) as advance:
        made = encode(
            origin,
            target,
            out,
            methods=methods or NAMES,
            memory_limit_bytes=memory_limit_bytes,
            threads=threads,
            progress=advance,
        )
    if as_json:
        print_json(asdict(made))
        return
    _print_methods(made.methods)
    note(
        f"{output}: {bytes_text(made.delta_bytes)} for {bytes_text(made.target_bytes)}"
        f"{_share(made.delta_bytes, made.target_bytes)}"
    )


@cli.command(name="apply")
@click.argument("source", type=PathArgument())
@click.argument("delta", type=PathArgument())
@click.option("-o", "--output", required=True, type=PathArgument(), metavar="TARGET")
@_memory
@_threads
@_force
@json_option
@_debug
def apply_command(
    *,
    source: Path,
    delta: Path,
    output: Path,
    memory_limit_bytes: int,
    threads: int,
    force: bool,
    as_json: bool,
) -> None:
    """Makes TARGET from SOURCE and DELTA, and proves every byte of it.

    SOURCE may be - where DELTA holds a whole. TARGET is a file or a folder, as DELTA says,
    and appears complete or not at all. With --force a folder takes the place of whatever
    stands there, with all that is in it; a file only that of a file, never of a folder.

    \b
    Example: edge-delta apply v1/ v1-v2.delta -o v2/
    """
    _refuse_nothing(output)
    origin = _origin(source)
    with naming(delta), open_one(delta, str(delta)) as container:
        total_bytes = read_header(container, memory_limit_bytes=memory_limit_bytes).target_bytes
    with progress("apply", total_bytes) as advance:
        made = apply(
            origin,
            delta,
            output,
            replace=force,
            memory_limit_bytes=memory_limit_bytes,
            threads=threads,
            progress=advance,
        )
    if as_json:
        print_json({**asdict(made), "files": _files(made.files)})
    else:
        note(f"{output}: {bytes_text(made.target_bytes)}, proved")


@cli.command(name="inspect")
@click.argument("delta", type=PathArgument())
@json_option
@_debug
def inspect_command(delta: Path, as_json: bool) -> None:
    """Shows what DELTA holds: files, memory, and bytes by method.

    \b
    Example: edge-delta inspect v1-v2.delta --json
    """
    facts = inspect(delta)
    if as_json:
        files = {"sources": _files(facts.sources), "targets": _files(facts.targets)}
        print_json({**asdict(facts), **files, "kernel": KERNEL})
        return
    print_table(
        ["what", "value"],
        [
            ["format version", str(facts.version)],
            ["delta", bytes_text(facts.delta_bytes)],
            ["header and index", bytes_text(facts.prefix_bytes)],
            ["memory to decode", bytes_text(facts.memory_bytes)],
            ["chunks", str(facts.chunks)],
            ["numbers are decoded here by", _BACKENDS[KERNEL]],
        ],
    )
    _print_files("source", facts.sources)
    _print_files("target", facts.targets)
    _print_methods(facts.methods)


@cli.command(name="explain")
@click.argument("old", type=PathArgument())
@click.argument("new", type=PathArgument())
@click.option("--all", "everything", is_flag=True, help="Every tensor, not only the largest.")
@json_option
@_debug
def explain_command(old: Path, new: Path, everything: bool, as_json: bool) -> None:
    """Shows what the delta from OLD to NEW spends its bytes on.

    For each tensor of NEW: what predicts it, by which method it is coded, bits for each
    weight, and the share of weights that are not as predicted.

    copy and patch take bytes of OLD, literal compresses new ones; residual codes numbers by
    how far they are from what predicts them, planes alone; table says what predicts, and how.

    \b
    Example: edge-delta explain v1.onnx v2.onnx
    """
    from edge_sdk.delta.explain import explain

    with progress("explain", _total_bytes(new)) as advance:
        facts = explain(old, new, progress=advance)
    if as_json:
        print_json({**asdict(facts), "methods": facts.methods})
        return
    shown = facts.largest if everything else facts.largest[:_EXPLAINED_PARTS]
    print_table(
        ["tensor", "type", "makes", "takes", "share", "bits/weight", "missed", "by", "from"],
        [[_named(part, facts), *_part_cells(part, facts.delta_bytes)] for part in shown],
    )
    for line in _explained(facts, len(shown)):
        note(line)


def _part_cells(part: Part, delta_bytes: int) -> list[str]:
    return [
        part.dtype,
        bytes_text(part.target_bytes),
        bytes_text(part.delta_bytes),
        f"{100 * part.delta_bytes / delta_bytes:.1f} %",
        "" if part.bits_per_weight is None else f"{part.bits_per_weight:.2f}",
        "" if part.missed is None else f"{100 * part.missed:.1f} %",
        _foremost(part.methods),
        _foremost(part.predicted_from),
    ]


def _named(part: Part, facts: Explanation) -> str:
    """With its file where there are several: tensors of two files may have the same name."""
    return f"{part.file}: {part.name}" if facts.has_several_files else part.name


def _foremost(counts: Mapping[str, int]) -> str:
    """The first of several, and how many others there are."""
    first, *others = counts or ("",)
    return f"{first} (+{len(others)})" if others else first


def _explained(facts: Explanation, shown: int) -> Iterator[str]:
    """What the table does not say, and what dominates."""
    hidden = facts.largest[shown:]
    if hidden:
        takes = bytes_text(sum(part.delta_bytes for part in hidden))
        yield f"{len(hidden)} more take {takes}; --all shows them"
    whole = _share(facts.delta_bytes, facts.target_bytes)
    yield (
        f"delta: {bytes_text(facts.delta_bytes)} for {bytes_text(facts.target_bytes)}{whole}, "
        f"of which header, index and end {bytes_text(facts.overhead_bytes)}"
    )
    parts = [
        f"{name} {100 * taken / facts.delta_bytes:.0f} %" for name, taken in facts.methods.items()
    ]
    largest = facts.largest[:1]
    if largest and parts:
        share = 100 * largest[0].delta_bytes / facts.delta_bytes
        yield f"what dominates: {', '.join(parts)}; {_named(largest[0], facts)} alone {share:.0f} %"


def _origin(source: Path) -> Path | None:
    if str(source) == _NOTHING:
        return None
    if not source.exists():
        raise NotFoundError(f"no such file or folder: {source}; write {_NOTHING} for no source")
    return source


def _refuse_nothing(output: Path) -> None:
    """Who writes - means standard output, or none; a file of that name is hard to be rid of."""
    if str(output) == _NOTHING:
        raise UsageError(f"the output is a file or a folder, and {_NOTHING} names none; name one")


def _refuse_mixing(output: Path, inputs: Sequence[Path]) -> None:
    """A delta written into its own source or target would be part of what it describes."""
    refuse_overlap(output, inputs)
    place = Path(os.path.realpath(output))
    for one in inputs:
        if Path(os.path.realpath(one)) in place.parents:
            raise UsageError(f"the output {output} lies in the input {one}; name a place outside")


def _total_bytes(target: Path) -> int:
    if str(target) == _NOTHING:
        raise UsageError("only SOURCE can be none; TARGET names a file or a folder")
    with open_tree(target) as files:
        return sum(file.size_bytes for file in files)


def _share(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""


def _files(files: Sequence[FileRef]) -> list[dict[str, Any]]:
    return [
        {"path": file.path, "size_bytes": file.size_bytes, "digest": str(file.digest)}
        for file in files
    ]


def _print_files(what: str, files: Sequence[FileRef]) -> None:
    if files:
        rows = [[file.path, bytes_text(file.size_bytes), file.digest.short] for file in files]
        print_table([f"{what} file", "size", "digest"], rows)


def _print_methods(methods: Mapping[str, MethodUse]) -> None:
    rows = [
        [name, str(use.records), bytes_text(use.target_bytes), bytes_text(use.delta_bytes)]
        for name, use in sorted(methods.items())
    ]
    print_table(["method", "records", "makes", "takes"], rows)


def main() -> None:
    """The program ``edge-delta``."""
    run(cli, "edge-delta")


if __name__ == "__main__":
    main()
