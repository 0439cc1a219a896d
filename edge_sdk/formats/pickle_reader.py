"""What a pickle would make, as values that only say so: nothing is imported, called or trusted.

A class or function is a ``Global``, a call of one is a ``Call``, what the pickler left to its
owner (storages of PyTorch) is a ``Persistent``, a dict is a ``Dictionary``, and a long string is
a ``Held`` range of the file. The values form a graph that may be shared and cyclic; whoever
walks it visits each once. Every opcode costs a constant, and there are at most OPCODES_MAX.
Source: pickletools.py of CPython (the table of opcodes)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edge_sdk.base import FormatError
from edge_sdk.formats.model_file import ModelFile

# About 30,000 tensors of PyTorch. They take seconds, and at most 300 MB of memory.
OPCODES_MAX = 1_000_000
# Longer strings stay where they are: names are shorter.
HELD_BYTES_MIN = 4096
_INTEGER_BYTES_MAX = 16
_DIGITS_MAX = 40


class TooLargeError(Exception):
    """A pickle of more opcodes than are read, as a large vocabulary beside the weights takes."""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function by its name."""

    module: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Bytes of the file that are a string, or a number of that length."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Persistent:
    """What the pickle's owner keeps elsewhere, under this id."""

    id: object


@dataclass(slots=True, eq=False)
class Dictionary:
    """Keys and values in their order; a key may be there twice."""

    items: list[tuple[object, object]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Call:
    """What a call would give, and what was then put into it."""

    function: object
    arguments: object
    items: list[tuple[object, object]] = field(default_factory=list)
    parts: list[object] = field(default_factory=list)
    state: object = None


# Told of each object that gets its state, and of the position behind; answers with the position
# from which to read on, for formats that have bytes of their own between two opcodes.
OnBuild = Callable[[Call, int], int]


def read_pickle(
    file: ModelFile, start: int, end: int | None = None, *, on_build: OnBuild | None = None
) -> tuple[object, int]:
    """The value of the pickle at ``start``, and the position behind it.

    Raises: FormatError, TooLargeError.
    """
    machine = _Machine(file, start, file.size_bytes if end is None else end, on_build)
    return machine.run(), machine.position


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, file: ModelFile, start: int, end: int, on_build: OnBuild | None) -> None:
        self.position = start
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.on_build = on_build
        self._file = file
        self._end = end
        self._opcode_at = start

    def run(self) -> object:
        actions, data = _ACTIONS, self._file.data
        for _turn in range(OPCODES_MAX):
            self._opcode_at = at = self.position
            if at >= self._end:
                raise self._file.damaged(at, "truncated: the pickle has no end")
            opcode = data[at]
            self.position = at + 1
            if opcode == _STOP:
                return self.pop()
            action = actions.get(opcode)
            if action is None:
                raise self.damaged(f"{opcode} is no opcode of a pickle")
            action(self)
        raise TooLargeError

    def damaged(self, what: str) -> FormatError:
        return self._file.damaged(self._opcode_at, what)

    def take(self, count: int) -> bytes:
        """The next bytes, few."""
        at = self.position
        if count > self._end - at:
            raise self.damaged("truncated: the pickle ends within an opcode")
        self.position = at + count
        return self._file.data[at : at + count]

    def skip(self, count: int) -> int:
        """Passes over the next bytes; where they begin."""
        at = self.position
        if not 0 <= count <= self._end - at:
            raise self.damaged("truncated: the pickle ends within an opcode")
        self.position = at + count
        return at

    def line(self, encoding: str = "utf-8") -> str:
        end = self._file.data.find(b"\n", self.position, self.position + HELD_BYTES_MIN)
        if not 0 <= end < self._end:
            raise self.damaged("a line of the pickle has no end, or is too long")
        at, self.position = self.position, end + 1
        return self._file.data[at:end].decode(encoding, "replace")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.damaged("the pickle takes from an empty stack")
        return self.stack.pop()

    def pops(self, count: int) -> list[object]:
        """The last values, in their order."""
        return [self.pop() for _turn in range(count)][::-1]

    def pop_mark(self) -> list[object]:
        """All values since the last mark, which goes too."""
        if not self.marks:
            raise self.damaged("the pickle ends what it did not begin")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def drop_mark(self) -> None:
        self.pop_mark()

    def top(self) -> object:
        if not self.stack:
            raise self.damaged("the pickle looks at an empty stack")
        return self.stack[-1]

    def integer(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def put(self, number: int) -> None:
        self.memo[number] = self.top()

    def get(self, number: int) -> None:
        if number not in self.memo:
            raise self.damaged("the pickle remembers what it never saw")
        self.push(self.memo[number])

    def string(self, length: int, *, is_text: bool) -> None:
        at = self.skip(length)
        if length >= HELD_BYTES_MIN:
            self.push(Held(at, length))
            return
        value = self._file.data[at : at + length]
        self.push(value.decode("utf-8", "replace") if is_text else value)

    def long(self, length: int) -> None:
        at = self.skip(length)
        few = length <= _INTEGER_BYTES_MAX
        value = self._file.data[at : at + length] if few else b""
        self.push(int.from_bytes(value, "little", signed=True) if few else Held(at, length))

    def escaped_line(self) -> None:
        text = self.line("raw-unicode-escape")
        self.push(text.encode("utf-8", "replace").decode())  # no half of a surrogate pair

    def digits(self) -> None:
        """A number written out; protocol 0 has booleans like this too."""
        text = self.line().removesuffix("L")
        try:
            if len(text) > _DIGITS_MAX:
                raise ValueError
            self.push(_BOOLEANS[text] if text in _BOOLEANS else int(text))
        except ValueError:
            raise self.damaged("a number of the pickle is none") from None

    def line_number(self) -> int:
        text = self.line()
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS_MAX:
            raise self.damaged("the pickle remembers under what is no number")
        return int(text)

    def float_line(self) -> None:
        try:
            self.push(float(self.line()))
        except ValueError:
            raise self.damaged("a number of the pickle is none") from None

    def call(self, function: object, arguments: object) -> None:
        self.push(Call(function, arguments))

    def add(self, values: list[object]) -> None:
        """Appends to the list, or whatever takes parts, below."""
        below = self.top()
        if isinstance(below, list):
            below += values
        elif isinstance(below, Call):
            below.parts += values
        else:
            raise self.damaged("the pickle appends to what is no list")

    def set_items(self, values: list[object]) -> None:
        below = self.top()
        if not isinstance(below, Dictionary | Call) or len(values) % 2:
            raise self.damaged("the pickle sets items of what has none")
        below.items += zip(values[::2], values[1::2], strict=True)

    def dictionary(self, values: list[object]) -> None:
        self.push(Dictionary())
        self.set_items(values)

    def build(self) -> None:
        state, below = self.pop(), self.top()
        if not isinstance(below, Call):
            return  # what has no state of its own here, a Persistent for one
        below.state = state
        if self.on_build is not None:
            self.position = self.on_build(below, self.position)

    def stack_global(self) -> None:
        module, name = self.pops(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.damaged("the pickle names a class by what is no text")
        self.push(Global(module, name))

    def new_object(self, values: list[object]) -> None:
        """A class and its arguments."""
        if not values:
            raise self.damaged("the pickle makes an object of nothing")
        self.call(values[0], tuple(values[1:]))

    def instance(self) -> None:
        made = Global(self.line(), self.line())
        self.call(made, tuple(self.pop_mark()))

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def drop(self) -> None:
        """One value, or a mark where nothing lies on it."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()


Action = Callable[[_Machine], None]


def _skipped(count: int) -> Action:
    def act(machine: _Machine) -> None:
        machine.skip(count)

    return act


def _constant(value: object) -> Action:
    return lambda machine: machine.push(value)


def _number(width: int, *, signed: bool = False) -> Action:
    return lambda machine: machine.push(machine.integer(width, signed=signed))


def _string(width: int, *, is_text: bool) -> Action:
    return lambda machine: machine.string(machine.integer(width), is_text=is_text)


def _tuple(count: int) -> Action:
    return lambda machine: machine.push(tuple(machine.pops(count)))


def _extension(width: int) -> Action:
    """A class by a number that a registry of the writer knew."""
    return lambda machine: machine.push(Global("", str(machine.integer(width))))


_DOUBLE = struct.Struct(">d")
_BOOLEANS = {"00": False, "01": True}
_STOP = ord(".")
_ACTIONS: Mapping[int, Action] = MappingProxyType(
    {
        # Frames and protocols say nothing; buffers outside of the file are somewhere else.
        0x80: _skipped(1),
        0x95: _skipped(8),
        0x97: lambda machine: machine.push(Persistent(None)),
        0x98: lambda machine: None,
        # Constants and numbers.
        ord("N"): _constant(None),
        0x88: _constant(True),
        0x89: _constant(False),
        ord("K"): _number(1),
        ord("M"): _number(2),
        ord("J"): _number(4, signed=True),
        0x8A: lambda machine: machine.long(machine.integer(1)),
        0x8B: lambda machine: machine.long(machine.integer(4)),
        ord("G"): lambda machine: machine.push(_DOUBLE.unpack(machine.take(8))[0]),
        ord("I"): _Machine.digits,
        ord("L"): _Machine.digits,
        ord("F"): _Machine.float_line,
        # Strings.
        ord("U"): _string(1, is_text=True),
        ord("T"): _string(4, is_text=True),
        0x8C: _string(1, is_text=True),
        ord("X"): _string(4, is_text=True),
        0x8D: _string(8, is_text=True),
        ord("C"): _string(1, is_text=False),
        ord("B"): _string(4, is_text=False),
        0x8E: _string(8, is_text=False),
        0x96: _string(8, is_text=False),
        ord("S"): lambda machine: machine.push(machine.line().strip("\"'")),
        ord("V"): _Machine.escaped_line,
        # The stack and what was seen before.
        ord("("): _Machine.mark,
        ord("0"): _Machine.drop,
        ord("1"): _Machine.drop_mark,
        ord("2"): lambda machine: machine.push(machine.top()),
        ord("p"): lambda machine: machine.put(machine.line_number()),
        ord("q"): lambda machine: machine.put(machine.integer(1)),
        ord("r"): lambda machine: machine.put(machine.integer(4)),
        0x94: lambda machine: machine.put(len(machine.memo)),
        ord("g"): lambda machine: machine.get(machine.line_number()),
        ord("h"): lambda machine: machine.get(machine.integer(1)),
        ord("j"): lambda machine: machine.get(machine.integer(4)),
        # Tuples, lists, dicts, sets (as lists).
        ord(")"): _constant(()),
        0x85: _tuple(1),
        0x86: _tuple(2),
        0x87: _tuple(3),
        ord("t"): lambda machine: machine.push(tuple(machine.pop_mark())),
        ord("]"): lambda machine: machine.push([]),
        0x8F: lambda machine: machine.push([]),
        ord("l"): lambda machine: machine.push(machine.pop_mark()),
        0x91: lambda machine: machine.push(machine.pop_mark()),
        ord("a"): lambda machine: machine.add([machine.pop()]),
        ord("e"): lambda machine: machine.add(machine.pop_mark()),
        0x90: lambda machine: machine.add(machine.pop_mark()),
        ord("}"): lambda machine: machine.push(Dictionary()),
        ord("d"): lambda machine: machine.dictionary(machine.pop_mark()),
        ord("s"): lambda machine: machine.set_items(machine.pops(2)),
        ord("u"): lambda machine: machine.set_items(machine.pop_mark()),
        # Classes, functions, calls.
        ord("c"): lambda machine: machine.push(Global(machine.line(), machine.line())),
        0x93: _Machine.stack_global,
        0x82: _extension(1),
        0x83: _extension(2),
        0x84: _extension(4),
        ord("R"): lambda machine: machine.call(*machine.pops(2)),
        0x81: lambda machine: machine.call(*machine.pops(2)),
        0x92: lambda machine: machine.call(*machine.pops(3)[:2]),
        ord("o"): lambda machine: machine.new_object(machine.pop_mark()),
        ord("i"): _Machine.instance,
        ord("b"): _Machine.build,
        ord("P"): lambda machine: machine.push(Persistent(machine.line())),
        ord("Q"): lambda machine: machine.push(Persistent(machine.pop())),
    }
)
