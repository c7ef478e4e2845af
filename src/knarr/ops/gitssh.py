"""How git meets a server by ssh: with the keys that the caller lends, and only with host keys that are right.

A host is known by what the definition says, else by the caller's known_hosts and the
machine's. One that nobody knows is taken at its word the first time, as BuildKit does
every time; its key is then kept in the state directory, so that another one at the same
place is noticed. No configuration of ssh and no key of this machine's user is read.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from knarr.ops.sshsocket import lent_socket
from knarr.record import field, record
from knarr.scope import Scope
from knarr.session.session import SshAgent

_ALWAYS = (
    "BatchMode=yes",  # nobody is there to be asked
    "IdentityFile=none",  # only what the caller lends
    "UpdateHostKeys=no",
    "ConnectTimeout=30",
)


@record
class GitSsh:
    """The agent that git may use, and the host keys that the definition pins (empty: it says nothing)."""

    state: Path
    agent: SshAgent = field(repr=False)
    pinned: str = ""

    @property
    def met(self) -> Path:
        """The host keys that were taken on trust."""
        return self.state / "git/known_hosts"

    @contextmanager
    def environment(self, scope: Scope) -> Iterator[Mapping[str, str]]:
        """The variables that git needs while in the block."""
        with lent_socket(self.state, self.agent, scope) as lent:
            known = lent.directory / "known_hosts"
            known.write_bytes(self.pinned.encode() if self.pinned else self.agent.known_hosts)
            if self.pinned:
                hosts = ["StrictHostKeyChecking=yes", _files("UserKnownHostsFile", known), "GlobalKnownHostsFile=none"]
            else:
                self.met.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # ssh writes new keys into the first of them.
                hosts = ["StrictHostKeyChecking=accept-new", _files("UserKnownHostsFile", self.met, known)]
            options = [word for option in (*_ALWAYS, *hosts) for word in ("-o", option)]
            command = shlex.join(["ssh", "-F", "none", *options, "-o", f"IdentityAgent={lent.short}"])
            yield {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh", "SSH_AUTH_SOCK": lent.short}


def _files(option: str, *paths: Path) -> str:
    return f"{option}=" + " ".join(f'"{path}"' for path in paths)
