"""The shell that all commands share: errors to exit codes, ``--json``, progress, settings.

Every command writes results to standard output and everything else to standard error. An
error is one line that says what is wrong, with which input, and what to do; a traceback
is shown only with ``--debug``.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from edge_sdk.base.errors import EdgeError, FormatError, ResourceError, UsageError
from edge_sdk.base.files import explain_os_error
from edge_sdk.base.garbage import leave_alone
from edge_sdk.base.names import ModelName, Version, check_segment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXIT_INTERRUPTED = 130
EXIT_DEFECT = 1

# By these rich takes for a terminal what is none.
_TERMINAL_NAMES = ("FORCE_COLOR", "TTY_COMPATIBLE")

# Whether a document is on standard output: an error after it must not become a second one.
_PRINTED: ContextVar[bool] = ContextVar("printed", default=False)

# Of every command and sub-command.
_HELP = ["-h", "--help"]

Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(command: Function) -> Function:
    """Adds ``--json``: one document on standard output and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


class PathArgument(click.Path):
    """A path that is given, as ``Path``: an empty name (an unset variable of a script) would
    be the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name is no file or folder", param, ctx)
        return super().convert(value, param, ctx)


class NameArgument(click.types.StringParamType):
    """A name that is given: one that ``check`` refuses is wrong usage, no damaged input."""

    name = "name"

    def __init__(self, check: Callable[[str], object]) -> None:
        super().__init__()
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            self._check(value)
        except FormatError as error:
            self.fail(error.message, param, ctx)
        return value


MODEL = NameArgument(ModelName.parse)
VERSION = NameArgument(Version.parse)
DEVICE = NameArgument(lambda text: check_segment(text, "device"))


def run(command: click.Command, name: str) -> NoReturn:
    """Runs a click command as a program: the only place where errors become exit codes."""
    # What gRPC logs about a port or a peer is in our error too, which is one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _hold_standard_streams()
    _unwind_on_signals()
    _PRINTED.set(False)
    leave_alone()
    try:
        code = _outcome(command, name, sys.argv[1:])
    finally:
        _flush()
    leave_alone(searches=False)  # at the interpreter's end nobody needs the memory back
    sys.exit(code)


def _hold_standard_streams() -> None:
    """Closed ones lead nowhere, and no name of a file is too strange to be shown.

    Where standard output is closed, the next file opened would take its number, and Python
    has no stream for it at all.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _unwind_on_signals() -> None:
    """Unwinds like Ctrl-C, so that half-written files go away; daemons set handlers of their own.

    SIGHUP, a terminal that was closed, only where nobody (nohup) asked to ignore it.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda signum, _frame: sys.exit(128 + signum))


def _outcome(command: click.Command, name: str, arguments: list[str]) -> int:
    """Runs the command; what it ends with, said and as an exit code."""
    debug = "--debug" in arguments
    as_json = "--json" in arguments
    try:
        return _invoke(command, name, arguments)
    except BrokenPipeError:
        # The reader of our output went away; say nothing, as other tools do.
        _drop_output()
        return 128 + signal.SIGPIPE
    except (KeyboardInterrupt, click.exceptions.Abort):
        words = "interrupted; nothing was left half-written"
        return _say(name, "Interrupted", words, EXIT_INTERRUPTED, as_json=as_json)
    except click.ClickException as error:
        return _report(name, _wrong_usage(error), as_json=as_json)
    except (EdgeError, OSError, MemoryError) as error:
        if debug:
            raise
        typed = _typed(error)
        if typed is None:
            return _defect(name, error, as_json=as_json)
        return _report(name, typed, as_json=as_json)
    except Exception as error:
        if debug:
            raise
        return _defect(name, error, as_json=as_json)


def _invoke(command: click.Command, name: str, arguments: list[str]) -> int:
    stdout = sys.stdout
    try:
        ended = command.main(
            args=arguments, prog_name=name, standalone_mode=False, help_option_names=_HELP
        )
    except SystemExit:
        # When the reader of our output went away, click wraps the streams and exits with 1,
        # which is our code for a defect (test_closed_pipe_is_quiet).
        if sys.stdout is not stdout:
            raise BrokenPipeError from None
        raise
    sys.stdout.flush()
    # Not standalone, click returns the code of ctx.exit() in place of the command's result.
    return ended if isinstance(ended, int) else 0


def _wrong_usage(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    hint = f" (see '{context.command_path} --help')" if context else ""
    # Its message is the whole help.
    bare = type(error).__name__ == "NoArgsIsHelpError"
    words = "a command is missing" if bare else error.format_message() + _instead(error)
    return UsageError(words + hint)


def _instead(error: click.ClickException) -> str:
    """For a command that there is not: which one is meant, else which there are."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    found = re.match("No such command '([^']*)'", message)
    if found is None or context is None or "Did you mean" in message:
        return ""
    known = sorted(context.command.list_commands(context))
    like = difflib.get_close_matches(found[1], known) or [
        one for one in known if one[:2] == found[1][:2]
    ]
    return (
        f" Did you mean {' or '.join(map(repr, like))}?"
        if like
        else f" There are {', '.join(known)}."
    )


