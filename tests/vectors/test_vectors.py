"""Vectors: deltas that every decoder of the format must make files of, or must refuse."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from edge_sdk.base import DeltaError, EdgeError
from edge_sdk.delta import coder
from edge_sdk.delta.coder import twin
from tests.independent_decoder.decode import decode, decode_from
from tests.independent_decoder.survey import survey
from tests.support.deltas import Target
from tests.vectors.make import write
from tests.vectors.reading import Vector, digests, vectors

BACKENDS = [twin]
if coder.KERNEL == "c":
    from edge_sdk.delta.coder import kernel

    BACKENDS.append(kernel)


COMMITTED = Path(__file__).parent / "v1"


@pytest.fixture(scope="module")
def made() -> list[Vector]:
    return vectors(COMMITTED)


@pytest.fixture(params=BACKENDS, ids=[one.__name__.rsplit(".")[-1] for one in BACKENDS])
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: ModuleType = request.param
    monkeypatch.setattr(coder, "_chosen", backend)


def test_vectors_hold_everything(made: list[Vector]) -> None:
    """Each method, model, value map and shape of tables stands in some vector."""
    found = [survey(one.delta, one.sources) for one in made if not one.refused]
    assert set().union(*(one.methods for one in found)) == set(range(1, 6))
    assert set().union(*(one.models for one in found)) == {0, 1, 2, 3, 4}
    assert set().union(*(one.value_maps for one in found)) >= {0, 1, 2, 3, 4, 5, 6}
    assert max(set().union(*(one.levels for one in found))) > 1
    assert any(one.strides for one in found)
    assert sum(one.refused for one in made) >= 20


@pytest.mark.usefixtures("_backend")
def test_our_decoder_makes_what_vectors_say(made: list[Vector]) -> None:
    """Byte for byte."""
    for vector in made:
        if vector.refused:
            continue
        target = Target(vector.sources)
        feed(target, vector.delta)
        assert target.header is not None
        paths = [file.path for file in target.header.targets]
        files = dict(zip(paths, map(bytes, target.files), strict=True))
        assert digests(files) == vector.targets, vector.name


def test_independent_decoder_makes_what_vectors_say(made: list[Vector]) -> None:
    """The one that was written from FORMAT.md alone; also without the bytes before a chunk."""
    for vector in made:
        if vector.refused:
            continue
        files = decode(vector.delta, vector.sources)
        assert digests(files) == vector.targets, vector.name
        if any(files.values()):
            assert decode_from(vector.delta, vector.sources, 0) == b"".join(files.values())


@pytest.mark.usefixtures("_backend")
def test_decoders_refuse_what_vectors_say(made: list[Vector]) -> None:
    """With an error of the right kind, never with bytes that count."""
    for vector in made:
        if not vector.refused:
            continue
        with pytest.raises(EdgeError) as refused:
            feed(Target(vector.sources), vector.delta)
        assert isinstance(refused.value, DeltaError), vector.what
        with pytest.raises(ValueError, match=r"\w"):
            decode(vector.delta, vector.sources)


def test_a_vector_is_never_made_again(made: list[Vector], tmp_path: Path) -> None:
    """A folder that has one keeps it, byte for byte, and lacks none of those that are committed."""
    (tmp_path / "identical").mkdir()
    (tmp_path / "identical" / "delta").write_bytes(b"of earlier days")
    write(tmp_path)
    assert (tmp_path / "identical" / "delta").read_bytes() == b"of earlier days"
    assert [path.name for path in (tmp_path / "identical").iterdir()] == ["delta"]
    names = {one.name for one in vectors(tmp_path)} | {"identical"}
    assert names == {one.name for one in made}


def feed(target: Target, delta: bytes) -> None:
    decoder = target.decoder()
    decoder.feed(delta)
    decoder.finish()
    target.prove()
