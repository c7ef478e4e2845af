"""Where knarr runs in these tests: as a plain user of the machine, and in containers with exactly the restrictions.

Users are no change to the machine: /etc/passwd, /etc/subuid and /etc/subgid are others' in
a mount namespace, and the user that runs there is real: newuidmap gives it what the files say.
Containers are run by runc or crun, with what Docker gives by default or what the Pod
Security Standard "restricted" leaves.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knarr.runtime import capabilities, mounts, seccomp
from knarr.spec.platform import host_platform

SOURCE = Path(__file__).resolve().parents[2] / "src"
UID = 23450  # nobody's on any machine of ours
IDS = "100000:65536"


@dataclass
class Python:
    """An interpreter that any user may execute, with the libraries that knarr needs."""

    program: str
    path: str


def python_for_all() -> Python | str:
    """The interpreter, or the reason why there is none."""
    libraries = f"{SOURCE}:{sysconfig.get_path('purelib')}"
    for program in (sys.executable, "/usr/bin/python3"):
        if not _reachable(os.path.realpath(program)):
            continue
        version = "import sys; print(*sys.version_info[:2])"
        told = subprocess.run([program, "-c", version], capture_output=True, text=True).stdout.split()
        if told == [str(part) for part in sys.version_info[:2]] and _reachable(sysconfig.get_path("purelib")):
            return Python(program, libraries)
    return "no Python of this version, with its libraries, lies where a plain user may execute it"


def _reachable(path: str) -> bool:
    """Whether everybody may go to `path`."""
    parts = [Path(path), *Path(path).parents]
    return all(os.stat(part).st_mode & 0o005 == 0o005 for part in parts if part.exists())


@dataclass
class Place:
    """One profile, ready to run knarr in. `state` is its directory of knarr's, `home` the user's."""

    profile: str
    home: Path
    python: Python
    env: Mapping[str, str]
    uid: int = UID
    ids: str = IDS
    runtime: str = "runc"  # what runs the container
    capabilities: Sequence[str] = ()
    extra: dict[str, str] = field(default_factory=dict)
    forbidden: bool = False  # user namespaces are: a setting of the namespace that the user is in
    binds: Sequence[Path] = ()  # what a container sees besides
    files: Mapping[str, Path] = field(default_factory=dict)  # of the machine, that are others for a user

    @property
    def state(self) -> Path:
        return self.home / "state"

    def knarr(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `knarr argv` to its end."""
        return self.call(self.python.program, "-m", "knarr", *argv, **env)

    def call(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        command, cleanup = self.command(argv, env)
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=self.home, timeout=500)
        finally:
            cleanup()

    def start(self, *argv: str, **env: str) -> subprocess.Popen[str]:
        """Start `knarr argv`; for places without a container."""
        command, _ = self.command((self.python.program, "-m", "knarr", *argv), env)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.home)

    def command(self, argv: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], Any]:
        told = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "KNARR_ROOT": str(self.state),
            "PYTHONPATH": self.python.path,
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.env,
            **self.extra,
            **env,
        }
        if self.profile == "root":
            return ["env", "-i", *(f"{k}={v}" for k, v in told.items()), *argv], _nothing
        if self.profile in ("user", "single"):
            return [*_as_user(self), "env", "-i", *(f"{k}={v}" for k, v in told.items()), *argv], _nothing
        return _contained(self, argv, {"container": "oci", **told})


def _nothing() -> None:
    pass


def _as_user(place: Place) -> list[str]:
    """A prefix that runs a command as the user, for whom the machine's files of users were written anew."""
    etc = place.home / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(f"root:x:0:0::/root:/bin/sh\ntester:x:{place.uid}:{place.uid}::{place.home}:/bin/sh\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"tester:{place.ids}\n" if place.ids else "")
    binds = [(etc / name, f"/etc/{name}") for name in ("passwd", "subuid", "subgid")]
    binds += [(source, target) for target, source in place.files.items()]
    text = "".join(f"mount --bind {source} {target} && " for source, target in binds if Path(target).exists())
    if place.forbidden:
        # A user namespace over the machine's own ids, in which no further one may be made.
        text += "echo 0 > /proc/sys/user/max_user_namespaces && "
    drop = f"exec setpriv --reuid={place.uid} --regid={place.uid} --clear-groups --inh-caps=-all"
    prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{text}{drop} "$@"', "sh"]
    return [sys.executable, "-c", _OWN_NAMESPACE, *prefix] if place.forbidden else prefix


_OWN_NAMESPACE = """
import os, sys
from knarr.privilege.namespace import Maps, enter
enter(Maps(((0, 0, 65536),), ((0, 0, 65536),)), watched=False)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _contained(place: Place, argv: Sequence[str], env: Mapping[str, str]) -> tuple[list[str], Any]:
    bundle = place.home.parent / f"bundle-{os.urandom(4).hex()}"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(_configuration(place, argv, env)))
    name = bundle.name
    program = [shutil.which(place.runtime) or place.runtime, "--root", str(bundle / "state")]

    def cleanup() -> None:
        subprocess.run([*program, "delete", "--force", name], capture_output=True)
        shutil.rmtree(bundle, ignore_errors=True)

    return [*program, "run", "--bundle", str(bundle), name], cleanup


def _configuration(place: Place, argv: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    granted = list(place.capabilities)
    quiet = ["nosuid", "noexec", "nodev"]
    system = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "newinstance"],
        },
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*quiet, "mode=1777"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
    ]
    shown = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", str(SOURCE), sysconfig.get_path("purelib")]
    binds = [_bind(path, writable=False) for path in shown if os.path.exists(path)]
    binds += [_bind(str(path), writable=False) for path in place.binds]
    binds += [_bind(str(place.home), writable=True), _bind(str(Path(env["KNARR_HOSTS_DIR"])), writable=False)]
    architecture = host_platform().architecture
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": place.uid, "gid": place.uid},
            "args": list(argv),
            "env": [f"{key}={value}" for key, value in env.items()],
            "cwd": str(place.home),
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), granted),
            "noNewPrivileges": place.profile == "restricted",
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "pod",
        "mounts": [*system, *binds],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}, *_DEVICES]},
            "seccomp": seccomp.profile(architecture, frozenset(granted)),
            "maskedPaths": list(mounts.MASKED),
            "readonlyPaths": list(mounts.READONLY),
        },
    }


# What Docker's containers may do with devices: make any, use the usual.
_DEVICES = [
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"} for minor in (3, 5, 7, 8, 9)),
    *({"allow": True, "type": "c", "major": 5, "minor": minor, "access": "rwm"} for minor in (0, 2)),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]
DOCKER = tuple(sorted(capabilities.DEFAULT))


def _bind(path: str, *, writable: bool) -> dict[str, Any]:
    """A directory of the machine, at its own place. Not recursive: a container has nothing that is not named."""
    access = ["rw"] if writable else ["ro"]
    return {"destination": path, "type": "bind", "source": path, "options": ["rbind", *access]}
