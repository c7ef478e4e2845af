"""A real sshd on an address of its own, which lets in by key whoever builds."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = "/usr/sbin/sshd"


class SshServer:
    """An sshd below `root`; `key` is the private key that it accepts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # Port 22, so that `user@host:path` works: on one of the loopback's many addresses.
        self.host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        self.key = make_key(root / "user")
        self.accept(self.key)
        self.new_host_key()

    def accept(self, key: Path) -> None:
        """Let in who has `key`."""
        with (self.root / "authorized_keys").open("a") as file:
            file.write(key.with_suffix(".pub").read_text())

    def new_host_key(self) -> None:
        """Show another host key from the next start on."""
        for old in self.root.glob("host*"):
            old.unlink()
        make_key(self.root / "host")

    @property
    def known_host(self) -> str:
        """The line of a known_hosts file."""
        kind, key, *_ = (self.root / "host.pub").read_text().split()
        return f"{self.host} {kind} {key}\n"

    def url(self, path: Path) -> str:
        """`path` in the form of scp."""
        return f"root@{self.host}:{path}"

    @contextmanager
    def running(self) -> Iterator[None]:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.root / "sshd_config"
        config.write_text(
            f"ListenAddress {self.host}:22\nHostKey {self.root}/host\nAuthorizedKeysFile {self.root}/authorized_keys\n"
            "StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPidFile none\nAllowAgentForwarding yes\n"
        )
        with subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL) as sshd:
            try:
                self._wait()
                yield
            finally:
                sshd.terminate()

    def _wait(self) -> None:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((self.host, 22)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("sshd did not start")


@contextmanager
def ssh_server(root: Path) -> Iterator[SshServer]:
    root.mkdir(parents=True, exist_ok=True)
    server = SshServer(root)
    with server.running():
        yield server


@contextmanager
def ssh_agent(place: Path, *keys: Path) -> Iterator[Path]:
    """The machine's own ssh-agent with `keys` in it; gives its socket."""
    socket_path = place / "agent.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL) as agent:
        try:
            for _ in range(200):
                if socket_path.exists():
                    break
                time.sleep(0.02)
            for key in keys:
                ask_agent(socket_path, "-q", str(key))
            yield socket_path
        finally:
            agent.terminate()


def ask_agent(socket_path: Path | str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run ssh-add against an agent."""
    return subprocess.run(
        ["ssh-add", *argv],
        env={"PATH": os.environ["PATH"], "SSH_AUTH_SOCK": str(socket_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=check,
    )


def make_key(path: Path, *options: str, passphrase: str = "") -> Path:
    """A new key as ssh-keygen makes it; ed25519 unless `options` say otherwise."""
    kind = options or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-N", passphrase, "-C", "test", *kind, "-f", str(path)], check=True)
    return path
