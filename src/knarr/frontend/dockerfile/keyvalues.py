"""ARG, ENV and LABEL: names with values."""

from __future__ import annotations

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.flags import read_flags
from knarr.frontend.dockerfile.instructions import Arg, ArgValue, Env, KeyValue, Label
from knarr.frontend.dockerfile.statement import Statement, common, doc_of, lacking
from knarr.frontend.dockerfile.words import quoted_words, split_first


def read_arg(statement: Statement) -> Arg:
    read_flags("ARG", statement.flags)
    args = []
    for word in quoted_words(statement.rest, statement.escape):
        key, equals, value = word.partition("=")
        if not key:
            raise DockerfileError("ARG names can not be blank", hint="ARG NAME=default, without a blank before the =")
        args.append(ArgValue(key, value if equals else None, doc_of(statement.comments, key)))
    if not args:
        raise lacking("ARG", "at least one argument")
    return Arg(**common(statement), args=tuple(args))


def read_env(statement: Statement) -> Env:
    return Env(**common(statement), pairs=_pairs(statement))


def read_label(statement: Statement) -> Label:
    return Label(**common(statement), pairs=_pairs(statement))


def written_pairs(statement: Statement) -> tuple[KeyValue, ...]:
    """`key=value …`, or the old `key rest of the line` when the first word has no equals sign; perhaps none.

    Raises:
        DockerfileError: a word that is no pair. No span yet.
    """
    keyword = statement.keyword
    words = quoted_words(statement.rest, statement.escape)
    if words and "=" not in words[0]:
        key, value = split_first(statement.rest)
        if value is None:
            raise DockerfileError(f"{keyword} must have two arguments", hint=f"{keyword} {key}=value")
        return (KeyValue(key, value, legacy=True),)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(
                f"Syntax error - can't find = in {_go_quoted(word)}. Must be of the form: name=value",
                hint="put a value that has spaces in double quotes",
            )
        pairs.append(KeyValue(key, value))
    return tuple(pairs)


def _pairs(statement: Statement) -> tuple[KeyValue, ...]:
    keyword = statement.keyword
    read_flags(keyword, statement.flags)
    pairs = written_pairs(statement)
    if not pairs:
        raise lacking(keyword, "at least one argument")
    if any(not pair.key for pair in pairs):
        hint = f"{keyword} NAME=value, without a blank before the ="
        raise DockerfileError(f"{keyword} names can not be blank", hint=hint)
    return pairs


def _go_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
