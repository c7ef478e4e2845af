"""A node image's root directory as a privileged container of runc, in namespaces of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knarr.runtime.capabilities import available

_QUIET = ["nosuid", "noexec", "nodev"]
_SYSTEM = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": _QUIET},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "newinstance"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*_QUIET, "mode=1777"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": _QUIET},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": _QUIET},
]
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "KNARR_ROOT": "/var/lib/knarr",
    "CONTAINERD_ADDRESS": "/run/containerd/containerd.sock",
}


class Node:
    """One container. Its root is the image's, under a layer of its own; `place` is there inside as well."""

    def __init__(self, rootfs: Path, place: Path, env: Mapping[str, str] = {}, binds: Mapping[Path, str] = {}) -> None:
        self.place = place
        self.name = f"node-{os.urandom(4).hex()}"
        self.log = place / "log"
        self._rootfs = rootfs
        self._env = {**_ENV, **env}
        self._binds = {**{place / f"var-{name}": f"/var/lib/{name}" for name in ("containerd", "knarr")}, **binds}
        self._bundle = place / "bundle"
        self.runc = [shutil.which("runc") or "runc", "--root", str(place / "runc")]

    def bind(self, binds: Mapping[Path, str]) -> None:
        """Show more of this machine inside."""
        self._binds.update(binds)

    def configuration(self, argv: Sequence[str]) -> dict[str, Any]:
        """What a privileged container has: all rights and devices, nothing masked."""
        binds = [
            {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
            for source, target in {self.place: str(self.place), **self._binds}.items()
        ]
        granted = dict.fromkeys(("bounding", "effective", "permitted"), sorted(available()))
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": list(argv),
                "env": [f"{key}={value}" for key, value in self._env.items()],
                "cwd": "/",
                "capabilities": granted,
            },
            "root": {"path": str(self._bundle / "merged")},
            "hostname": "node",
            "mounts": [*_SYSTEM, *binds],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
                "resources": {"devices": [{"allow": True, "access": "rwm"}]},
            },
        }

    @contextmanager
    def started(self, *argv: str, **changes: Any) -> Iterator[subprocess.Popen[bytes]]:
        """The container with `argv`, as a process; killed in the end. `changes` are made to the configuration."""
        for directory in (self._bundle / "merged", self._bundle / "upper", self._bundle / "work", *self._binds):
            directory.mkdir(parents=True, exist_ok=True)
        owner = self._rootfs.stat()
        os.chown(self._bundle / "upper", owner.st_uid, owner.st_gid)
        options = f"lowerdir={self._rootfs},upperdir={self._bundle}/upper,workdir={self._bundle}/work"
        merged = str(self._bundle / "merged")
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], check=True)
        (self._bundle / "config.json").write_text(json.dumps({**self.configuration(argv), **changes}))
        with open(self.log, "wb") as log:
            words = [*self.runc, "run", "--bundle", str(self._bundle), self.name]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            subprocess.run([*self.runc, "delete", "--force", self.name], capture_output=True, check=False)
            process.wait(30)
            subprocess.run(["umount", "--lazy", merged], check=True)

    def run(self, *argv: str) -> tuple[int, str]:
        """The container with `argv` to its end: exit status, and what it said."""
        with self.started(*argv) as process:
            status = process.wait(240)
        return status, self.log.read_text()

    def exec(self, *argv: str) -> str:
        """What a program in the running container prints."""
        env = [word for key, value in self._env.items() for word in ("--env", f"{key}={value}")]
        words = [*self.runc, "exec", *env, self.name, *argv]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}\n{self.log.read_text()[-3000:]}"
        return done.stdout

    def pid(self) -> int:
        """Of the entrypoint, outside."""
        said = subprocess.run([*self.runc, "state", self.name], capture_output=True, text=True, check=True).stdout
        return int(json.loads(said)["pid"])

    def tell(self, number: signal.Signals) -> None:
        os.kill(self.pid(), number)

    def until(self, words: str) -> None:
        """Wait until the container has said `words`."""
        deadline = time.monotonic() + 60
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)
