"""Licences as SPDX expressions, from the words of each kind of package.

    expression(["GPL-2+", "Expat or my-own"])   # ("GPL-2.0-or-later AND (MIT OR LicenseRef-my-own)", {"my-own": …})

Names that SPDX has are taken as they are, whatever their case; those of Debian, of
Fedora before 2023 and of Python's classifiers are translated; all others become a
`LicenseRef-…`, which a document explains with the words that were found. Nothing is
guessed: "BSD" alone could be one of three licences, and stays what it is.

Specification: SPDX 2.3, annex D; the list of identifiers comes with `license-expression`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

_TOKEN = re.compile(r"\(|\)|,|;|(?<=\s)(?:and|or|with|AND|OR|WITH|And|Or|With)(?=[\s(])|[&|]+|/(?=\s)")
_GNU = re.compile(r"^(A|L)?GPL(?:-|\s*v|_)?\s?(\d)(?:\.(\d))?(?:\.0)?(\+|-or-later|-only)?$", re.IGNORECASE)
_GFDL = re.compile(r"^GFDL(-NIV)?-(1\.\d)(\+)?$", re.IGNORECASE)
_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST = 2000  # characters of one licence; longer ones are texts, not names

# What is called otherwise somewhere, by lower-case name. Only what means one licence and no other.
_ALIASES = {
    # Debian
    "expat": "MIT",
    "mit/x11": "MIT",
    "mit license": "MIT",
    "the mit license": "MIT",
    "mit license (mit)": "MIT",
    "bsd-3-clauses": "BSD-3-Clause",
    "bsd-2-clauses": "BSD-2-Clause",
    "3-bsd": "BSD-3-Clause",
    "artistic": "Artistic-1.0-Perl",
    "artistic-2": "Artistic-2.0",
    "apache-2": "Apache-2.0",
    "cc0": "CC0-1.0",
    "cc-by-sa-3": "CC-BY-SA-3.0",
    "mpl-2": "MPL-2.0",
    "psf-2": "PSF-2.0",
    "bsl": "BSL-1.0",
    "boost-1.0": "BSL-1.0",
    # Fedora, before it used SPDX's names
    "asl 2.0": "Apache-2.0",
    "mplv1.1": "MPL-1.1",
    "mplv2.0": "MPL-2.0",
    "boost": "BSL-1.0",
    "openssl": "OpenSSL",
    "gpl+": "GPL-1.0-or-later",
    "lgplv2": "LGPL-2.0-only",
    "lgplv2+": "LGPL-2.0-or-later",
    "epl": "EPL-1.0",
    # Python's classifiers
    "apache software license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mozilla public license 1.1 (mpl 1.1)": "MPL-1.1",
    "isc license (iscl)": "ISC",
    "isc license": "ISC",
    "the unlicense (unlicense)": "Unlicense",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0-or-later",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "gnu lesser general public license v2 (lgplv2)": "LGPL-2.0-only",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.0-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "gnu affero general public license v3": "AGPL-3.0-only",
    "gnu affero general public license v3 or later (agplv3+)": "AGPL-3.0-or-later",
    "boost software license 1.0 (bsl-1.0)": "BSL-1.0",
    "zope public license": "ZPL-2.1",
    "eclipse public license 2.0 (epl-2.0)": "EPL-2.0",
    "cc0 1.0 universal (cc0 1.0) public domain dedication": "CC0-1.0",
    "new bsd license": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
}


def expression(names: Sequence[str]) -> tuple[str, Mapping[str, str]]:
    """One expression that means all of `names`, and what each `LicenseRef-…` in it stands for.

    The expression is empty when there are no names.
    """
    parts: dict[str, None] = {}
    references: dict[str, str] = {}
    for name in names:
        text = in_line(name)
        if text:
            found = _one(text[:_LONGEST], references)
            parts.update(dict.fromkeys([found] if "(" in found or " OR " in found else found.split(" AND ")))
    if len(parts) == 1:
        return next(iter(parts)), references
    return " AND ".join(f"({part})" if " OR " in part else part for part in parts), references


def in_line(text: str) -> str:
    """`text` on one line, its words one blank apart, without the characters that no one sees and readers drop."""
    return " ".join(_UNSEEN.sub(" ", text).split())


def is_known(name: str) -> bool:
    """Whether `name` is an identifier of SPDX's list of licences."""
    return _known()[0].get(name.lower()) == name


def _one(text: str, references: dict[str, str]) -> str:
    """A licence as a package says it, as an expression."""
    whole = _symbol(text)
    if whole:
        return whole
    try:
        found = _Reader(text, references).read()
    except _Unreadable:
        return _reference(text, references)
    return found


class _Unreadable(ValueError):
    """Words that are no expression."""


