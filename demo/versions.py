"""From trained files to artifacts that can be published, with what their answers must be."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_sdk.fleet.publish import Draft, Prepared, prepare
from edge_sdk.formats import read_safetensors

MODEL = "demo/digits"
_INPUT, _OUTPUT = "input.", "output."

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One variant of one version, ready to be published.

    ``inputs`` and ``outputs`` are its golden sample: what a client may ask and must get.
    """

    version: str
    variant: str
    prepared: Prepared
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


def make_release(
    model: Path,
    *,
    version: str,
    variant: str,
    parent: str | None,
    golden: Path | None,
    require: Sequence[str] = (),
) -> Release:
    """Has the product write manifest and golden sample."""
    prepared = prepare(
        model,
        Draft(
            model=MODEL,
            version=version,
            variant=variant,
            parent=parent,
            golden=golden,
            require=require,
        ),
    )
    sample = _golden_of(prepared)
    return Release(
        version=version,
        variant=variant,
        prepared=prepared,
        inputs=_part(sample, _INPUT),
        outputs=_part(sample, _OUTPUT),
    )


def write_undamaged_sample(release: Release, path: Path) -> None:
    """Keeps the golden sample of ``release`` as an .npz with inputs and outputs, so that it can
    be published with files that were changed since."""
    tensors = {_INPUT + name: array for name, array in release.inputs.items()}
    tensors |= {_OUTPUT + name: array for name, array in release.outputs.items()}
    _save(path, tensors)


def write_expected(releases: Sequence[Release], path: Path) -> None:
    """What ``demo.client`` may see: the inputs, and each version's outputs for them."""
    first = releases[0]
    tensors = {f"input/{name}": array for name, array in first.inputs.items()}
    for release in releases:
        for name, array in release.inputs.items():
            np.testing.assert_array_equal(array, first.inputs[name])
        for name, array in release.outputs.items():
            tensors[f"{release.version}/{name}"] = array
    _save(path, tensors)


def _save(path: Path, tensors: Mapping[str, Array]) -> None:
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **tensors)


def _part(sample: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): array
        for name, array in sample.items()
        if name.startswith(prefix)
    }


def _golden_of(prepared: Prepared) -> dict[str, Array]:
    golden = prepared.manifest.golden
    entry = prepared.manifest.file(golden.path) if golden else None
    if entry is None:
        return {}
    with (
        tempfile.NamedTemporaryFile(suffix=".safetensors") as file,
        prepared.contents[entry.digest].open() as stream,
    ):
        file.write(stream.read())
        file.flush()
        return read_safetensors(Path(file.name))
