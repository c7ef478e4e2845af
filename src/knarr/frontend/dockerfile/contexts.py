"""Build contexts as sources: the main one, named `local:` ones, git repositories; and how they are named.

A local source says which paths are needed, so that the caller sends no more than
that; they are known only when every stage has been compiled, hence the calls.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from knarr.errors import ContentError, UsageError
from knarr.frontend.dockerfile.giturl import parse_git_url
from knarr.frontend.dockerfile.gotext import html_safe
from knarr.frontend.dockerfile.imagepath import join
from knarr.llb.ops import Copy
from knarr.llb.state import FileStep, Note, State, source
from knarr.record import replace
from knarr.spec.reference import Reference


def main_context(name: str, paths: Collection[str], excludes: Collection[str], *, session: str = "") -> State:
    """The context of the build: files in `paths` as they are at the end, but not those the ignore file names.

    `session` lends it, where that is another than the caller's.
    """

    def attrs() -> dict[str, str]:
        return {**_lent_by(session), **_listed("local.excludepatterns", excludes), **_shared(name), **_followed(paths)}

    return source(f"local://{name}", attrs, note=Note({"llb.customname": "[internal] load build context"}))


def named_context(
    local: str, shown: str, paths: Collection[str], excludes: Collection[str], *, session: str = ""
) -> State:
    """The directory `local`, lent under the name `shown`."""

    def attrs() -> dict[str, str]:
        shared = _shared(f"context:{shown}-")
        return {**_lent_by(session), **shared, **_listed("local.excludepatterns", excludes), **_followed(paths)}

    note = Note({"llb.customname": f"[context {shown}] load from client"})
    return source(f"local://{local}", attrs, note=note)


def remote_context(where: str, *, is_main: bool = False, commit_times: bool = False) -> State | None:
    """A git repository as a context, None when `where` is not one. `commit_times`: unless it says otherwise itself."""
    url = parse_git_url(where, as_context=is_main)
    if url is None:
        return None
    if commit_times and not url.mtime:
        url = replace(url, mtime="commit")
    return source(url.identifier, url.attrs, note=Note({"llb.customname": f"[internal] load git source {where}"}))


def archive_context(url: str) -> State | None:
    """The files of a tar at a http(s) URL, None when `url` is not one."""
    if not url.startswith(("http://", "https://")):
        return None
    note = Note({"llb.customname": "[internal] load remote build context"})
    fetched = source(url, {"http.filename": "context"}, note=note)
    return State().file([FileStep(Copy("/context", "/", attempt_unpack=True), fetched.output)])


def subdirectory(context: State, path: str) -> State:
    """What lies below `path` in a context; all of it where that is empty."""
    if not path:
        return context
    return State().file([FileStep(Copy(join("/", path), "/", dir_copy_contents=True), context.output)])


def normal_name(name: str) -> str:
    """A name as named contexts are looked up: short, without `:latest`. Text that is no image name stays."""
    try:
        return Reference.parse(name).familiar.removesuffix(":latest")
    except (UsageError, ContentError):
        return name


def normal_contexts(contexts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Named contexts by normalised name; `NAME::PLATFORM` keeps its platform."""
    normal = {}
    for name, where in contexts:
        plain, platform_mark, platform = name.partition("::")
        normal[normal_name(plain) + platform_mark + platform] = where
    return normal


def _lent_by(session: str) -> dict[str, str]:
    return {"local.session": session} if session else {}


def _shared(hint: str) -> dict[str, str]:
    return {"local.sharedkeyhint": hint}


def _followed(paths: Collection[str]) -> dict[str, str]:
    """Nothing for the whole tree, which is also what an unused context says."""
    return {} if "/" in paths else _listed("local.followpaths", sorted(join(".", path) for path in paths))


def _listed(attr: str, values: Iterable[str]) -> dict[str, str]:
    text = html_safe(json.dumps(list(values), separators=(",", ":"), ensure_ascii=False))
    return {attr: text} if text != "[]" else {}
