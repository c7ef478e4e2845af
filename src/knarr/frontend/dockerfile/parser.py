"""A Dockerfile's bytes into records: stages with their instructions, each knowing its lines.

    >>> file = parse(b"FROM alpine AS base\\nRUN echo hi\\n")
    >>> file.stages[0].name, file.stages[0].instructions[0].keyword
    ('base', 'RUN')

Nothing is expanded and nothing outside the bytes is looked at. Spec: Dockerfile
reference 1.26; where that is silent, BuildKit's parser of the same version.
"""

from __future__ import annotations

from collections.abc import Iterator

from knarr.errors import DockerfileError, Span
from knarr.frontend.dockerfile.grammar import read, stage_doc
from knarr.frontend.dockerfile.instructions import Arg, Dockerfile, Finding, From, Instruction, Maintainer, Stage
from knarr.frontend.dockerfile.lexer import Lexer, LogicalLine
from knarr.frontend.dockerfile.statement import Statement, split
from knarr.frontend.dockerfile.words import split_blanks
from knarr.record import replace


def parse(data: bytes, *, filename: str = "Dockerfile", findings: list[Finding] | None = None) -> Dockerfile:
    """Parse a whole file. `findings` has what was seen even when the file turns out not to be one.

    Raises:
        DockerfileError: always with the lines it is about, and an excerpt of them.
    """
    lexer = Lexer(data, filename)
    findings = [] if findings is None else findings
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for instruction in _instructions(lexer, findings):
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise DockerfileError(
                f"no build stage in current context: {instruction.written} before the first FROM",
                hint="only ARG may stand before FROM",
                span=instruction.span,
                excerpt=lexer.excerpt,
            )
    if not stages and not global_args:
        raise DockerfileError(
            "file with no instructions", hint="the least is one FROM", span=Span(filename, 1, 1), excerpt=lexer.excerpt
        )
    return Dockerfile(
        filename=filename,
        stages=tuple(Stage(index, from_, tuple(body), stage_doc(from_)) for index, (from_, body) in enumerate(stages)),
        global_args=tuple(global_args),
        directives=lexer.directives,
        escape=lexer.escape,
        findings=tuple(findings),
        excerpt=lexer.excerpt,
    )


def parse_trigger(expression: str, *, filename: str = "ONBUILD") -> Instruction:
    """The instruction of an ONBUILD trigger, from the text that an image config holds.

    Its span counts the lines of `expression`.

    Raises:
        DockerfileError: not exactly one instruction, or one that no stage can have.
    """
    lexer = Lexer(expression.encode("utf-8", "replace"), filename)
    found = list(_instructions(lexer, []))
    if len(found) != 1 or isinstance(found[0], From):
        raise DockerfileError(
            f"an ONBUILD trigger must be one instruction other than FROM, not: {expression}",
            span=Span(filename, 1, max(1, len(lexer.lines))),
            excerpt=lexer.excerpt,
        )
    return found[0]


def _instructions(lexer: Lexer, findings: list[Finding]) -> Iterator[Instruction]:
    for line in lexer:
        try:
            statement = _statement(lexer, line)
            if statement.keyword == "FROM":
                findings.extend(_casing(statement))
            instruction = read(statement)
        except DockerfileError as error:
            span = Span(lexer.filename, line.first, max(line.last, lexer.line_number))
            findings.extend(_empty_lines(lexer, line))
            error.unread = True
            raise error.with_context(span=span, excerpt=lexer.excerpt) from None
        findings.extend(_findings(line, instruction))
        yield instruction


def _empty_lines(lexer: Lexer, line: LogicalLine) -> Iterator[Finding]:
    """Those from `line` on to the end of the file: BuildKit sees them before it looks at any instruction."""
    try:
        yield from _empty_line(lexer.filename, line)
        for line in lexer:
            yield from _empty_line(lexer.filename, line)
            _statement(lexer, line)  # skips the bodies of heredocs
    except DockerfileError:
        return  # the first error is the one that is told


def _empty_line(filename: str, line: LogicalLine) -> Iterator[Finding]:
    if line.empty_continuation:
        yield Finding("NoEmptyContinuation", Span(filename, line.last, line.last))


def _statement(lexer: Lexer, line: LogicalLine) -> Statement:
    statement = split(line.text, Span(lexer.filename, line.first, line.last), lexer.escape, line.comments)
    opened = statement.opened_heredocs()
    if not opened:
        return statement
    try:
        heredocs = tuple(lexer.take_heredoc(doc) for doc in opened)
    except DockerfileError as error:
        # The place to look is where the heredoc begins, not the end of the file.
        raise error.with_context(span=statement.span) from None
    span = Span(lexer.filename, line.first, lexer.line_number)
    return replace(statement, span=span, heredocs=heredocs)


def _findings(line: LogicalLine, instruction: Instruction) -> Iterator[Finding]:
    span, comments = instruction.span, instruction.comments
    yield from _empty_line(span.file, line)
    if isinstance(instruction, Maintainer):
        yield Finding("MaintainerDeprecated", span, (), comments)
    elif isinstance(instruction, Arg):
        if comments:
            yield from _misplaced(span, comments, "ARG", [arg.key for arg in instruction.args])
    elif isinstance(instruction, From) and instruction.name and comments:
        yield from _misplaced(span, comments, "FROM", [instruction.name])


def _casing(statement: Statement) -> Iterator[Finding]:
    """How FROM, AS and the name are written: seen before the words are known to make sense."""
    span, comments, written = statement.span, statement.comments, statement.written
    words = split_blanks(statement.rest)
    if len(words) == 3 and words[2] != words[2].lower():
        yield Finding("StageNameCasing", span, (words[2],), comments)
    if len(words) > 2 and written in (written.lower(), written.upper()):
        in_case = str.lower if written == written.lower() else str.upper
        if words[1] != in_case(words[1]):
            yield Finding("FromAsCasing", span, (written, words[1]), comments)


def _misplaced(span: Span, comments: tuple[str, ...], keyword: str, names: list[str]) -> Iterator[Finding]:
    """A comment that is taken for the description of one of `names`, and does not begin with any."""
    if comments[-1].split(" ")[0] not in names:
        example = names[0] if len(names) == 1 else "<arg_key>"
        yield Finding("InvalidDefinitionDescription", span, (keyword, example), comments)
