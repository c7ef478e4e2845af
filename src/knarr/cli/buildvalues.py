"""The values of `knarr build`'s flags, from the texts a user writes to what the build is told.

Each function takes the texts of one flag and raises `UsageError` with the flag's
name for one that cannot be meant. The forms are those of buildx (util/buildflags).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.llb.ops import UlimitOpt
from knarr.regex import later
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.cli.buildlayouts import LayoutContext

_URL = later(r"(https?|git|ssh)://|[\w-]+@[\w.-]+:|github\.com/|.*\.git(#.*)?$", re.ASCII)
_FETCHED = later(r"(https?|git|ssh)://|[\w-]+@[\w.-]+:", re.ASCII)  # by the build: a repository, or one file
_GATEWAY = "127.0.0.1"  # where a step meets its host: it has the host's own network
_LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")
_LEVEL = later(r"([a-z-]+)(?:\[([A-Za-z0-9_/.-]+)\])?")
_SIZE = later(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = ("", "k", "m", "g", "t", "p")
_LIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice"),
    *("nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)


def is_url(text: str) -> bool:
    """Whether a context is named that would have to be fetched."""
    return _URL.match(text) is not None


def pairs(flag: str, texts: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE texts as a mapping; a key alone has an empty value. The last one counts."""
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise UsageError(f"{flag} {text!r}: there is no key", hint=f"write {flag} KEY=VALUE")
        found[key] = value
    return found


def build_args(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Values by ARG. A name alone means the value of that environment variable; unset, it is not passed."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key:
            raise UsageError(f"--build-arg {text!r}: there is no name", hint="write --build-arg NAME=VALUE")
        if equals:
            found[key] = value
        elif key in environ:
            found[key] = environ[key]
    return found


def platforms(texts: Iterable[str]) -> tuple[Platform, ...]:
    """Platforms in order, each once; a text may hold several, separated by commas."""
    found: dict[Platform, None] = {}
    for text in texts:
        for part in text.split(","):
            if part.strip():
                found[Platform.parse(part)] = None
    return tuple(found)


def tags(texts: Iterable[str]) -> tuple[str, ...]:
    """Canonical names, each once, `latest` where no tag is given."""
    found: dict[str, None] = {}
    for text in texts:
        reference = Reference.parse(text)
        if reference.digest is not None:
            raise UsageError(f"--tag {text}: a digest cannot be chosen", hint="give a name and a tag only")
        found[str(reference.tagged())] = None
    return tuple(found)


def fields(flag: str, text: str, known: Sequence[str]) -> dict[str, str]:
    """`key=value,…` with CSV quoting, keys lower-cased."""
    found = {}
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals:
            raise UsageError(f"{flag} {text}: {field!r} is not key=value")
        if key not in known:
            raise UsageError(f"{flag} {text}: there is no key {key!r}", hint=f"keys are: {', '.join(known)}")
        found[key] = value
    return found


def csv_fields(text: str) -> list[str]:
    """The fields of one line of comma-separated values."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]), [])


def contexts(texts: Iterable[str], cwd: str) -> tuple[dict[str, str], dict[str, Path], dict[str, LayoutContext]]:
    """(what the frontend is told, by name; the directories to lend, by name; the OCI layouts, by name)."""
    told: dict[str, str] = {}
    lent: dict[str, Path] = {}
    layouts: dict[str, LayoutContext] = {}
    for text in texts:
        name, equals, where = text.partition("=")
        if not equals or not name or not where:
            raise UsageError(f"--build-context {text!r}: not NAME=WHERE", hint="write --build-context NAME=DIRECTORY")
        if where.startswith("docker-image://"):
            Reference.parse(where.removeprefix("docker-image://"))
            told[name] = where
        elif where.startswith("oci-layout://"):
            from knarr.cli.buildlayouts import read_context

            layouts[name] = read_context(where, cwd)
        elif _FETCHED.match(where):
            told[name] = where
        elif "://" in where or (is_url(where) and not os.path.isdir(os.path.join(cwd, where))):
            raise UsageError(
                f"--build-context {text}: this kind of context is not supported yet",
                hint="give a directory, docker-image://REFERENCE, oci-layout://PATH:TAG, or a http, https or git URL",
            )
        else:
            directory = Path(cwd, where)
            if not directory.is_dir():
                raise UsageError(f"--build-context {text}: {where} is not a directory")
            told[name], lent[name] = f"local:{name}", directory
    return told, lent, layouts


def add_hosts(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(name, address) pairs in order."""
    found = []
    for text in (part for given in texts for part in csv_fields(given)):
        name, separator, addresses = text.partition("=")
        if not separator:
            name, separator, addresses = text.partition(":")
        if not name or not addresses:
            raise UsageError(f"--add-host {text}: not HOST:IP", hint="write --add-host HOST:IP or HOST=[IPv6]")
        if addresses == "host-gateway":
            addresses = _GATEWAY
        address = addresses[1:-1] if addresses[:1] == "[" and addresses[-1:] == "]" else addresses
        if not _is_address(address):
            raise UsageError(f"--add-host {text}: {address!r} is not an IP address")
        found.append((name, address))
    return tuple(found)


def _is_address(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def ulimits(texts: Iterable[str]) -> tuple[UlimitOpt, ...]:
    """Limits by name, the last of each counts; one number is soft and hard, -1 is unlimited."""
    found = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        soft, colon, hard = numbers.partition(":")
        hard = hard if colon else soft
        if name not in _LIMITS:
            raise UsageError(f"--ulimit {text}: there is no limit {name!r}", hint=f"limits are: {', '.join(_LIMITS)}")
        try:
            limit = UlimitOpt(name, int(soft), int(hard))
        except ValueError:
            raise UsageError(f"--ulimit {text}: not NAME=SOFT[:HARD] with whole numbers") from None
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise UsageError(f"--ulimit {text}: the soft limit is above the hard one")
        found[name] = limit
    return tuple(found.values())


def size_bytes(flag: str, text: str) -> int:
    """A size in bytes from `67108864`, `64m`, `1.5GiB`; units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{flag} {text}: not a size", hint=f"write it like {flag} 64m or {flag} 1g")
    return int(float(match[1]) * 1024 ** _UNITS.index(match[2].lower()))


def annotation_attrs(texts: Iterable[str]) -> dict[str, str]:
    """Exporter attributes (`annotation-index[linux/amd64].key`) from `[LEVEL[PLATFORM],…:]KEY=VALUE`."""
    attrs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--annotation {text}: not KEY=VALUE")
        levels, colon, key = name.partition(":")
        if not colon:
            levels, key = "", name
        for level in levels.split(",") if levels else [""]:
            attrs[f"annotation{_level(text, level)}.{key}"] = value
    return attrs


def _level(text: str, level: str) -> str:
    if not level:
        return ""
    match = _LEVEL.fullmatch(level)
    if match is None or match[1] not in _LEVELS:
        raise UsageError(
            f"--annotation {text}: {level!r} is not a level",
            hint=f"levels are: {', '.join(_LEVELS)}, [PLATFORM] behind",
        )
    return f"-{match[1]}" + (f"[{Platform.parse(match[2])}]" if match[2] else "")