class _Reader:
    """Reads `a and (b or c with d)`."""

    def __init__(self, text: str, references: dict[str, str]) -> None:
        self._tokens = [token for token in _split(text) if token.strip()]
        self._at = 0
        self._references = references

    def read(self) -> str:
        found = self._listed()
        if self._at != len(self._tokens):
            raise _Unreadable
        return found

    def _listed(self, depth: int = 0) -> str:
        """Operands of commas, which bind weakest: in `a or b, and c` both `a` and `b` need `c` (DEP 5)."""
        if depth > 20:
            raise _Unreadable
        rows = [[self._joined(depth)]]
        while self._peek() in (",", ";"):
            self._take()
            word = self._take().lower() if self._peek().lower() in ("and", "or") else "and"
            operand = self._joined(depth)
            if word == "or":
                rows.append([operand])
            else:
                rows[-1].append(operand)
        return _either(rows)

    def _joined(self, depth: int) -> str:
        """Operands and the operators between them; `or` binds weaker than `and`."""
        rows = [[self._operand(depth)]]
        while self._peek() not in ("", ")", ",", ";"):
            operator = self._take().lower()
            operand = self._operand(depth)
            if operator in ("or", "|", "||", "/"):
                rows.append([operand])
            elif operator in ("and", "&", "&&"):
                rows[-1].append(operand)
            else:
                raise _Unreadable
        return _either(rows)

    def _operand(self, depth: int) -> str:
        token = self._take()
        if token == "(":
            inner = self._listed(depth + 1)
            if self._take() != ")":
                raise _Unreadable
            return inner
        if token in (")", ",", ";") or token.lower() in ("and", "or", "with"):
            raise _Unreadable
        name = token.strip()
        if self._peek().lower() == "with":
            self._take()
            exception = self._take().strip()
            known = _known()[1].get(exception.lower())
            base = _symbol(name)
            if known and base:
                return f"{base} WITH {known}"
            return _reference(f"{name} with {exception}", self._references)
        return _symbol(name) or _reference(name, self._references)

    def _peek(self) -> str:
        return self._tokens[self._at].strip() if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        if self._at >= len(self._tokens):
            raise _Unreadable
        self._at += 1
        return self._tokens[self._at - 1].strip()


def _either(rows: Sequence[Sequence[str]]) -> str:
    """The alternatives, each of operands that hold together; with parentheses where they are needed."""
    joined = [" AND ".join(f"({one})" if " OR " in one and len(row) > 1 else one for one in row) for row in rows]
    return " OR ".join(f"({one})" if len(rows) > 1 and " AND " in one else one for one in joined)


def _split(text: str) -> list[str]:
    found, at = [], 0
    for match in _TOKEN.finditer(text):
        found += [text[at : match.start()], match[0]]
        at = match.end()
    return [*found, text[at:]]


def _symbol(name: str) -> str:
    """The identifier of a licence; empty when SPDX's list has none that is certain."""
    lower = name.lower()
    known = _known()[0].get(lower) or _ALIASES.get(lower)
    if known:
        return known
    gnu = _GNU.match(name)
    if gnu:
        kind = {"a": "AGPL", "l": "LGPL"}.get((gnu[1] or "").lower(), "GPL")
        end = "or-later" if gnu[4] in ("+", "-or-later") else "only"
        return _known()[0].get(f"{kind}-{gnu[2]}.{gnu[3] or 0}-{end}".lower(), "")
    free = _GFDL.match(name)
    if free:
        middle = "-no-invariants" if free[1] else ""
        return _known()[0].get(f"gfdl-{free[2]}{middle}-{'or-later' if free[3] else 'only'}", "")
    return ""


def _reference(text: str, references: dict[str, str]) -> str:
    name = "LicenseRef-" + (_UNFIT.sub("-", text.removeprefix("LicenseRef-")).strip("-.")[:100] or "unnamed")
    if references.setdefault(name, text) != text:
        # Two texts that differ only in what an identifier cannot hold.
        import hashlib

        name += "-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        references[name] = text
    return name


@lru_cache(maxsize=1)
def _known() -> tuple[dict[str, str], dict[str, str]]:
    """SPDX's identifiers of licences and of exceptions, by lower-case name. Deprecated ones lead to today's."""
    from license_expression import get_license_index

    licenses: dict[str, str] = {}
    exceptions: dict[str, str] = {}
    old: dict[str, str] = {}
    for entry in get_license_index():
        key = entry.get("spdx_license_key") or ""
        if not key or key.startswith("LicenseRef-") or entry.get("is_deprecated"):
            continue
        kind = exceptions if entry.get("is_exception") else licenses
        kind[key.lower()] = key
        if not entry.get("is_exception"):
            old |= {name.lower(): key for name in entry.get("other_spdx_license_keys") or ()}
    for name, key in old.items():
        if not name.startswith("licenseref-"):
            licenses.setdefault(name, key)
    return licenses, exceptions
