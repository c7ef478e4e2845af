"""The one hierarchy of failures, and how a failure is shown to a person.

A `KnarrError` carries facts in fields (where, what, which platform, what to do
next); `render` turns them into the text of docs/reference/errors.md. Whoever
knows a fact adds it to the field with `with_context` instead of wrapping one
sentence in another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knarr.record import field, record

_LINE = 200  # characters of a quoted line: an excerpt is for recognising the place
_MESSAGE = 2000


@record
class Span:
    """A place in a text the user wrote: lines `first`..`last` (1-based, inclusive) of `file`."""

    file: str
    first: int
    last: int
    column: int = 0  # 0: the whole line

    def __str__(self) -> str:
        return f"{self.file}:{self.first}"


@record
class Excerpt:
    """The source text a span points into, so that an error can quote it."""

    lines: tuple[str, ...] = field(default=(), repr=False)
    data: bytes = field(default=b"", repr=False)  # all of it as it was, for those who are far away
    definition: bytes = field(default=b"", repr=False)  # the LLB graph that the text was read from, where there is one
    language: str = "Dockerfile"

    def around(self, span: Span, *, margin: int = 2) -> list[str]:
        """The lines near `span`, numbered, the guilty ones marked `>>>`."""
        first = max(1, span.first - margin)
        last = min(len(self.lines), span.last + margin)
        width = len(str(last))
        shown = []
        for number in range(first, last + 1):
            mark = ">>>" if span.first <= number <= span.last else "   "
            shown.append(f"  {number:>{width}} | {mark} {_clean(self.lines[number - 1], _LINE)}".rstrip())
        return shown


def _clean(text: str, limit: int) -> str:
    """`text` on one line of at most `limit` characters, without what would work on a terminal or cannot be printed."""
    if len(text) > limit:
        text = text[:limit] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else " " if c == "\n" else "�" for c in text)


@record
class Remains:
    """What a failed step has left for whoever wants to look: trees by their builder's names, `""` where there is none.

    `inputs` are what it read, `outputs` what had become of its mounts, or of a file op's actions.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    op: bytes = field(default=b"", repr=False)  # as it was marshalled
    action: int | None = None  # of a file op: the one that failed
    selected: int | None = None  # the input that has not what was to be compared with the cache


class KnarrError(Exception):
    """Something failed that a user can be told about.

    `message` is one line: the fact. `hint` is the way out. `span` and `excerpt`
    say where in the user's text; `context` (stage, platform, registry …) is
    shown in parentheses behind the message, in insertion order.
    """

    exit_code = 1
    further: tuple[tuple[Span, Excerpt | None], ...] = ()  # more places, of graphs that others made
    remains: Remains | None = None  # of the step, if somebody may want to look
    vertex = ""  # the digest of the step in its graph, for programs

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        span: Span | None = None,
        excerpt: Excerpt | None = None,
        context: Mapping[str, str] | None = None,
    ) -> None:
        message = _clean(message, _MESSAGE)
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.span = span
        self.excerpt = excerpt
        self.context: dict[str, str] = dict(context or {})

    def with_context(
        self, *, span: Span | None = None, excerpt: Excerpt | None = None, hint: str = "", **context: str
    ) -> KnarrError:
        """Add facts that were not known where the error was made; earlier facts win."""
        self.span = self.span or span
        self.excerpt = self.excerpt or excerpt
        self.hint = self.hint or hint
        for key, value in context.items():
            self.context.setdefault(key, value)
        return self

    def render(self) -> str:
        """The whole text for standard error, without a trailing newline."""
        parts: list[str] = []
        if self.span is not None:
            parts.append(str(self.span))
            if self.excerpt is not None:
                parts.extend(self.excerpt.around(self.span))
        parts.extend(self.details())
        about = ", ".join(f"{key} {value}" for key, value in self.context.items() if value)
        parts.append(f"error: {self.message}" + (f" ({about})" if about else ""))
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)

    def details(self) -> Sequence[str]:
        """Lines shown between the excerpt and the message; a subclass may have some."""
        return ()


class UsageError(KnarrError):
    """The command line or a configuration file says something that cannot be meant."""

    exit_code = 2


class DockerfileError(KnarrError):
    """A Dockerfile that does not parse or compile; always has a span once it leaves the frontend."""

    unread = False  # the instruction cannot even be read

    @property
    def told(self) -> str:
        """The message as programs know it from BuildKit: what cannot be read is told with its line."""
        if not self.unread or self.span is None:
            return self.message
        return f"dockerfile parse error on line {self.span.first}: {self.message}"


class StepFailed(KnarrError):
    """A RUN ended badly: `step` as the user wrote it, its `status`, its last `output` lines."""

    def __init__(
        self,
        message: str,
        *,
        step: str,
        status: int,
        output: Sequence[str] = (),
        hint: str = "",
        context: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, context=context)
        self.step = step
        self.status = status
        self.output = tuple(output)

    def details(self) -> Sequence[str]:
        if not self.output:
            return ()
        return ["------", f" > {self.step}:", *self.output, "------"]


class ContentError(KnarrError):
    """A blob or a layer is missing or is not what its descriptor says."""


class NotFound(ContentError):
    """Nothing is known under this digest or name; or nothing is at `path` of a tree, which people call `tree`."""

    path = ""
    tree = ""

    def at(self, path: str, tree: str) -> NotFound:
        """This error, with the place in a tree."""
        self.path, self.tree = path, tree
        return self


class SharedLayerLost(ContentError):
    """A layer that a shared cache promised cannot be had: the build can be made again without that cache."""


class Hidden(NotFound):
    """The path is there, but `pattern` of an ignore file hides it."""

    def __init__(self, message: str, *, pattern: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.pattern = pattern


class DigestMismatch(ContentError):
    """The bytes do not hash to the digest they were asked for by."""


class SizeMismatch(ContentError):
    """There are more or fewer bytes than the descriptor says."""


class LayerInvalid(ContentError):
    """A layer tar that cannot be unpacked: malformed, or it reaches outside its root."""


class RegistryError(KnarrError):
    """A registry said no, or could not be reached.

    `status` is the HTTP status or 0 when there was no answer; `codes` are the
    error codes of distribution-spec; `temporary` tells whether a retry may help.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        codes: Sequence[str] = (),
        temporary: bool = False,
        hint: str = "",
        context: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, context=context)
        self.status = status
        self.codes = tuple(codes)
        self.temporary = temporary


class RuntimeFailed(KnarrError):
    """runc or crun could not start the container; the message keeps its own words.

    `program_status` is what shells say when it is the program's own fault: 127, it is not there; 126, it
    cannot be executed; 0: it is not.
    """

    program_status = 0


class Unsupported(KnarrError):
    """Something that exists in the field but not here: what it is, and what to use instead."""


class NothingLent(KnarrError):
    """The caller of a build lends no files at all."""


class Bug(KnarrError):
    """An invariant of knarr itself is broken."""

    exit_code = 70  # EX_SOFTWARE of sysexits.h

    def __init__(self, message: str, *, context: Mapping[str, str] | None = None) -> None:
        super().__init__(
            message,
            hint="this is a defect of knarr: please report it with the command line and this text",
            context=context,
        )


class Cancelled(BaseException):
    """The scope was cancelled. Not a failure: `except Exception` lets it pass."""
