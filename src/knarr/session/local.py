"""The session of a build in this process: this user's own directories, secrets, agents and logins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from knarr.errors import UsageError
from knarr.record import record
from knarr.session.dockerconfig import DockerConfig
from knarr.session.session import Credentials, LentContent, Secret, Sent, SshAgent, Wanted

MAX_SECRET_BYTES = 500 << 10  # BuildKit's MaxSecretSize: what is accepted here must pass there as well


@record
class SecretSource:
    """Where one `--secret` comes from: `src=FILE`, else `env=VARIABLE`."""

    file: Path | None = None
    variable: str = ""


@record
class SshSource:
    """Where one `--ssh` comes from: files of private keys, or the socket of an agent."""

    keys: tuple[Path, ...] = ()
    socket: Path | None = None


class LocalSession:
    """Implements `session.Session`. A secret is read when a step asks for it, not before."""

    def __init__(
        self,
        directories: Mapping[str, Path],
        secrets: Mapping[str, SecretSource],
        docker_config: DockerConfig,
        *,
        environ: Mapping[str, str] | None = None,
        ssh: Mapping[str, SshSource] | None = None,
        known_hosts: Path | None = None,
        content: Mapping[str, LentContent] | None = None,
    ) -> None:
        """`environ` is where `env=` secrets are looked up; `known_hosts` tells which hosts the agents may meet.

        Raises:
            UsageError: a key of `ssh` cannot be read, or no agent listens at its socket.
        """
        self._directories = dict(directories)
        self._secrets = dict(secrets)
        self._docker_config = docker_config
        self._environ = dict(environ or {})
        self._content = dict(content or {})
        self._agents = _agents(ssh, known_hosts) if ssh else {}

    def files(self, wanted: Wanted, *, sent: Sent | None = None) -> Path:
        """The lent directory itself.

        Raises:
            UsageError: no directory of this name was lent.
        """
        try:
            return self._directories[wanted.name]
        except KeyError:
            known = ", ".join(sorted(self._directories)) or "none"
            raise UsageError(f"no local directory is lent as {wanted.name!r}", hint=f"lent are: {known}") from None

    def secret(self, id: str) -> Secret | None:
        """The secret, or None when there is none by this id.

        Raises:
            UsageError: its file cannot be read, its variable is not set, or it is over the limit.
        """
        source = self._secrets.get(id)
        if source is None:
            return None
        value = _read(id, source.file) if source.file is not None else self._variable(id, source.variable)
        if len(value) > MAX_SECRET_BYTES:
            raise UsageError(f"secret {id!r} is larger than {MAX_SECRET_BYTES >> 10} KiB")
        return Secret(value)

    def ssh(self, id: str) -> SshAgent | None:
        """The agent lent under `id`, or None."""
        return self._agents.get(id or "default")

    def content(self, id: str) -> LentContent | None:
        """The content lent under `id`, or None."""
        return self._content.get(id)

    def credentials(self, host: str) -> Credentials:
        """The login for a registry host, or for `host/repository`."""
        return self._docker_config.credentials(host)

    def _variable(self, id: str, name: str) -> bytes:
        try:
            return self._environ[name].encode(errors="surrogateescape")
        except KeyError:
            raise UsageError(f"secret {id!r}: the environment variable {name} is not set") from None


def _read(id: str, file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise UsageError(f"secret {id!r}: {file}: {error.strerror}") from error


def _agents(ssh: Mapping[str, SshSource], known_hosts: Path | None) -> dict[str, SshAgent]:
    from knarr.session.sshagent import open_agent

    trusted = _optional(known_hosts) if known_hosts else b""
    return {id: open_agent(id, source, trusted) for id, source in ssh.items()}


def _optional(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""  # none is known, as for a new user
