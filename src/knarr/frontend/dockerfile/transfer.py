"""COPY and ADD: sources, inline files and a destination."""

from __future__ import annotations

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.flags import read_flags
from knarr.frontend.dockerfile.heredoc import heredoc_word
from knarr.frontend.dockerfile.instructions import Add, Copy, Heredoc
from knarr.frontend.dockerfile.statement import Statement, common, list_or_blanks
from knarr.record import replace


def read_copy(statement: Statement) -> Copy:
    words = _transfer_words(statement)
    flags = read_flags("COPY", statement.flags)
    sources, dest, heredocs = _sources(statement, words)
    return Copy(
        **common(statement),
        sources=sources,
        dest=dest,
        heredocs=heredocs,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.truth("link")),
        excludes=flags.many("exclude"),
        flags=flags.names,
        from_=flags.text("from"),
        parents=bool(flags.truth("parents")),
    )


def read_add(statement: Statement) -> Add:
    words = _transfer_words(statement)
    flags = read_flags("ADD", statement.flags)
    sources, dest, heredocs = _sources(statement, words)
    return Add(
        **common(statement),
        sources=sources,
        dest=dest,
        heredocs=heredocs,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.truth("link")),
        excludes=flags.many("exclude"),
        flags=flags.names,
        keep_git_dir=flags.truth("keep-git-dir"),
        checksum=flags.text("checksum"),
        unpack=flags.truth("unpack"),
    )


def _transfer_words(statement: Statement) -> tuple[str, ...]:
    words = list_or_blanks(statement.rest)
    if len(words) < 2:
        raise DockerfileError(
            f"{statement.keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
            hint=f"{statement.keyword} source destination",
        )
    return words


def _sources(statement: Statement, words: tuple[str, ...]) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
    *sources, dest = words
    if _inline(dest) is not None:
        raise DockerfileError(
            f"{statement.keyword} cannot accept a heredoc as a destination",
            hint=f"{statement.keyword} <<NAME /path: the path stands last",
        )
    bodies = {doc.name: doc.content for doc in statement.heredocs}
    paths = []
    inline = []
    for source in sources:
        opened = _inline(source)
        if opened is None:
            paths.append(source)
        else:
            inline.append(replace(opened, content=bodies.get(opened.name, "")))
    return tuple(paths), dest, tuple(inline)


def _inline(word: str) -> Heredoc | None:
    if "<<" not in word:
        return None
    try:
        return heredoc_word(word)
    except DockerfileError:
        return None
