"""Adding an artifact is idempotent; changing one is impossible; lineage holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor import catalog
from edge_sdk.base import ConflictError, Digest, FormatError, NotFoundError, Version
from tests.support.artifacts import make_artifact
from tests.support.catalog import MODEL, open_catalog


def test_added_once(tmp_path: Path) -> None:
    """The very same artifact is added once and found with its manifest, byte for byte."""
    made = make_artifact({"m.bin": b"weights", "labels.txt": b"0 1 2"})
    with open_catalog(tmp_path) as one:
        assert one.add(made)
        assert not one.add(made)
        found = one.read(catalog.get_artifact, made.artifact)
        assert found.document == made.document
        assert found.manifest() == made.manifest
        assert [each.artifact for each in one.read(catalog.list_artifacts, None)] == [made.artifact]


def test_other_content_is_a_conflict(tmp_path: Path) -> None:
    """A version and variant that is there with other content is refused and stays."""
    first = make_artifact({"m.bin": b"one"})
    second = make_artifact({"m.bin": b"two"})
    with open_catalog(tmp_path) as one:
        one.add(first)
        with pytest.raises(ConflictError, match="other content") as refused:
            one.add(second)
        assert refused.value.facts["published"] == str(first.artifact)
        with pytest.raises(NotFoundError):
            one.read(catalog.get_artifact, second.artifact)


def test_variants_of_one_version(tmp_path: Path) -> None:
    """Two variants of a version stand beside each other, by name."""
    with open_catalog(tmp_path) as one:
        int8 = one.add_version("1.0.0", variant="int8")
        fp32 = one.add_version("1.0.0", variant="fp32")
        found = one.read(catalog.variants_of, MODEL, Version.parse("1.0.0"))
        assert [each.artifact for each in found] == [fp32, int8]
        with pytest.raises(NotFoundError, match="not published"):
            one.read(catalog.variants_of, MODEL, Version.parse("2.0.0"))


def test_a_parent_must_be_there(tmp_path: Path) -> None:
    """A version descends from a published one, or from none."""
    with open_catalog(tmp_path) as one:
        with pytest.raises(NotFoundError, match="publish it first"):
            one.add_version("2.0.0", parent="1.0.0")
        one.add_version("1.0.0")
        one.add_version("2.0.0", parent="1.0.0")
        with pytest.raises(FormatError, match="own parent"):
            one.add_version("3.0.0", parent="3.0.0")


def test_a_version_has_one_parent(tmp_path: Path) -> None:
    """Every variant of a version names the same parent."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.add_version("2.0.0", parent="1.0.0")
        with pytest.raises(ConflictError, match="must say the same"):
            one.add_version("2.0.0", variant="int8")


def test_blobs_are_shared(tmp_path: Path) -> None:
    """A file that two artifacts share is one blob; only the new one is missing."""
    with open_catalog(tmp_path) as one:
        first = make_artifact({"a": b"shared", "b": b"first"})
        second = make_artifact({"a": b"shared", "b": b"second"}, version="2.0.0")
        one.add(first)
        wanted = [entry.digest for entry in second.manifest.files]
        assert one.read(catalog.missing_blobs, [*wanted, *wanted]) == [wanted[1]]
        one.add(second)
        assert one.read(catalog.missing_blobs, wanted) == []
        assert one.read(catalog.blob_size, wanted[0]) == len(b"shared")
        with pytest.raises(NotFoundError):
            one.read(catalog.blob_size, Digest.of(b"unknown"))


def test_many_digests_at_once(tmp_path: Path) -> None:
    """More digests than one statement takes are looked up all the same."""
    with open_catalog(tmp_path) as one:
        many = [Digest.of(str(number).encode()) for number in range(1_700)]
        assert one.read(catalog.missing_blobs, many) == many
        assert one.read(catalog.find_artifacts, many) == {}


def test_versions_are_listed_in_their_order(tmp_path: Path) -> None:
    """1.10.0 comes after 1.9.0, and a pre-release before its release."""
    with open_catalog(tmp_path) as one:
        for version in ("1.10.0", "1.9.0", "1.10.0-rc.1"):
            one.add_version(version)
        found = one.read(catalog.list_artifacts, MODEL)
        assert [str(each.version) for each in found] == ["1.9.0", "1.10.0-rc.1", "1.10.0"]


def test_a_damaged_blob_is_missing_until_it_comes_again(tmp_path: Path) -> None:
    """What was found damaged is asked for again; adding the artifact again ends that."""
    made = make_artifact({"a": b"one", "b": b"two"})
    wanted = [entry.digest for entry in made.manifest.files]
    with open_catalog(tmp_path) as one:
        one.add(made)
        one.write(catalog.mark_damaged, wanted[1])
        assert one.read(catalog.missing_blobs, wanted) == [wanted[1]]
        assert not one.add(made)
        assert one.read(catalog.missing_blobs, wanted) == []


def test_the_history_is_the_order_of_publishing(tmp_path: Path) -> None:
    """A version that comes late stands last, whatever its number: keys never move. Of one
    moment the lower version comes first."""
    with open_catalog(tmp_path) as one:
        for version, at_ms in (("2.0.0", 1), ("1.10.0", 2), ("1.9.0", 2), ("1.0.1", 3)):
            made = make_artifact({"m.bin": version.encode()}, version=version)
            one.write(catalog.add_artifact, made.document, made.manifest, at_ms=at_ms, by="al")
        one.add_version("3.0.0", variant="int8")
        found = one.read(catalog.history_of, MODEL, "fp32")
        assert [str(each.version) for each in found] == ["2.0.0", "1.9.0", "1.10.0", "1.0.1"]
        assert len(one.read(catalog.history_of, None)) == 5
        assert {each.size_bytes for each in found} == {5, 6}


def test_shared_files_count_once(tmp_path: Path) -> None:
    """The bytes of several artifacts are those of their files, each once."""
    with open_catalog(tmp_path) as one:
        first = make_artifact({"m.bin": b"12345", "labels": b"abc"})
        second = make_artifact({"m.bin": b"1234567", "labels": b"abc"}, version="2.0.0")
        one.add(first)
        one.add(second)
        assert one.read(catalog.file_bytes, [first.artifact]) == 8
        assert one.read(catalog.file_bytes, [first.artifact, second.artifact]) == 15
