"""Where a build context comes from, if it is in a git repository: the hints `vcs:source`, `vcs:revision` and the like.

What git keeps is read here, without running git, which takes longer than all of a
warm build; only `BUILDX_GIT_CHECK_DIRTY` needs it. Whatever cannot be understood is
not told. Names and switches are buildx's (build/git.go).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from knarr.record import field, record

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECTION = re.compile(r'\[(\w+)(?:\s+"((?:[^"\\]|\\.)*)")?\]')
_FALSE = ("0", "f", "F", "false", "FALSE", "False")
_TRUE = ("1", "t", "T", "true", "TRUE", "True", "full")
_MAX_BYTES = 16 << 20  # of a file of git's that is read: packed-refs can have a hundred thousand lines


@record
class Hints:
    """`options` for the frontend, `labels` for the image, and the files that were looked at."""

    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    looked_at: tuple[Path, ...] = ()


def hints(context: str, dockerfile: str, directories: Mapping[str, str], environ: Mapping[str, str]) -> Hints:
    """What is known of the directory `context`; `directories` are those that the build lends, by their names."""
    tells = environ.get("BUILDX_GIT_INFO", "") not in _FALSE
    labels = environ.get("BUILDX_GIT_LABELS", "") in _TRUE
    if not tells and not labels:
        return Hints()
    from knarr.attest.capture import redacted

    repository = _Repository.around(os.path.abspath(context))
    if repository is None:
        return Hints()
    revision = repository.revision()
    if revision and environ.get("BUILDX_GIT_CHECK_DIRTY", "") in _TRUE and repository.is_dirty():
        revision += "-dirty"
    source = redacted(repository.source())
    said = {"vcs:revision": revision, "vcs:source": source}
    for name, directory in directories.items():
        below = os.path.relpath(os.path.realpath(directory), repository.root)
        if not below.startswith(".."):
            said[f"vcs:localdir:{name}"] = below
    entry = os.path.relpath(os.path.realpath(dockerfile or os.path.join(context, "Dockerfile")), repository.root)
    told = {
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.source": source,
        "com.docker.image.source.entrypoint": "" if entry.startswith("..") else entry,
    }
    return Hints(
        {key: text for key, text in said.items() if text} if tells else {},
        {key: text for key, text in told.items() if text} if labels else {},
        tuple(repository.looked_at),
    )


class _Repository:
    """A work tree at `root`. Git keeps its state in `private`, and in `common` what it shares with other work trees."""

    def __init__(self, root: str, private: Path) -> None:
        self.root = root
        self.private = private
        self.looked_at: list[Path] = []
        shared = self._text(private / "commondir").strip()
        self.common = private / shared if shared else private

    @classmethod
    def around(cls, directory: str) -> _Repository | None:
        """The repository whose work tree `directory` is in."""
        directory = os.path.realpath(directory)
        while True:
            place = os.path.join(directory, ".git")
            if os.path.isdir(place):
                return cls(directory, Path(place))
            if os.path.isfile(place):
                text = _read(Path(place))
                target = text.removeprefix("gitdir:").strip()
                return cls(directory, Path(directory) / target) if target != text.strip() else None
            above = os.path.dirname(directory)
            if above == directory:
                return None
            directory = above

    def revision(self) -> str:
        """The commit that is checked out."""
        text = self._text(self.private / "HEAD").strip()
        for _ in range(5):  # as many symbolic refs as git follows
            if not text.startswith("ref:"):
                return text if _COMMIT.fullmatch(text) else ""
            text = self._ref(text.removeprefix("ref:").strip())
        return ""

    def _ref(self, name: str) -> str:
        if ".." in name or not name.startswith("refs/"):
            return ""
        loose = self._text((self.private if name.startswith("refs/bisect/") else self.common) / name).strip()
        if loose:
            return loose
        for line in self._text(self.common / "packed-refs").splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name:
                return commit
        return ""

    def source(self) -> str:
        """The URL of the remote that the branch follows, or else of `origin`, or of `upstream`."""
        settings = _settings(self._text(self.common / "config"))
        head = self._text(self.private / "HEAD").strip()
        branch = head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else ""
        tracked = settings.get(f"branch.{branch}.remote", "") if branch else ""
        for remote in (tracked, "origin", "upstream"):
            url = settings.get(f"remote.{remote}.url", "") if remote else ""
            if url:
                return url
        return ""

    def is_dirty(self) -> bool:
        """Whether something differs from the commit; git has to be asked."""
        import subprocess

        command = ["git", "-C", self.root, "status", "--porcelain", "--ignored=no"]
        try:
            found = subprocess.run(command, capture_output=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return bool(found.stdout.strip())

    def _text(self, path: Path) -> str:
        self.looked_at.append(path)
        return _read(path)


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _settings(text: str) -> dict[str, str]:
    """The values of git's configuration that are plain: `remote.origin.url` and the like."""
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        line = line.strip()
        match = _SECTION.match(line)
        if match is not None:
            section = match[1].lower() + ("" if match[2] is None else f".{_unquoted(match[2])}")
        elif section and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found[f"{section}.{key.strip().lower()}"] = value.strip().strip('"')
    return found


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
