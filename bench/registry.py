"""The registry every builder takes its bases from and pushes to: Debian's, with plain HTTP on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

import debian_bases
from workloads import one_large_file


class Registry:
    """Runs while its context lasts."""

    def __init__(self, work: Path) -> None:
        self._work = work / "registry"
        self._work.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"localhost:{probe.getsockname()[1]}"

    def __enter__(self) -> Registry:
        config = self._work / "config.yml"
        port = self.address.rpartition(":")[2]
        config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self._work}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        )
        with open(self._work / "log", "wb") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2).close()
                return self
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def __exit__(self, *failure: object) -> None:
        self._process.terminate()
        self._process.wait()


def push_base(registry: Registry, work: Path) -> None:
    """busybox for both platforms, as docker.io/library/busybox."""
    bases = work / "bases"
    bases.mkdir(exist_ok=True)
    _push(f"oci:{debian_bases.busybox(bases)}:latest", registry, "busybox")


def push_large(registry: Registry, work: Path) -> None:
    """An image with a layer of 1 GiB on top of busybox, as docker.io/library/bench-large."""
    place = work / "bases/large"
    if not (place / "index.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        one_large_file(1024)(place)
        layout = f"{place}/oci:latest"
        base = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{work}/bases/busybox:latest", f"oci:{layout}"]
        subprocess.run(base, check=True)  # of this machine's platform alone
        subprocess.run(["umoci", "insert", "--image", layout, str(place / "large.bin"), "/large.bin"], check=True)
        (place / "large.bin").unlink()
        (place / "index.json").touch()
    _push(f"oci:{place}/oci:latest", registry, "bench-large")


def _push(source: str, registry: Registry, name: str) -> None:
    target = f"docker://{registry.address}/library/{name}:latest"
    argv = ["skopeo", "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false", source, target]
    subprocess.run(argv, check=True)
