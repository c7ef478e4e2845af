"""A template's text as a tree of nodes.

Spec: Go 1.22, package text/template, "Actions", "Arguments", "Pipelines", "Variables".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from knarr.errors import UsageError
from knarr.record import record

_ACTION = re.compile(
    r"\{\{(-(?=\s))?\s*"
    r"(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|'(?:\\.|[^'\\])+'|[^\"`'}]|\}(?!\}))*?)"
    r"\s*( -)?\}\}",
    re.S,
)
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:\\.|[^"\\])*"|`[^`]*`)
    | (?P<char>'(?:\\.|[^'\\])')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?))
    | (?P<variable>\$\w*(?:\.\w+)*)
    | (?P<field>(?:\.\w+)+)
    | (?P<dot>\.)
    | (?P<name>\w+)
    | (?P<mark>:=|=|\||\(|\)|,)
    )""",
    re.X,
)


@record
class Literal:
    value: object


@record
class Field:
    """`.A.B` of the current value."""

    path: tuple[str, ...]


@record
class Variable:
    name: str
    path: tuple[str, ...] = ()


@record
class Call:
    """A name: of a function."""

    name: str


@record
class Nested:
    """A pipeline in parentheses, perhaps with fields behind it."""

    pipe: Pipe
    path: tuple[str, ...] = ()


Operand = Literal | Field | Variable | Call | Nested


@record
class Pipe:
    """Commands, each a tuple of operands; `declares` are variables that get the value."""

    commands: tuple[tuple[Operand, ...], ...]
    declares: tuple[str, ...] = ()
    assigns: bool = False


@record
class Text:
    text: str


@record
class Show:
    pipe: Pipe


@record
class Branch:
    """`if`, `with` or `range`: `body` or `other`."""

    kind: str
    pipe: Pipe
    body: tuple[Node, ...]
    other: tuple[Node, ...] = ()


@record
class Leave:
    """`break` or `continue`."""

    kind: str


Node = Text | Show | Branch | Leave


