"""Git URLs as contexts and as sources of ADD: which words mean a repository, and what of it.

Two ways to say which part: `https://host/repo.git#ref:subdir` and
`https://host/repo.git?branch=main&subdir=docs`. An http(s) URL is a repository
only when its path ends in `.git`; `git@host:path`, `ssh://` and `git://` always are.

Spec: Dockerfile reference 1.26, "ADD"; BuildKit's frontend/dockerfile/dfgitutil.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.gotext import truth
from knarr.frontend.dockerfile.imagepath import join
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.record import record, replace
from knarr.regex import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SCHEME = later(r"([a-zA-Z0-9]+)://")
_SCP = later(r"([a-zA-Z0-9\-_]+)@([a-zA-Z0-9\-.]+):(.*?)(?:\?(.*?))?(?:#(.*))?", re.DOTALL)
_WRITTEN = later(r"(?:[A-Za-z0-9._~/$&+,:;=@!*'()\[\]-]|%[0-9A-Fa-f]{2})*")
_UNQUOTED = "/$&+,:;=@"  # what Go leaves as it is in a path that has to be quoted
_BAD_ESCAPE = later(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = later("[\0-\x1f\x7f]")
_SWITCHES = ("submodules", "keep-git-dir", "fetch-by-commit")
_QUERIES = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime", *_SWITCHES)


@record
class GitURL:
    """A repository and what to take of it. None: not said."""

    remote: str  # what git is given
    scheme: str
    host: str
    path: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    mtime: str = ""
    fetch_by_commit: bool = False

    @property
    def identifier(self) -> str:
        """Of the source op; the same for https and ssh, so they share a cache."""
        text = self.host + join("/", self.path)
        if self.ref or self.subdir:
            text += f"#{self.ref}" + (f":{self.subdir}" if self.subdir else "")
        return "git://" + text

    @property
    def attrs(self) -> dict[str, str]:
        """Of the source op. Secrets by these names are used when the caller lends them."""
        attrs = {
            "git.fullurl": self.remote,
            "git.authtokensecret": "GIT_AUTH_TOKEN",
            "git.authheadersecret": "GIT_AUTH_HEADER",
        }
        if self.keep_git_dir:
            attrs["git.keepgitdir"] = "true"
        if self.scheme == "ssh":
            attrs["git.mountsshsock"] = "default"
        if self.checksum:
            attrs["git.checksum"] = self.checksum
        if self.submodules is False:
            attrs["git.skipsubmodules"] = "true"
        if self.mtime:
            attrs["git.mtime"] = self.mtime
        if self.fetch_by_commit:
            attrs["git.fetchbycommit"] = "true"
        return attrs


def parse_git_url(text: str, *, as_context: bool = False) -> GitURL | None:
    """The repository `text` names, or None when it is something else.

    Only as a context may `github.com/OWNER/NAME` go without its scheme.

    Raises:
        DockerfileError: a repository with a query that cannot be meant. No span yet.
    """
    if as_context and text.startswith("github.com/"):
        return _from_url("https://" + text, "https", any_path=True)
    match = _SCHEME.match(text)
    if match is not None:
        return _from_url(text, match[1].lower())
    scp = None if text.startswith(("./", "../")) else _SCP.fullmatch(text)
    if scp is None:
        return None
    user, host, path, query, fragment = scp.groups()
    return _with_query(_pointed(GitURL(f"{user}@{host}:{path}", "ssh", host, path), fragment or ""), query or "")


def split_url(text: str) -> SplitResult:
    """The parts of a URL.

    Raises:
        DockerfileError: its host is none. No span yet.
    """
    from urllib.parse import urlsplit

    try:
        if not _CONTROL.search(text):
            parts = urlsplit(text)
            _ = parts.port  # a number, or a ValueError
            return parts
    except ValueError:
        pass
    raise DockerfileError(f"{text} is not a URL", hint="https://HOST/PATH")


def _from_url(text: str, scheme: str, *, any_path: bool = False) -> GitURL | None:
    if scheme not in ("http", "https", "ssh", "git"):
        return None
    from urllib.parse import quote, unquote

    parts = split_url(text)
    path = unquote(parts.path)
    if scheme in ("http", "https") and not any_path and not path.endswith(".git"):
        return None
    host = parts.netloc.rpartition("@")[2]
    written = parts.path if _WRITTEN.fullmatch(parts.path) else quote(path, safe=_UNQUOTED)
    remote = f"{scheme}://{parts.netloc}{written}"
    return _with_query(_pointed(GitURL(remote, scheme, host, path), unquote(parts.fragment)), parts.query)


def _pointed(url: GitURL, fragment: str) -> GitURL:
    ref, _, subdir = fragment.partition(":")
    return _changed(url, {"ref": ref, "subdir": join("/", subdir)[1:]}) if fragment else url


def _with_query(url: GitURL, query: str) -> GitURL:
    if not query:
        return url
    changes: dict[str, object] = {}
    refs = [url.ref] if url.ref else []
    for key, value in _pairs(query):
        if key in _SWITCHES:
            changes[key.replace("-", "_")] = _switch(key, value)
        elif key == "subdir":
            _agree(key, url.subdir, value)
            changes["subdir"] = value
        elif key in ("checksum", "commit"):
            _agree("checksum", str(changes.get("checksum", "")), value)
            changes["checksum"] = value
        elif key == "mtime":
            if value not in ("checkout", "commit"):
                raise DockerfileError(f'invalid mtime value: "{value}"', hint="checkout or commit")
            changes["mtime"] = value
        elif key in ("ref", "tag", "branch"):
            prefix = {"ref": "", "tag": "refs/tags/", "branch": "refs/heads/"}[key]
            refs.append(value if value.startswith(prefix) else prefix + value)
        else:
            hint = did_you_mean(key, _QUERIES) or f"known are {', '.join(_QUERIES)}"
            raise DockerfileError(f'unexpected query "{key}" in a git URL', hint=hint)
    for other in refs[1:]:
        _agree("ref", refs[0], other)
    return _changed(url, {**changes, "ref": refs[0] if refs else ""})


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    from urllib.parse import parse_qs

    if ";" in query or _BAD_ESCAPE.search(query):
        # BuildKit drops such a pair without a word, and takes the default branch instead of the one that was meant.
        raise DockerfileError(f'query "{query}" cannot be read', hint="separate pairs by &; write % as %25")
    for key, values in parse_qs(query, keep_blank_values=True).items():
        if len(values) > 1:
            raise DockerfileError(f'query "{key}" has multiple values', hint="give it once")
        if not values[0] and key not in _SWITCHES:
            raise DockerfileError(f'query "{key}" has no value', hint=f"{key}=VALUE")
        yield key, values[0]


def _switch(key: str, value: str) -> bool:
    found = truth(value) if value else True
    if found is not None:
        return found
    raise DockerfileError(f'invalid {key} value: "{value}"', hint="true or false")


def _agree(key: str, one: str, other: str) -> None:
    if one and one != other:
        raise DockerfileError(f'{key} conflicts: "{one}" vs "{other}"', hint="the URL must say one of them only")


def _changed(url: GitURL, changes: dict[str, object]) -> GitURL:
    return replace(url, **changes)
