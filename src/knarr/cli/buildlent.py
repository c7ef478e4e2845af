"""What a command line lends to a build: secrets and ssh agents. The forms are those of buildx (util/buildflags)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.buildvalues import fields
from knarr.errors import UsageError
from knarr.session.local import LocalSession, SecretSource, SshSource

if TYPE_CHECKING:
    from knarr.cli.buildoptions import BuildOptions
    from knarr.session.session import LentContent


def session(options: BuildOptions, directories: Mapping[str, Path]) -> LocalSession:
    """What this user lends to the build of `options`, with the logins of docker's configuration.

    Raises:
        UsageError: a key cannot be read, or an agent does not answer.
    """
    from knarr.session.dockerconfig import DockerConfig

    return LocalSession(
        directories,
        options.secrets,
        DockerConfig.from_environment(os.environ),
        environ=os.environ,
        ssh=options.ssh,
        known_hosts=Path(os.path.expanduser("~/.ssh/known_hosts")),
        content=_layouts(options),
    )


def _layouts(options: BuildOptions) -> Mapping[str, LentContent]:
    if not options.layouts:
        return {}
    from knarr.cli.buildlayouts import lent

    return lent(options.layouts)


def secrets(texts: Iterable[str], environ: Mapping[str, str], cwd: str) -> dict[str, SecretSource]:
    """Sources by ID. Without `src` and `env`, the variable of that name, or else the file of that name."""
    found = {}
    for text in texts:
        given = fields("--secret", text, ("id", "src", "source", "env", "type"))
        id = given.get("id", "")
        if not id:
            raise UsageError(f"--secret {text}: there is no id", hint="write --secret id=ID,src=FILE")
        kind = given.get("type", "")
        if kind not in ("", "file", "env"):
            raise UsageError(f"--secret {text}: type {kind} is not known", hint="use type=file or type=env")
        source, variable = given.get("src", given.get("source", "")), given.get("env", "")
        if kind == "env" and not variable:
            source, variable = "", source or id
        if not source and not variable:
            source, variable = ("", id) if kind != "file" and id in environ else (id, "")
        found[id] = SecretSource(variable=variable) if variable else SecretSource(_path(source, cwd))
    return found


def ssh(texts: Iterable[str], environ: Mapping[str, str], cwd: str) -> dict[str, SshSource]:
    """Agents by ID, from `default`, `ID=SOCKET` and `ID=KEY,KEY…`; alone, an ID means the user's own agent."""
    found = {}
    for text in texts:
        id, _, rest = text.partition("=")
        paths = [part for part in rest.split(",") if part]
        if not paths:
            own = environ.get("SSH_AUTH_SOCK", "")
            if not own:
                hint = f"start one with `eval $(ssh-agent)` and `ssh-add`, or name a key: --ssh {id or 'default'}=FILE"
                raise UsageError(f"--ssh {text}: SSH_AUTH_SOCK is not set, so there is no agent", hint=hint)
            paths = [own]
        found[id or "default"] = _ssh_source(text, [_path(path, cwd) for path in paths])
    return found


def _ssh_source(text: str, paths: list[Path]) -> SshSource:
    sockets = [path for path in paths if _is_socket(text, path)]
    if not sockets:
        return SshSource(tuple(paths))
    if len(paths) > 1:
        raise UsageError(f"--ssh {text}: an agent's socket goes alone", hint="lend the keys under another ID")
    return SshSource(socket=sockets[0])


def _is_socket(text: str, path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError as error:
        raise UsageError(f"--ssh {text}: {path}: {error.strerror}") from error


def _path(text: str, cwd: str) -> Path:
    return Path(cwd, os.path.expanduser(text))
