"""Output files and folders of commands: whole or not at all."""

from __future__ import annotations

import atexit
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from edge_sdk.base.errors import ConflictError, NotFoundError, ResourceError, UsageError
from edge_sdk.base.leftovers import hold, remove_leftovers

T = TypeVar("T")

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
# What somebody named that the system does not take: the path has to change, not the program.
_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EBUSY, errno.ENXIO)


# What is half-made now. Ctrl-C may arrive between any two steps, also after a file was made and
# before the block that removes it is entered: what is still named here goes when we end.
_HALF_MADE: set[Path] = set()


@contextmanager
def whole_file(path: Path, *, replace: bool, private: bool = False) -> Iterator[BinaryIO]:
    """Opens a temporary file that takes the name ``path`` only when the block ends well.

    The bytes and the name are durable afterwards (fsync, rename, fsync of the folder). On
    any exception, Ctrl-C included, the temporary file is gone and ``path`` is untouched; what a
    killed process left goes when the next one writes here. ``private``: nobody but the owner can
    ever read it.

    Raises: ConflictError (``path`` is there and ``replace`` is false), NotFoundError (no
    such folder), UsageError (``path`` is a folder), ResourceError (disk full).
    """
    refuse_existing(path, replace=replace)
    temporary = _beside(path, "tmp")
    with _half_made(temporary), ExitStack() as stack:
        try:
            remove_leftovers(path.parent, _leftover_of(path))
            with _made_in(path, lambda: _open_held(temporary, private=private)) as stream:
                stack.callback(os.close, os.dup(stream.fileno()))  # held until it is renamed
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            refuse_existing(path, replace=replace)
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise explain_os_error(error, path) from error


@contextmanager
def whole_folder(path: Path, *, replace: bool) -> Iterator[Path]:
    """Makes a temporary folder that takes the name ``path`` only when the block ends well.

    All that the block put into it is durable afterwards. On any exception, Ctrl-C included,
    the temporary folder is gone and ``path`` is untouched.

    Raises: ConflictError (``path`` is there and ``replace`` is false), NotFoundError (no
    such folder to make it in), UsageError (no name for a folder), ResourceError (disk full).
    """
    _refuse_existing_folder(path, replace=replace)
    temporary = _beside(path, "tmp")
    with _half_made(temporary), ExitStack() as stack:
        try:
            remove_leftovers(path.parent, _leftover_of(path))
            stack.callback(os.close, _made_in(path, lambda: _make_held_folder(temporary)))
            yield temporary
            _sync_tree(temporary)
            _refuse_existing_folder(path, replace=replace)
            _take_place(temporary, path)
        except OSError as error:
            raise explain_os_error(error, path) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.{suffix}")


def _leftover_of(path: Path) -> re.Pattern[str]:
    return re.compile(re.escape(f".{path.name[:200]}.") + r"[0-9a-f]{12}\.tmp", re.DOTALL)


def _open_held(temporary: Path, *, private: bool) -> BinaryIO:
    mode = 0o600 if private else 0o666
    while True:
        stream = open(  # noqa: SIM115 - given to the caller
            temporary, "x+b", opener=lambda name, how: os.open(name, how, mode)
        )
        if hold(stream.fileno(), temporary):
            return stream
        stream.close()


def _make_held_folder(temporary: Path) -> int:
    """A handle that holds it."""
    while True:
        temporary.mkdir()
        handle = os.open(temporary, os.O_RDONLY)
        if hold(handle, temporary):
            return handle
        os.close(handle)


def _made_in(path: Path, make: Callable[[], T]) -> T:
    try:
        return make()
    except FileNotFoundError:
        raise NotFoundError(f"no folder {path.parent} to write {path.name} into") from None


@contextmanager
def _half_made(path: Path) -> Iterator[None]:
    """Removes ``path`` when the block ends; where it took its final name, nothing is left."""
    _HALF_MADE.add(path)
    try:
        yield
    finally:
        _remove(path)
        _HALF_MADE.discard(path)


@atexit.register
def _remove_half_made() -> None:
    for path in tuple(_HALF_MADE):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # what ended the work is what has to be said
            path.unlink()


def _take_place(temporary: Path, path: Path) -> None:
    """Renames; what stood there goes aside first and is deleted last."""
    aside = _beside(path, "old")
    try:
        if path.exists() or path.is_symlink():
            path.rename(aside)
        temporary.rename(path)
    finally:
        if not (path.exists() or path.is_symlink()) and (aside.exists() or aside.is_symlink()):
            aside.rename(path)
    sync_folder(path.parent)
    _remove(aside)


def _sync_tree(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            with (Path(folder) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_folder(Path(folder))


def _refuse_existing_folder(path: Path, *, replace: bool) -> None:
    if path.name in ("", ".."):
        raise UsageError(f"{path} cannot be made: name the folder itself")
    if not replace and (path.exists() or path.is_symlink()):
        raise ConflictError(f"{path} is already there; give --force to replace it")


def refuse_existing(path: Path, *, replace: bool) -> None:
    """Raises: UsageError (a folder or a device stands there), ConflictError (a file does, and
    is not to be replaced)."""
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; name a file to write")
    if not replace and mode is not None:
        raise ConflictError(f"{path} is already there; give --force to replace it")
    # A rename would put a plain file in the place of /dev/null.
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise UsageError(f"{path} is no regular file; name another file to write")


def refuse_unwritable(path: Path, *, replace: bool) -> None:
    """Said before what is to be written is worked for. Raises as ``refuse_existing``, and
    NotFoundError (no such folder), UsageError (not permitted)."""
    refuse_existing(path, replace=replace)
    folder = path.parent
    if not folder.is_dir():
        raise NotFoundError(f"no folder {folder} to write {path.name} into")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"no permission to write into {folder}")


def _mode(path: Path) -> int | None:
    """What stands at ``path``, or where a link there leads; None where nothing does."""
    try:
        return path.stat().st_mode
    except OSError as error:
        try:
            return path.lstat().st_mode  # a link that leads nowhere is something too
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            raise explain_os_error(error, path) from error


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses an output that would take the place of what it is made from.

    Raises: UsageError where ``output`` is one of ``inputs``, or a folder with one in it.
    """
    place = Path(os.path.realpath(output))
    for one in inputs:
        real = Path(os.path.realpath(one))
        if real == place or place in real.parents:
            how = "is" if real == place else "holds"
            raise UsageError(f"the output {output} {how} the input {one}; name another output")


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder durable: a rename is only as durable as its folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain_os_error(error: OSError, path: Path) -> Exception:
    """The typed error for a failed file operation; the error itself where it is no such case."""
    if error.errno in _OUT_OF_SPACE:
        return ResourceError(
            f"no space left to write {path}; free some and run it again", short="disk"
        )
    if error.errno == errno.EFBIG:
        return ResourceError(
            f"{path} would be larger than a file may be here; allow more (ulimit -f), or write to "
            "a disk that takes it"
        )
    if error.errno in _TOO_MANY_FILES:
        return ResourceError(f"too many open files for {path}; allow more (ulimit -n)")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"no such file or folder: {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission for {path}")
    if isinstance(error, IsADirectoryError):
        return UsageError(f"{path} is a folder; a file is needed here")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{path} is not the kind of file that is needed here")
    if error.errno in _IMPOSSIBLE:
        return UsageError(f"{path} cannot be used: {error.strerror}")
    return error
