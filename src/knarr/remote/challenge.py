"""`WWW-Authenticate`: what a registry asks for before it answers.

Spec: RFC 9110, 11.6.1. Registries put commas and quotes inside values, and
several challenges into one header, so this is a parser and not a split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from knarr.record import record

_SCHEME = re.compile(r"[\s,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|(?=,)|$)")
_PARAM = re.compile(r'[\s,]*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
_ESCAPED = re.compile(r"\\(.)")


@record
class Challenge:
    """One way to identify oneself: `basic` or `bearer` (lower case) and its parameters."""

    scheme: str
    params: Mapping[str, str]


def parse(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges in the values of the `WWW-Authenticate` headers; what is unreadable is left out."""
    found: list[Challenge] = []
    for text in headers:
        at = 0
        while match := _SCHEME.match(text, at):
            at = match.end()
            params: dict[str, str] = {}
            if token := _TOKEN68.match(text, at):
                at = token.end()
            while param := _PARAM.match(text, at):
                name, quoted, plain = param.groups()
                params[name.lower()] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
                at = param.end()
            found.append(Challenge(match[1].lower(), params))
    return tuple(found)
