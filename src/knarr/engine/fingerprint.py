"""A build whose inputs are all unchanged is known before anything heavy is loaded.

After a build, `remember` writes down what the build looked at: every path with
its stat data (of a directory too, so that a new file in it shows), every base
tag and where it led, every name that was pushed. The same command line then
finds this note, and `recall` checks it: the same stat data, the same tags, the
pushed names still there. Then the result stands, and no solver, store or frontend
is even imported. Any doubt means None, and the build runs in the ordinary way.

In the manner of git's index, a path that changed while or just before the build
ran is *racy*: it could change again without showing. Such a build is not remembered.

This module is on the warm path (design.md §4): it imports nothing that `python`
has not already loaded, except what it uses there and then.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

_FORMAT = 2
RACY_NS = 20_000_000  # the coarsest clock tick that file times are cut to (HZ=100 kernels: 10 ms), twice
_ENVIRONMENT = ("KNARR_", "DOCKER_", "BUILDX_", "BUILDKIT_", "SOURCE_DATE_EPOCH", "XDG_", "HOME", "REGISTRY_AUTH_FILE")


def place(root: str, argv: Sequence[str], environ: Mapping[str, str], cwd: str) -> str:
    """The file of the note for this command line, in this directory, with this environment."""
    relevant = sorted((k, v) for k, v in environ.items() if k.startswith(_ENVIRONMENT) or k.upper().endswith("_PROXY"))
    # An argument that names a variable (`--build-arg NAME`) means its value.
    named = [(word, environ[word]) for text in argv if (word := text.rpartition("=")[2]) in environ]
    secret = [text for text in argv if "env=" in text]
    named += [(part, environ.get(part[4:], "")) for text in secret for part in text.split(",") if part[:4] == "env="]
    text = repr((_FORMAT, sys.version, list(argv), cwd, relevant, sorted(named)))
    return os.path.join(root, "fingerprints", _sha256(text.encode()).hexdigest())


def _sha256(data: bytes = b"") -> Any:
    """A sha256 object (Any: the C type has no public name) without the imports of `hashlib`."""
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12 and later
    except ImportError:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
    return sha256(data)


def stamp(paths: Iterable[str]) -> tuple[str, int]:
    """(digest of the stat data of all `paths`, the latest change among them in ns since the epoch).

    A path that does not exist counts as such.
    """
    parts: list[str] = []
    latest = 0
    add = parts.append
    for path in paths:
        try:
            found = os.lstat(path)
        except OSError:
            add("-")
            continue
        changed = found.st_ctime_ns
        if changed > latest:
            latest = changed
        add(f"{found.st_mode} {found.st_ino} {found.st_size} {found.st_mtime_ns} {changed}")
    return _sha256("\n".join(parts).encode()).hexdigest(), latest


def remember(
    file: str,
    *,
    paths: Sequence[str],
    started_ns: int,
    tags: Mapping[str, str],
    pushed: Mapping[str, str],
    named: Mapping[str, str],
    names_file: str,
    blobs: Sequence[str],
    answer: Mapping[str, Any],
) -> bool:
    """Write the note; returns whether it could be trusted later on (no racy path).

    `tags`, `pushed` and `named` (in the own store, kept in `names_file`) are reference →
    digest; `blobs` are files of the store that the result needs; `answer` is what the
    command prints and writes (plain values only).
    """
    digest, latest = stamp(paths)
    if latest > started_ns - RACY_NS:
        forget(file)
        return False
    note = {
        "paths": "\0".join(paths),
        "stamp": digest,
        "tags": dict(tags),
        "pushed": dict(pushed),
        "named": dict(named),
        "names_file": names_file,
        "names_stamp": _names_stamp(names_file),
        "blobs": list(blobs),
        "answer": dict(answer),
    }
    os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
    rewrite(file, marshal.dumps(note))
    return True


def rewrite(file: str, data: bytes) -> None:
    """Put `data` at `file`: all of it or nothing."""
    fresh = f"{file}.{os.getpid()}"
    with open(fresh, "wb") as target:
        target.write(data)
    os.replace(fresh, file)


def _names_stamp(names_file: str) -> str:
    """Changes whenever somebody may have changed a name in the own store (SQLite's file and its log)."""
    return stamp((names_file, f"{names_file}-wal"))[0]


def names_may_have_changed(note: Mapping[str, Any]) -> bool:
    """Whether the caller must look the note's `named` up, since the store's names were written since."""
    return bool(_names_stamp(note["names_file"]) != note["names_stamp"])


def names_hold(file: str, note: dict[str, Any]) -> None:
    """Note that the names were found right after all, so that the next recall need not look."""
    note["names_stamp"] = _names_stamp(note["names_file"])
    rewrite(file, marshal.dumps(note))


def forget(file: str) -> None:
    """Drop the note, if there is one."""
    try:
        os.unlink(file)
    except FileNotFoundError:
        return


def recall(file: str) -> dict[str, Any] | None:
    """The note, if all it says of this machine's files still holds. The caller checks `tags`, `pushed` and `named`."""
    try:
        with open(file, "rb") as source:
            note: dict[str, Any] = marshal.loads(source.read())
        paths = note["paths"].split("\0")
        for blob in note["blobs"]:
            os.stat(blob)
    except (OSError, ValueError, EOFError, TypeError, KeyError, AttributeError):
        return None  # no note, a note cut off, or its result was removed meanwhile
    if stamp(paths)[0] != note["stamp"]:
        return None
    return note
