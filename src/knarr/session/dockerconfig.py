"""Logins where users already keep them: docker's config.json, podman's auth.json, credential helpers.

Files are read in this order, and the first that knows a login decides:
`REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`, then podman's
`containers/auth.json` below `XDG_RUNTIME_DIR` and `XDG_CONFIG_HOME`. Within a
file: the helper named for the host, the most specific key (podman keeps logins
for `host/namespace/repository` as well), then the general credentials store.

Spec: docker CLI, "docker login"; containers-auth.json(5); docker-credential-helpers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knarr.errors import UsageError
from knarr.record import record
from knarr.session.session import Credentials

_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"  # what docker calls its hub in files and to helpers
_HUB_NAMES = frozenset((_HUB, "index.docker.io", "registry-1.docker.io"))
_IDENTITY_TOKEN = "<token>"  # a helper's username for it
_HELPER_S = 120.0  # a helper may ask its user for a passphrase


class DockerConfig:
    """The logins of one user. Files are read at each question: a login made meanwhile counts."""

    def __init__(self, files: tuple[Path, ...], *, path: str = "") -> None:
        """`files` in reading order, the first is written to; `path` is searched for helpers (`PATH`)."""
        self.files = files
        self._path = path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> DockerConfig:
        """The files that `environ` leads to."""
        home = environ.get("HOME", "")
        files = []
        if environ.get("REGISTRY_AUTH_FILE"):
            files.append(Path(environ["REGISTRY_AUTH_FILE"]))
        if environ.get("DOCKER_CONFIG"):
            files.append(Path(environ["DOCKER_CONFIG"], "config.json"))
        elif home:
            files.append(Path(home, ".docker", "config.json"))
        if environ.get("XDG_RUNTIME_DIR"):
            files.append(Path(environ["XDG_RUNTIME_DIR"], "containers", "auth.json"))
        config = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
        if config:
            files.append(Path(config, "containers", "auth.json"))
        return cls(tuple(files), path=environ.get("PATH", ""))

    def credentials(self, name: str) -> Credentials:
        """The login for a registry host, or for `host/repository`; `Credentials()` when there is none.

        Raises:
            UsageError: a file is no JSON, or a helper that is named for the host does not work.
        """
        host, _, repository = name.partition("/")
        for file in self.files:
            document = _read(file)
            if document is not None:
                found = self._of_file(file, document, _canonical(host), repository)
                if not found.empty:
                    return found
        return Credentials()

    def store(self, host: str, login: Credentials) -> str:
        """Keep a login for `host`; returns where, for a message.

        Raises:
            UsageError: the helper refuses, or the file cannot be written.
        """
        if not self.files:
            raise UsageError("there is no place to keep a login", hint="set HOME or DOCKER_CONFIG")
        host = _canonical(host)
        file = self.files[0]
        document = _read(file) or {}
        helper = _helper_of(document, host)
        auths = document.setdefault("auths", {})
        key = _key_in(auths, host) or _file_key(host)
        if helper:
            self._ask(helper, "store", _helper_document(host, login), file)
            auths[key] = {}
            where = f"docker-credential-{helper}"
        else:
            auths[key] = _encode(login)
            where = f"{file}, unencrypted"
        _write(file, document)
        return where

    def erase(self, host: str) -> tuple[str, ...]:
        """Forget the login for `host` everywhere; returns where there was one."""
        host = _canonical(host)
        where = []
        for file in self.files:
            document = _read(file)
            if document is None:
                continue
            helper = _helper_of(document, host)
            if helper and self._asked(helper, host, file) is not None:
                self._ask(helper, "erase", _file_key(host), file)
                where.append(f"docker-credential-{helper}")
            auths = document.get("auths", {})
            key = _key_in(auths, host)
            if key:
                entry = auths.pop(key)
                _write(file, document)
                where += [str(file)] if entry else []
        return tuple(where)

    def _of_file(self, file: Path, document: Mapping[str, Any], host: str, repository: str) -> Credentials:
        named = document.get("credHelpers", {})
        helper = str(named.get(host) or named.get(_file_key(host)) or "")
        if helper:
            return self._asked(helper, host, file) or Credentials()
        auths = document.get("auths", {})
        for name in _most_specific_first(host, repository):
            key = _key_in(auths, name)
            if key and auths[key]:
                found = _decode(auths[key], file, key)
                if not found.empty:
                    return found
        store = str(document.get("credsStore") or "")
        # A store that is not installed matters only when the file says that the login is there.
        if store and (_key_in(auths, host) or self._find(store)):
            return self._asked(store, host, file) or Credentials()
        return Credentials()

    def _asked(self, helper: str, host: str, file: Path) -> Credentials | None:
        """What a helper knows of `host`."""
        import json

        output = self._ask(helper, "get", _file_key(host), file)
        if output is None:
            return None
        try:
            document = json.loads(output)
            user, secret = str(document["Username"]), str(document["Secret"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"docker-credential-{helper} get: the answer is not a login ({host})") from error
        return Credentials(identity_token=secret) if user == _IDENTITY_TOKEN else Credentials(user, secret)

    def _ask(self, helper: str, action: str, text: str, file: Path) -> str | None:
        """Run a helper; None: it knows no such login."""
        import subprocess

        program = self._find(helper)
        if not program:
            raise UsageError(
                f"credential helper docker-credential-{helper} is not installed",
                hint=f"install it, or remove it from {file}",
            )
        try:
            done = subprocess.run(
                [program, action], input=text, capture_output=True, text=True, timeout=_HELPER_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"docker-credential-{helper} {action}: {error}") from error
        if done.returncode == 0:
            return done.stdout
        said = (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]  # helpers report on standard output
        if "credentials not found" in said:
            return None
        raise UsageError(f"docker-credential-{helper} {action}: {said or f'exit status {done.returncode}'}")

    def _find(self, helper: str) -> str:
        if "/" in helper or not helper:
            return ""
        candidates = (os.path.join(part, f"docker-credential-{helper}") for part in self._path.split(":") if part)
        return next((path for path in candidates if os.access(path, os.X_OK)), "")


@record
class _Place:
    """A key of `auths`, taken apart."""

    host: str
    path: str


def _canonical(host: str) -> str:
    return _HUB if host in _HUB_NAMES else host


def _file_key(host: str) -> str:
    return _HUB_KEY if host == _HUB else host


def _helper_of(document: Mapping[str, Any], host: str) -> str:
    helpers = document.get("credHelpers", {})
    return str(helpers.get(host) or helpers.get(_file_key(host)) or document.get("credsStore") or "")


def _most_specific_first(host: str, repository: str) -> list[str]:
    names = [host]
    for part in repository.split("/") if repository else ():
        names.append(f"{names[-1]}/{part}")
    return names[::-1]


def _key_in(auths: Mapping[str, Any], name: str) -> str:
    """The key of `auths` that means `name` (`host` or `host/namespace…`), or nothing."""
    if name in auths:
        return name
    return next((key for key in auths if _place(key) == _Place(*_split(name))), "")


def _split(name: str) -> tuple[str, str]:
    host, _, path = name.partition("/")
    return host, path


def _place(key: str) -> _Place:
    # With a scheme it is docker's old form, whose path (/v1/, /v2/) says nothing.
    scheme, sep, rest = key.partition("://")
    host, path = _split((rest if sep else scheme).rstrip("/"))
    return _Place(_canonical(host), "" if sep or path in ("v1", "v2") else path)


def _decode(entry: Any, file: Path, key: str) -> Credentials:
    if not isinstance(entry, dict):
        raise UsageError(f"{file}: auths {key!r} is not an object")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        from base64 import b64decode

        try:
            text = b64decode(str(entry["auth"]).strip(), validate=True).decode()
        except ValueError as error:
            raise UsageError(f"{file}: auths {key!r}: auth is not base64 of user:password") from error
        user, _, password = text.partition(":")
        password = password.rstrip("\0")
    identity = str(entry.get("identitytoken") or "")
    return Credentials(user, password, identity, str(entry.get("registrytoken") or ""))


def _encode(login: Credentials) -> dict[str, str]:
    from base64 import b64encode

    entry = {"auth": b64encode(f"{login.username}:{login.password}".encode()).decode()}
    if login.identity_token:
        entry["identitytoken"] = login.identity_token
    return entry


def _helper_document(host: str, login: Credentials) -> str:
    import json

    user = _IDENTITY_TOKEN if login.identity_token else login.username
    return json.dumps(
        {"ServerURL": _file_key(host), "Username": user, "Secret": login.identity_token or login.password}
    )


def _read(file: Path) -> dict[str, Any] | None:
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    import json

    try:
        document = json.loads(raw or b"{}")
    except ValueError as error:
        raise UsageError(f"{file}: not JSON: {error}") from error
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key, {}), dict) for key in ("auths", "credHelpers")
    ):
        raise UsageError(f"{file}: not the configuration of a docker client")
    return document


def _write(file: Path, document: Mapping[str, Any]) -> None:
    """Replace the file in one step, readable by its owner only; a symlink stays one."""
    import json

    target = os.path.realpath(file)
    fresh = f"{target}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent="\t")
            stream.flush()
            os.fsync(descriptor)
        os.replace(fresh, target)
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
