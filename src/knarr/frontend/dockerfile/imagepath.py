"""Paths inside an image, by the rules of Go's `path` package, which Dockerfile paths follow.

They differ from this machine's rules in small things that reach digests: an
empty path is ".", two leading slashes are one, a trailing slash means "into".
"""

from __future__ import annotations

from posixpath import normpath


def clean(path: str) -> str:
    """The shortest equal path: `a//b/../c/` is `a/c`."""
    cleaned = normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def join(*parts: str) -> str:
    """The parts one under the other, cleaned; empty parts do not count, and no part starts over at the root."""
    present = [part for part in parts if part]
    return clean("/".join(present)) if present else ""


def under(directory: str, path: str, *, keep_slash: bool = False) -> str:
    """`path` as seen from the working directory `directory`. An absolute path stays as written."""
    parent = directory if directory.startswith("/") else join("/", directory)
    result = path or parent
    if not result.startswith("/"):
        result = join(parent, result)
    return _with_ending_of(path, result) if keep_slash else result


def in_tree(path: str, *, keep_slash: bool = False) -> str:
    """`path` as a file op has it: absolute and clean, but with the ending that says "into this directory"."""
    result = join("/", path)
    return _with_ending_of(path, result) if keep_slash else result


def base_name(path: str) -> str:
    """The last part: "." for an empty path, "/" for the root."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def _with_ending_of(written: str, path: str) -> str:
    if written.endswith("/") and not path.endswith("/"):
        return path + "/"
    if written.endswith("/."):
        return (path if path == "/" else path + "/") + "."
    return path
