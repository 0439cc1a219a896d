"""The file layer itself, and that nothing goes around it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import device_agent.store
from device_agent.store.filesystem import FileSystem

ROOM = Path(device_agent.store.__file__).parent


def test_only_the_file_layer_changes_files() -> None:
    """No other module of the store imports os or calls what changes a file."""
    changing = {"write_bytes", "write_text", "unlink", "rename", "replace", "mkdir", "rmdir"}
    for path in ROOM.glob("*.py"):
        if path.name == "filesystem.py":
            continue
        tree = ast.parse(path.read_text())
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "os" not in imported, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                assert node.func.attr not in changing or "files" in owner, (path, node.lineno)


def test_fsync_and_rename_are_called_in_one_place() -> None:
    """Only durable.py asks for syncs and renames (a partial syncs its open handles)."""
    for path in ROOM.glob("*.py"):
        if path.name in ("filesystem.py", "durable.py"):
            continue
        text = path.read_text()
        assert ".rename(" not in text, path
        assert ".sync_file(" not in text, path


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link or a folder is no file to read."""
    files = FileSystem()
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError):
        files.open_read(tmp_path / "link")
    with pytest.raises(OSError):
        files.open_read(tmp_path)
    assert files.names(tmp_path / "real") == []
    assert files.digests(tmp_path) == []


def test_positioned_writes(tmp_path: Path) -> None:
    """Bytes land where they belong, whatever was there."""
    files = FileSystem()
    handle = files.open_update(tmp_path / "f")
    files.write_at(handle, 4, b"5678")
    files.write_at(handle, 0, memoryview(b"1234"))
    files.sync_handle(handle)
    files.close(handle)
    assert files.read(tmp_path / "f") == b"12345678"
    files.truncate(tmp_path / "f", 3)
    assert files.size_bytes(tmp_path / "f") == 3