def parse(text: str) -> tuple[Node, ...]:
    """The nodes of `text`.

    Raises:
        UsageError: malformed; says what and where.
    """
    parser = _Parser(list(_pieces(text)))
    nodes, end = parser.nodes(())
    if end:
        raise UsageError(f"template: unexpected {{{{{end}}}}}")
    return nodes


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Text and actions in turn; white space is trimmed where the marks say so."""
    at = 0
    trim = False
    while at < len(text):
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        match = _ACTION.match(text, start) if start >= 0 else None
        if start >= 0 and match is None:
            line = text.count("\n", 0, start) + 1
            raise UsageError(f"template: line {line}: an action is not closed with }}}}")
        if trim:
            plain = plain.lstrip()
        if match is not None and match[1]:
            plain = plain.rstrip()
        if plain:
            yield False, plain
        if match is None:
            return
        if not match[2].startswith("/*"):
            yield True, match[2].strip()
        trim = bool(match[3])
        at = match.end()


class _Parser:
    def __init__(self, pieces: list[tuple[bool, str]]) -> None:
        self._pieces = pieces
        self._at = 0

    def nodes(self, ends: tuple[str, ...]) -> tuple[tuple[Node, ...], str]:
        """Nodes up to an action that begins with one of `ends`, and that action (or the end)."""
        found: list[Node] = []
        while self._at < len(self._pieces):
            is_action, text = self._pieces[self._at]
            self._at += 1
            if not is_action:
                found.append(Text(text))
                continue
            word = text.split(None, 1)[0] if text else ""
            if word in ("end", "else"):
                if word in ends:
                    return tuple(found), text
                raise UsageError(f"template: unexpected {{{{{word}}}}}")
            found.append(self._action(word, text))
        if ends:
            raise UsageError("template: {{end}} is missing")
        return tuple(found), ""

    def _action(self, word: str, text: str) -> Node:
        if word in ("if", "with", "range"):
            return self._branch(word, text.removeprefix(word))
        if word in ("break", "continue"):
            return Leave(word)
        if word in ("define", "template", "block"):
            raise UsageError(f"template: {{{{{word}}}}} is not supported")
        if not text:
            raise UsageError("template: an action is empty")
        return Show(_Words(text).whole())

    def _branch(self, kind: str, text: str) -> Branch:
        pipe = _Words(text).whole()
        body, end = self.nodes(("end", "else"))
        other: tuple[Node, ...] = ()
        if end != "end":
            rest = end.removeprefix("else").strip()
            if rest:
                word = rest.split(None, 1)[0]
                if word != kind or kind == "range":
                    raise UsageError(f"template: unexpected {{{{{end}}}}}")
                other = (self._branch(word, rest.removeprefix(word)),)
            else:
                other, _ = self.nodes(("end",))
        return Branch(kind, pipe, body, other)


class _Words:
    """The words of one action."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, bool]] = []  # kind, text, whether white space stood before
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise UsageError(f"template: {text!r}: unexpected {text[at:].strip()[0]!r}")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind], match.start(kind) > at))
            at = match.end()
        self._at = 0

    def whole(self) -> Pipe:
        pipe = self._pipe()
        if self._at < len(self._tokens):
            raise self._unexpected()
        return pipe

    def _peek(self, ahead: int = 0) -> tuple[str, str, bool]:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ("", "", False)

    def _pipe(self) -> Pipe:
        declares, assigns = self._declared()
        commands = [self._command()]
        while self._peek()[1] == "|" and self._peek()[0] == "mark":
            self._at += 1
            commands.append(self._command())
        return Pipe(tuple(commands), declares, assigns)

    def _declared(self) -> tuple[tuple[str, ...], bool]:
        """`$x :=`, `$x =` or `$i, $x :=`, if the pipeline begins so."""
        for count in (1, 2):
            mark = self._peek(2 * count - 1)[1]
            if self._peek()[0] == "variable" and mark in (":=", "="):
                names = tuple(self._peek(2 * number)[1] for number in range(count))
                if count == 1 or self._peek(1)[1] == ",":
                    self._at += 2 * count
                    return names, mark == "="
        return (), False

    def _command(self) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while (operand := self._operand()) is not None:
            operands.append(operand)
        if not operands:
            raise self._unexpected()
        return tuple(operands)

    def _operand(self) -> Operand | None:
        kind, text, _ = self._peek()
        if kind == "" or (kind == "mark" and text != "("):
            return None
        self._at += 1
        if kind == "mark":
            pipe = self._pipe()
            if self._peek()[1] != ")":
                raise UsageError(f"template: {self._text!r}: a parenthesis is not closed")
            self._at += 1
            return Nested(pipe, self._fields_behind())
        if kind in ("text", "char", "number"):
            return Literal(_value(kind, text))
        if kind == "variable":
            name, *path = text.split(".")
            return Variable(name, tuple(path))
        if kind == "field":
            return Field(tuple(text[1:].split(".")))
        if kind == "dot":
            return Field(())
        constants = {"true": True, "false": False, "nil": None}
        return Literal(constants[text]) if text in constants else Call(text)

    def _fields_behind(self) -> tuple[str, ...]:
        kind, text, apart = self._peek()
        if kind != "field" or apart:
            return ()
        self._at += 1
        return tuple(text[1:].split("."))

    def _unexpected(self) -> UsageError:
        found = self._peek()[1]
        return UsageError(
            f"template: {self._text!r}: " + (f"unexpected {found!r}" if found else "something is missing")
        )


def _value(kind: str, text: str) -> object:
    if kind == "text":
        return text[1:-1] if text[0] == "`" else _unquoted(text)
    if kind == "char":
        return ord(_unquoted(f'"{text[1:-1]}"'))
    return float(text) if "." in text else int(text, 0) if text.lstrip("+-")[:2].lower() == "0x" else int(text)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unquoted(text: str) -> str:
    """The text that a Go string literal stands for."""

    def one(match: re.Match[str]) -> str:
        word = match[1]
        return chr(int(word[1:], 16)) if word[0] in "xuU" else _ESCAPES.get(word, word)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, text[1:-1], flags=re.S)
