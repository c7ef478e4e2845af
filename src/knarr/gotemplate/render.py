"""A template over data: `render("{{.Name}}", {"Name": "app"})`.

Data are dicts, lists, text, numbers, booleans and None. A field is looked for by
its key, then by a key that only differs in case and punctuation: `.OSVersion` finds
`os.version`, as Go's field of that name does. What is not there shows as nothing;
only a `Fields`, whose keys are all there is, makes a wrong name an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from knarr.errors import UsageError
from knarr.gotemplate.functions import BUILTIN, shown, truth
from knarr.gotemplate.parse import (
    Branch,
    Call,
    Field,
    Leave,
    Literal,
    Node,
    Operand,
    Pipe,
    Show,
    Text,
    Variable,
    parse,
)

Functions = Mapping[str, Callable[..., Any]]

_MAX_OUTPUT = 64 << 20  # characters


class Fields(dict[str, Any]):
    """A record whose members are all known: another name is a slip of the user."""


class _Left(Exception):
    """`break` or `continue`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


def render(text: str, data: object, functions: Functions | None = None) -> str:
    """What the template `text` gives for `data`. `functions` are added to Go's own.

    Raises:
        UsageError: malformed, a name that is not known, or a function that cannot take its arguments.
    """
    known: dict[str, Callable[..., Any]] = {**BUILTIN, **(functions or {})}
    run = _Run(data, known)
    run.nodes(parse(text), data)
    return "".join(run.out)


class _Run:
    def __init__(self, data: object, functions: Functions) -> None:
        self.out: list[str] = []
        self._size = 0
        self._functions: Functions = functions
        self._variables: list[tuple[str, object]] = [("$", data)]

    def nodes(self, nodes: Sequence[Node], dot: object) -> None:
        mark = len(self._variables)
        for node in nodes:
            if isinstance(node, Text):
                self._write(node.text)
            elif isinstance(node, Show):
                value = self._pipe(node.pipe, dot)
                if not node.pipe.declares:
                    self._write(shown(value))
            elif isinstance(node, Leave):
                raise _Left(node.kind)
            elif node.kind == "range":
                self._range(node, dot)
            else:
                self._choose(node, dot)
        del self._variables[mark:]

    def _write(self, text: str) -> None:
        self._size += len(text)
        if self._size > _MAX_OUTPUT:
            raise UsageError("template: there is no end to what it gives")
        self.out.append(text)

    def _choose(self, node: Branch, dot: object) -> None:
        mark = len(self._variables)
        value = self._pipe(node.pipe, dot)
        if truth(value):
            self.nodes(node.body, value if node.kind == "with" else dot)
        else:
            self.nodes(node.other, dot)
        del self._variables[mark:]

    def _range(self, node: Branch, dot: object) -> None:
        mark = len(self._variables)
        pairs = _pairs(self._value_of(node.pipe, dot))
        for key, value in pairs:
            names = node.pipe.declares
            if names:
                self._variables.append((names[-1], value))
            if len(names) == 2:
                self._variables.append((names[0], key))
            try:
                self.nodes(node.body, value)
            except _Left as left:
                if left.kind == "break":
                    break
            finally:
                del self._variables[mark:]
        if not pairs:
            self.nodes(node.other, dot)

    def _pipe(self, pipe: Pipe, dot: object) -> object:
        value = self._value_of(pipe, dot)
        for name in pipe.declares:
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: object) -> None:
        for at in reversed(range(len(self._variables))):
            if self._variables[at][0] == name:
                self._variables[at] = (name, value)
                return
        raise UsageError(f"template: variable {name} is not declared")

    def _value_of(self, pipe: Pipe, dot: object) -> object:
        value: object = None
        for number, command in enumerate(pipe.commands):
            value = self._command(command, dot, (value,) if number else ())
        return value

    def _command(self, operands: tuple[Operand, ...], dot: object, piped: tuple[object, ...]) -> object:
        first, rest = operands[0], operands[1:]
        if isinstance(first, Call):
            if first.name in ("and", "or"):
                return self._logic(first.name, rest, dot, piped)
            return self._call(first.name, [*(self._operand(one, dot) for one in rest), *piped])
        if rest or piped:
            raise UsageError("template: only a function takes arguments")
        return self._operand(first, dot)

    def _logic(self, name: str, operands: tuple[Operand, ...], dot: object, piped: tuple[object, ...]) -> object:
        """`and`, `or`: the first operand that decides; those behind it are not looked at."""
        value: object = None
        for operand in operands:
            value = self._operand(operand, dot)
            if truth(value) == (name == "or"):
                return value
        return piped[0] if piped else value

    def _call(self, name: str, arguments: list[object]) -> object:
        function = self._functions.get(name)
        if function is None:
            raise UsageError(
                f"template: function {name!r} is not known", hint=f"known: {', '.join(sorted(self._functions))}"
            )
        try:
            return function(*arguments)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise UsageError(f"template: {name}: {error}") from error

    def _operand(self, operand: Operand, dot: object) -> object:
        if isinstance(operand, Literal):
            return operand.value
        if isinstance(operand, Field):
            return _fields(dot, operand.path)
        if isinstance(operand, Call):
            return self._call(operand.name, [])
        if isinstance(operand, Variable):
            for name, value in reversed(self._variables):
                if name == operand.name:
                    return _fields(value, operand.path)
            raise UsageError(f"template: variable {operand.name} is not declared")
        return _fields(self._value_of(operand.pipe, dot), operand.path)


def _fields(value: object, path: Sequence[str]) -> object:
    for name in path:
        value = _field(value, name)
    return value


def _field(value: object, name: str) -> object:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise UsageError(f"template: .{name}: {shown(value)[:60]!r} has no fields")
    if name in value:
        return value[name]
    plain = _plain(name)
    for key in value:
        if _plain(str(key)) == plain:
            return value[key]
    if isinstance(value, Fields):
        raise UsageError(
            f"template: there is no field .{name}", hint=f"there is: {', '.join(f'.{key}' for key in value)}"
        )
    return None


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _pairs(value: object) -> list[tuple[object, object]]:
    """What `range` walks over: maps by sorted key, as Go does."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda pair: str(pair[0]))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(min(value, 1_000_000))]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return list(enumerate(value))
    raise UsageError(f"template: range can't iterate over {shown(value)[:60]}")
