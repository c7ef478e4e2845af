"""The Dockerfile of a context behind a URL: a repository, an archive, or the Dockerfile itself.

Only the Dockerfile is read here; the files are a source of the build like any
other, by the URL, so that the graph is the same whoever makes it. No ignore file
applies to them, as with BuildKit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from knarr.cli import buildlent as lent
from knarr.cli.buildinputs import MAX_DOCKERFILE_BYTES, BuildInputs, bounded, from_directory, unpack
from knarr.cli.state import open_parts
from knarr.config import Settings
from knarr.content.store import Store
from knarr.errors import UsageError
from knarr.frontend.dockerfile.giturl import GitURL, parse_git_url
from knarr.layer.magic import is_archive
from knarr.llb.ops import SourceOp
from knarr.progress import Silent, Sink
from knarr.record import field, record
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.cli.buildoptions import BuildOptions
    from knarr.remote.repository import Registry
    from knarr.session.session import Session


_KEEP_GIT = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")


@record
class _Reach:
    """Implements `ops.fetched.Reach`."""

    settings: Settings
    store: Store
    session: Session
    scope: Scope
    sink: Sink
    registry: Callable[[], Registry]
    answers: dict[str, Any] = field(default_factory=dict, hash=False)


def read_remote(options: BuildOptions, dockerfile: bytes | None, directory: Path) -> BuildInputs:
    """The inputs for the context `options` names by its URL. `dockerfile` is one from standard input.

    `directory` is empty, and there for the whole build.

    Raises:
        KnarrError: it cannot be fetched, or has no such Dockerfile.
    """
    where = options.context
    url = parse_git_url(where, as_context=True)
    if url is not None and options.build_args.get(_KEEP_GIT, "") in _TRUE:
        where = _keeping_git(where)
        url = parse_git_url(where, as_context=True)
    if url is None and not where.startswith(("http://", "https://")):
        raise UsageError(f"{where}: not the URL of a repository or of a file", hint="give a directory, or a full URL")
    if options.builder and dockerfile is None and not os.path.isabs(options.file):
        # The builder fetches the context, and finds the Dockerfile in it.
        return BuildInputs(b"", options.file or "Dockerfile", directory, remote=options.context)
    with _reach(options) as reach:
        if dockerfile is None and os.path.isabs(options.file):
            dockerfile = _own(options.file)
        if url is None:
            return _from_file(reach, where, options.file, dockerfile, directory)
        if dockerfile is None:
            dockerfile = _from_repository(reach, url, options.file)
    name = options.file if options.file not in ("", "-") else "Dockerfile"
    own = (Path(options.file),) if os.path.isabs(options.file) else ()
    return BuildInputs(dockerfile, name, directory, remote=where, looked_for=own)


def fetch_dockerfile(options: BuildOptions) -> bytes:
    """The Dockerfile at the URL that `--file` is.

    Raises:
        KnarrError: it cannot be fetched.
    """
    with _reach(options) as reach, _fetched(reach, options.file) as content:
        return bounded(content.read(MAX_DOCKERFILE_BYTES + 1), options.file)


@contextmanager
def _reach(options: BuildOptions) -> Iterator[_Reach]:
    session = lent.session(options, {})
    with open_parts(os.environ) as parts, Scope() as scope:
        yield _Reach(parts.settings, parts.store, session, scope, Silent(), parts.registry)


def _own(file: str) -> bytes:
    """A Dockerfile of this machine for a context that is elsewhere."""
    try:
        with open(file, "rb") as stream:
            return bounded(stream.read(MAX_DOCKERFILE_BYTES + 1), file)
    except OSError as error:
        hint = "a path in the repository has no slash in front"
        raise UsageError(f"{file}: {error.strerror}", hint=hint) from error


def _keeping_git(where: str) -> str:
    place, mark, fragment = where.partition("#")
    if "keep-git-dir" in place.partition("?")[2]:
        return where
    return f"{place}{'&' if '?' in place else '?'}keep-git-dir=true{mark}{fragment}"


def _from_repository(reach: _Reach, url: GitURL, file: str) -> bytes:
    from knarr.ops import gitcheckout, source_git
    from knarr.ops.gitprogram import GitFailed, Place

    source = source_git.parse(SourceOp(url.identifier, url.attrs))
    git = source_git.git_for(reach, source)
    tip = source_git.find_tip(git, source)
    mirror = Place(str(gitcheckout.fetch(reach.settings.root, git, tip)))
    for name in (file,) if file else ("Dockerfile", "dockerfile"):
        path = os.path.normpath(os.path.join(source.subdir, name.lstrip("/")))
        try:
            text = git.run("cat-file", "blob", f"{tip.object}:{path}", at=mirror)
        except GitFailed:
            continue
        return bounded(text.encode(errors="surrogateescape"), path)
    raise UsageError(
        f"{git.shown}: has no {file or 'Dockerfile'} at {tip.ref or tip.object[:12]}",
        hint="--file is the path of the Dockerfile in the repository; - reads it from standard input",
    )


def _from_file(reach: _Reach, url: str, file: str, dockerfile: bytes | None, directory: Path) -> BuildInputs:
    """An archive is unpacked for its Dockerfile; anything else is the Dockerfile, with no context."""
    from shutil import rmtree

    with _fetched(reach, url) as content:
        head = content.read(1024)
        content.seek(0)
        if not is_archive(head):
            if file or dockerfile is not None:
                raise UsageError(f"{url}: is no archive, so it has no other files", hint="leave out --file")
            return BuildInputs(bounded(content.read(MAX_DOCKERFILE_BYTES + 1), url), "Dockerfile", directory)
        if dockerfile is None:
            unpacked = directory / "unpacked"
            unpacked.mkdir()
            unpack(content, unpacked)
            dockerfile = from_directory(unpacked, str(unpacked / file) if file else "").dockerfile
            rmtree(unpacked)
    name = file if file not in ("", "-") else "Dockerfile"
    return BuildInputs(dockerfile, name, directory, remote=url)


@contextmanager
def _fetched(reach: _Reach, url: str) -> Iterator[BinaryIO]:
    """The file behind a http(s) URL, open for reading."""
    from knarr.ops import source_http

    source = source_http.parse(SourceOp(url, {"http.filename": "context"}))
    known = source_http.ask(reach, source, "", anew=False)
    if reach.store.find(known.digest) is None:  # it did not change, but was pruned here
        known = source_http.ask(reach, source, "", anew=True)
    with open(reach.store.path(known.digest), "rb") as content:
        yield content