def _typed(error: BaseException) -> EdgeError | None:
    """The typed error for what the system refused; None where the defect is ours."""
    if isinstance(error, EdgeError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError("there is not enough memory for this")
    if isinstance(error, OSError):
        place = error.filename
        if isinstance(place, bytes):
            place = os.fsdecode(place)
        # Only writing to a standard stream fails without a name.
        explained = explain_os_error(error, Path(str(place or "standard output")))
        return explained if isinstance(explained, EdgeError) else None
    return None


def _report(name: str, error: EdgeError, *, as_json: bool) -> int:
    facts = {key: _plain(value) for key, value in error.facts.items()}
    return _say(name, error.reason, error.message, error.exit_code, as_json=as_json, facts=facts)


def _defect(name: str, error: Exception, *, as_json: bool) -> int:
    words = f"a defect of ours: {type(error).__name__}: {error}; run again with --debug"
    return _say(name, "Defect", words, EXIT_DEFECT, as_json=as_json)


def _say(
    name: str,
    reason: str,
    message: str,
    exit_code: int,
    *,
    as_json: bool,
    facts: Mapping[str, object] | None = None,
) -> int:
    """One line on standard error, and the one document unless the command printed it already."""
    message = printable(" ".join(message.split()))
    with suppress(OSError):
        click.echo(f"{name}: {message}", err=True)
    if as_json and not _PRINTED.get():
        error = {"reason": reason, "message": message, "exit_code": exit_code}
        with suppress(OSError):
            print_json({"error": error if facts is None else {**error, "facts": facts}})
    return exit_code


def _flush() -> None:
    """Nothing may fail when Python itself flushes at the end: it would change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _plain(value: object) -> object:
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    _PRINTED.set(True)
    click.echo(json.dumps(document, indent=2, sort_keys=True, default=str))


def print_table(columns: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """A table for people; plain where standard output is no terminal or ``NO_COLOR`` is set."""
    # Imported where something is drawn: it takes as long as a small delta takes to apply.
    from rich.console import Console
    from rich.table import Table

    class OwnConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            """As everywhere: ``run`` ends the program (rich would exit with 1)."""
            raise BrokenPipeError

    table = Table(*columns, title=title, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(printable, row))
    # Cells are text of devices and models: "[agent]" is no markup and ":ok:" no picture.
    console = OwnConsole(
        highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty()
    )
    if not sys.stdout.isatty():
        console.width = max(console.width, 200)
    console.print(table)


def printable(text: str) -> str:
    """``text`` without what would steer a terminal: a peer's words are only shown."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def bytes_text(count: int) -> str:
    """Bytes for people, decimal units: 12.7 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


@contextmanager
def progress(label: str, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, only on a terminal. Yields ``advance(byte_count)``."""
    if not (sys.stderr.isatty() or any(map(os.environ.get, _TERMINAL_NAMES))):
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _count: None
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda count: bar.advance(task, count)


def note(message: str) -> None:
    """One line for people on standard error."""
    click.echo(printable(message), err=True)


class Settings:
    """Where each setting came from: a flag, the environment (``EDGE_*``), one TOML file, or
    the default; the first that has it wins.

    ``table`` is the table of the TOML file that belongs to this command, such as ``agent``;
    the environment name of its key ``state_dir`` is then ``EDGE_AGENT_STATE_DIR``.
    """

    def __init__(self, table: str, file: Path | None) -> None:
        self.table = table
        self.file = file
        self._values = _read_table(file, table) if file else {}
        self._origins: dict[str, tuple[Any, str]] = {}

    def get(self, key: str, flag: Any, default: Any) -> Any:
        """The value of ``key``; text from the environment takes the default's type.

        Raises: UsageError where a text cannot be read as that type.
        """
        name = f"EDGE_{self.table}_{key}".upper().replace("-", "_")
        if flag is not None:
            value, origin = flag, "flag"
        elif name in os.environ:
            value, origin = _convert(os.environ[name], default, name), f"environment {name}"
        elif key in self._values:
            value, origin = self._values[key], f"file {self.file}"
            if not _fits(value, default):
                raise UsageError(f"{key} in {self.file} must be a {type(default).__name__}")
        else:
            value, origin = default, "default"
        self._origins[key] = (value, origin)
        return value

    def unknown(self) -> list[str]:
        """Keys of the file's table that nothing asked for: most likely misspelt."""
        return sorted(set(self._values) - set(self._origins))

    def add_shown(self, key: str, value: Any, origin: str) -> None:
        """A setting that ``get`` does not know, for ``shown``."""
        self._origins[key] = (value, origin)

    def shown(self) -> dict[str, dict[str, Any]]:
        """For ``config show``: each key with its value and where it came from."""
        return {
            key: {"value": value, "from": origin}
            for key, (value, origin) in sorted(self._origins.items())
        }


def _fits(value: Any, default: Any) -> bool:
    """Whether a value of the TOML file has the type of the default; None fits everything."""
    if isinstance(value, bool) or isinstance(default, bool):
        return default is None or type(value) is type(default)
    if isinstance(default, float):
        return isinstance(value, (int, float))
    return not isinstance(default, (int, str)) or isinstance(value, type(default))


def read_toml(file: Path) -> dict[str, Any]:
    """Raises: UsageError (cannot be read), FormatError (is no TOML)."""
    try:
        # Asked before opening: a FIFO would wait for a writer, /dev/zero never end.
        if not stat.S_ISREG(file.stat().st_mode):
            raise UsageError(f"cannot read the configuration {file}: it is no regular file")
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise UsageError(f"cannot read the configuration {file}: {error.strerror}") from None
    except RecursionError:
        raise FormatError(f"the configuration {file} is nested too deep") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise FormatError(f"the configuration {file} is not TOML: {error}") from None


def _read_table(file: Path, table: str) -> dict[str, Any]:
    values = read_toml(file).get(table, {})
    if not isinstance(values, dict):
        raise FormatError(f"[{table}] in {file} must be a table")
    return values


def _convert(text: str, default: Any, name: str) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off", ""):
            return False
        raise UsageError(f"{name}={text!r} is neither true nor false")
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            raise UsageError(f"{name}={text!r} is not a number") from None
    return text
