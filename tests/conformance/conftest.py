"""The cases of the field's conformance suite for clients, named as there, played in process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import Repository


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def client(tmp_path: Path, repository: Repository) -> ClientRig:
    return ClientRig(tmp_path, repository)
