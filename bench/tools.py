"""The builders that are compared: how each is started, emptied, and told to build and push."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from workloads import Workload


class Tool(ABC):
    """One builder. `daemon` is the process whose tree works for it besides the measured command."""

    name = ""
    daemon: int | None = None

    def __init__(self, work: Path, registry: str) -> None:
        self.work = work / self.name
        self.registry = registry
        self.work.mkdir(parents=True, exist_ok=True)
        self.env: dict[str, str] = {**os.environ, "TMPDIR": str(self.work)}

    @staticmethod
    @abstractmethod
    def is_here() -> bool: ...

    def start(self) -> None:
        return None

    def stop(self) -> None:
        return None

    @abstractmethod
    def empty(self) -> None:
        """Forget every build, and every base image too."""

    @abstractmethod
    def command(self, workload: Workload, context: Path) -> Sequence[str]:
        """Build the workload and push it to the registry under a name of its own."""

    def name_of(self, workload: Workload) -> str:
        return f"{self.registry}/bench/{self.name}-{workload.name}:latest"

    def run(self, *argv: str, check: bool = True) -> None:
        subprocess.run(argv, env=self.env, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Knarr(Tool):
    name = "knarr"

    @staticmethod
    def is_here() -> bool:
        return True

    def start(self) -> None:
        hosts = self.work / "certs.d/docker.io"
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(f'server = "http://{self.registry}"\n')
        self.env |= {"KNARR_ROOT": str(self.work / "root"), "KNARR_HOSTS_DIR": str(self.work / "certs.d")}

    def empty(self) -> None:
        shutil.rmtree(self.work / "root", ignore_errors=True)

    def command(self, workload: Workload, context: Path) -> Sequence[str]:
        output = f"type=image,name={self.name_of(workload)},push=true,compression={workload.compression}"
        argv = [str(Path(sys.executable).parent / "knarr"), "build", "--progress=quiet", "--output", output]
        argv.append("--provenance=false")  # buildctl adds none by itself either
        if workload.platforms:
            argv += ["--platform", workload.platforms]
        return [*argv, "-f", str(context.parent / "Dockerfile"), str(context)]


class BuildKit(Tool):
    name = "buildkit"

    @staticmethod
    def is_here() -> bool:
        return bool(shutil.which("buildctl") and shutil.which("buildkitd"))

    @property
    def address(self) -> str:
        return f"unix://{self.work}/buildkitd.sock"

    @property
    def server(self) -> Sequence[str]:
        """The program that serves builds."""
        return ["buildkitd"]

    def start(self) -> None:
        config = self.work / "buildkitd.toml"
        config.write_text(
            f'[registry."docker.io"]\n  mirrors = ["{self.registry}"]\n[registry."{self.registry}"]\n  http = true\n'
        )
        argv = [*self.server, "--config", str(config), "--root", str(self.work / "root"), "--addr", self.address]
        with open(self.work / "log", "wb") as log:
            process = subprocess.Popen([*argv, "--oci-worker-gc=false"], env=self.env, stdout=log, stderr=log)
        self.daemon = process.pid
        _wait_for(lambda: subprocess.run([*self.ctl, "debug", "workers"], capture_output=True).returncode == 0)

    @property
    def ctl(self) -> list[str]:
        return ["buildctl", "--addr", self.address]

    def stop(self) -> None:
        _end(self.daemon)

    def empty(self) -> None:
        self.run(*self.ctl, "prune", "--all")

    def command(self, workload: Workload, context: Path) -> Sequence[str]:
        output = f"type=image,name={self.name_of(workload)},push=true,compression={workload.compression}"
        argv = [*self.ctl, "build", "--progress=plain", "--frontend", "dockerfile.v0", "--output", output]
        argv += ["--local", f"context={context}", "--local", f"dockerfile={context.parent}"]
        if workload.platforms:
            argv += ["--opt", f"platform={workload.platforms}"]
        return argv


class KnarrDaemon(BuildKit):
    """The same client with `knarr daemon`."""

    name = "knarr-daemon"

    @staticmethod
    def is_here() -> bool:
        return bool(shutil.which("buildctl"))

    @property
    def server(self) -> Sequence[str]:
        return [str(Path(sys.executable).parent / "knarr"), "daemon"]


class Buildah(Tool):
    name = "buildah"

    @staticmethod
    def is_here() -> bool:
        return bool(shutil.which("buildah"))

    def start(self) -> None:
        registries = self.work / "registries.conf"
        registries.write_text(
            'unqualified-search-registries = ["docker.io"]\n'
            f'[[registry]]\nprefix = "docker.io"\nlocation = "{self.registry}"\ninsecure = true\n'
            f'[[registry]]\nlocation = "{self.registry}"\ninsecure = true\n'
        )
        self.env |= {"CONTAINERS_REGISTRIES_CONF": str(registries), "BUILDAH_ISOLATION": "chroot"}
        policy = self.work / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        build = ["buildah", "--root", str(self.work / "root"), "--runroot", str(self.work / "run")]
        self._buildah = [*build, "--storage-driver", "overlay"]
        self._policy = ["--signature-policy", str(policy)]

    def empty(self) -> None:
        self.run(*self._buildah, "rmi", "--all", "--force", check=False)

    def command(self, workload: Workload, context: Path) -> Sequence[str]:
        name = self.name_of(workload)
        file = context.parent / "Dockerfile"
        build = [*self._buildah, "build", *self._policy, "--layers", "-q", "-t", name, "-f", str(file), str(context)]
        push = [*self._buildah, "push", *self._policy, "-q", "--tls-verify=false", name]
        if workload.compression != "gzip":
            push[-1:-1] = ["--compression-format", workload.compression]
        return ["sh", "-c", f"{_quoted(build)} && {_quoted(push)}"]


class Docker(Tool):
    name = "docker"

    @staticmethod
    def is_here() -> bool:
        return bool(shutil.which("docker") and shutil.which("dockerd"))

    @property
    def _host(self) -> str:
        return f"unix://{self.work}/docker.sock"

    def start(self) -> None:
        argv = ["dockerd", "--data-root", str(self.work / "root"), "--exec-root", str(self.work / "exec")]
        argv += ["-H", self._host, "--pidfile", str(self.work / "pid"), "--bridge=none", "--iptables=false"]
        argv += ["--registry-mirror", f"http://{self.registry}", "--insecure-registry", self.registry]
        with open(self.work / "log", "wb") as log:
            process = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log)
        self.daemon = process.pid
        self.env |= {"DOCKER_HOST": self._host, "DOCKER_BUILDKIT": "1"}
        _wait_for(lambda: subprocess.run(["docker", "info"], env=self.env, capture_output=True).returncode == 0)

    def stop(self) -> None:
        _end(self.daemon)

    def empty(self) -> None:
        self.run("docker", "system", "prune", "--all", "--force")
        self.run("docker", "builder", "prune", "--all", "--force")

    def command(self, workload: Workload, context: Path) -> Sequence[str]:
        name = self.name_of(workload)
        file = context.parent / "Dockerfile"
        build = ["docker", "build", "-q", "--network=host", "-t", name, "-f", str(file), str(context)]
        return ["sh", "-c", f"{_quoted(build)} && {_quoted(['docker', 'push', '-q', name])}"]


TOOLS: Mapping[str, type[Tool]] = {tool.name: tool for tool in (Knarr, KnarrDaemon, BuildKit, Buildah, Docker)}


def can_do(tool: Tool, workload: Workload) -> bool:
    """Whether the tool can do the workload at all as it comes from its package."""
    if tool.name in ("docker", "buildah"):
        # Debian's docker pushes no zstd; both need emulators registered on the host for a second platform.
        return not workload.platforms and (workload.compression == "gzip" or tool.name == "buildah")
    return True


def _quoted(argv: Sequence[str]) -> str:
    import shlex

    return shlex.join(argv)


def _wait_for(ready: object, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not ready():  # type: ignore[operator]  # a plain callable
        if time.monotonic() > deadline:
            raise TimeoutError("the daemon did not come up")
        time.sleep(0.1)


def _end(pid: int | None) -> None:
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
