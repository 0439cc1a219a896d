"""``edge-quantize``: makes smaller variants of a model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from edge_sdk.base import RefusedError
from edge_sdk.base.command import (
    PathArgument,
    bytes_text,
    json_option,
    note,
    print_json,
    print_table,
    run,
)
from quantize.profiles import load_profile, profile_names

_PACKAGES = ("onnx", "onnxruntime")
_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")


@click.group()
@click.version_option(package_name="edge-model-sdk", prog_name="edge-quantize")
@_DEBUG
def cli() -> None:
    """Make smaller variants of a model for a target, repeatably.

    \b
    Example:
      edge-quantize compile digits.onnx --target onnx-cpu-x86 --calibration samples.npz -o int8
    """


@cli.command("compile")
@click.argument("model", type=PathArgument())
@click.option("--target", required=True, help="One of `edge-quantize targets`.")
@click.option(
    "--calibration",
    required=True,
    type=PathArgument(),
    help="NPZ file: one array for each input, samples along the first axis.",
)
@click.option("-o", "--output", "folder", required=True, type=PathArgument(), help="New folder.")
@click.option("--force", is_flag=True, help="Replace a folder that this command made before.")
@json_option
@_DEBUG
def compile_command(
    *, model: Path, target: str, calibration: Path, folder: Path, force: bool, as_json: bool
) -> None:
    """Quantise MODEL for a target into a folder: model.onnx and report.json.

    \b
    Example:
      edge-quantize compile digits.onnx --target onnx-cpu-x86 --calibration samples.npz -o int8
    """
    _check_installed()
    # Heavy: the engine and its quantiser, which --help must not wait for.
    from quantize.compile import compile_model

    if sys.stderr.isatty():
        note(f"quantising {model} for {target}")
    made = compile_model(
        model, target=target, calibration=calibration, folder=folder, replace=force
    )
    if as_json:
        print_json({"folder": str(made.folder), "model": str(made.model), "report": made.report})
    else:
        _show(made.model, made.report)


def _check_installed() -> None:
    """Raises: RefusedError (a package is missing)."""
    if any(importlib.util.find_spec(one) is None for one in _PACKAGES):
        raise RefusedError(
            "quantising needs packages that are not installed: pip install "
            "'edge-model-sdk[quantize]'"
        )


def _show(model: Path, report: dict[str, Any]) -> None:
    source, target = report["source"], report["model"]
    click.echo(
        f"{model}: {bytes_text(target['size_bytes'])}, "
        f"{target['share_of_source']:.0%} of {bytes_text(source['size_bytes'])}"
    )
    rows = []
    for name, one in report["agreement_on_calibration"].items():
        flips = "-" if one["flips"] is None else f"{one['flips']:.2%}"
        difference = f"{one['root_mean_square_difference']:.4g} of {one['root_mean_square']:.4g}"
        rows.append([name, difference, f"{one['max_abs_difference']:.4g}", flips])
    print_table(["output", "mean difference", "largest", "flips"], rows)
    click.echo("measured on the calibration samples; measure accuracy on samples of its own")


@cli.command()
@json_option
@_DEBUG
def targets(as_json: bool) -> None:
    """List the targets.

    \b
    Example:
      edge-quantize targets --json
    """
    profiles = [load_profile(name) for name in profile_names()]
    if as_json:
        print_json({"targets": [{"name": one.name, "summary": one.summary} for one in profiles]})
    else:
        print_table(["target", "what it is"], [[one.name, one.summary] for one in profiles])


def main() -> None:
    """The program ``edge-quantize``."""
    run(cli, "edge-quantize")


if __name__ == "__main__":
    main()
