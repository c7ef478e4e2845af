"""The main job: a Dockerfile, two platforms, a registry on a private domain with a private CA and a login.

    demo/run [DIRECTORY]

Everything is made here: the CA, the registry, the base images out of Debian
packages. DIRECTORY (default .demo) keeps what was downloaded for the next time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import debian_tarball, resolve_privately

from registry import Registry

HOST = "registry.demo.internal"
PLATFORMS = ("linux/amd64", "linux/arm64")
_ABOUT = "vnd.docker.reference.digest"  # of an attestation: the manifest that it is about
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
ROOT = Path(__file__).resolve().parents[1]


class Demo:
    """One run: its directory, its environment, and how long each part took."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.times: list[tuple[str, float]] = []
        for name in ("state", "second-state", "docker", "certs.d", "out"):
            shutil.rmtree(work / name, ignore_errors=True)
        (work / "out").mkdir(parents=True)
        self.registry = Registry(work, HOST)
        self.image = f"{self.registry.address}/demo/greeting:1.0"
        self.env = {
            **os.environ,
            "KNARR_ROOT": str(work / "state"),
            "KNARR_HOSTS_DIR": str(work / "certs.d"),
            "DOCKER_CONFIG": str(work / "docker"),
            "REGISTRY_AUTH_FILE": str(work / "docker/config.json"),
        }

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Announce a part, and keep the time it took."""
        print(f"\n=== {title}", flush=True)
        started = time.monotonic()
        yield
        self.times.append((title, time.monotonic() - started))

    def run(self, *argv: str, stdin: str | None = None, **env: str) -> None:
        """Show a command and run it; stop the demo when it fails."""
        self._call(argv, stdin, env, capture=False)

    def output(self, *argv: str, **env: str) -> str:
        """Like `run`, and give what the command wrote to standard output."""
        return self._call(argv, None, env, capture=True)

    def _call(self, argv: tuple[str, ...], stdin: str | None, env: dict[str, str], *, capture: bool) -> str:
        print("$ " + " ".join(argv), flush=True)
        words = [str(ROOT / ".venv/bin/knarr"), *argv[1:]] if argv[0] == "knarr" else list(argv)
        done = subprocess.run(
            words,
            env={**self.env, **env},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE if capture else None,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"demo: this failed with status {done.returncode}: {' '.join(argv)}")
        return done.stdout or ""


def main() -> int:
    work = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".demo").resolve()
    demo = Demo(work)
    with demo.part(f"A private CA, and a certificate for {HOST}"):
        demo.registry.make_certificates()
        demo.registry.trust_in(work / "certs.d")
    resolve_privately(HOST, work / "hosts")
    with demo.part("A registry with TLS and a login"):
        demo.registry.start()
    try:
        base_images(demo)
        build(demo)
        take_back(demo)
        run_it(demo)
    finally:
        demo.registry.stop()
    report(demo)
    return 0


def base_images(demo: Demo) -> None:
    with demo.part("Debian packages for amd64 and arm64, from this machine's own mirror"):
        context = demo.work / "debian"
        context.mkdir(exist_ok=True)
        for platform in PLATFORMS:
            debian_tarball(platform.split("/")[1], context)
    with demo.part("knarr login"):
        user, password = demo.registry.login
        demo.run("knarr", "login", "--username", user, "--password-stdin", demo.registry.address, stdin=password)
    with demo.part("knarr build: a Debian base image for two platforms, pushed"):
        demo.run(
            *("knarr", "build", "--progress=plain", "--platform", ",".join(PLATFORMS), "--push"),
            *("--file", str(ROOT / "demo/debian/Dockerfile")),
            *("--tag", f"{demo.registry.address}/base/debian:bookworm", str(context)),
        )


def build(demo: Demo) -> None:
    with demo.part("knarr build: the example for two platforms, pushed"):
        demo.run(
            *("knarr", "build", "--progress=plain", "--platform", ",".join(PLATFORMS), "--push"),
            *("--build-arg", f"REGISTRY={demo.registry.address}/base"),
            *("--metadata-file", str(demo.work / "out/metadata.json")),
            *("--tag", demo.image, str(ROOT / "examples/greeting")),
        )
    with demo.part("The same again: nothing has changed"):
        demo.run(
            *("knarr", "build", "--progress=plain", "--platform", ",".join(PLATFORMS), "--push"),
            *("--build-arg", f"REGISTRY={demo.registry.address}/base"),
            *("--tag", demo.image, str(ROOT / "examples/greeting")),
        )


def take_back(demo: Demo) -> None:
    built = json.loads((demo.work / "out/metadata.json").read_text())["containerimage.digest"]
    with demo.part("skopeo takes both platforms from the registry"):
        certificates = f"--src-cert-dir={demo.work}/certs.d/{demo.registry.address}"
        for platform in PLATFORMS:
            system, architecture = platform.split("/")
            demo.run(
                *("skopeo", "--insecure-policy", f"--override-os={system}", f"--override-arch={architecture}", "copy"),
                *("--quiet", certificates, f"docker://{demo.image}", f"oci:{demo.work}/out/{architecture}:latest"),
            )
    with demo.part("knarr takes both platforms from the registry, into an empty store"):
        state = str(demo.work / "second-state")
        for platform in PLATFORMS:
            demo.run("knarr", "pull", "--platform", platform, demo.image, KNARR_ROOT=state)
        demo.run("knarr", "images", KNARR_ROOT=state)
        found = demo.output("skopeo", "inspect", "--raw", *_trusted(demo), f"docker://{demo.image}")
    entries = json.loads(found)["manifests"]
    described = {entry["digest"]: "{os}/{architecture}".format(**entry["platform"]) for entry in entries}
    said = sorted(described.get(entry.get("annotations", {}).get(_ABOUT, ""), "") for entry in entries)
    platforms = sorted(platform for platform in described.values() if platform != "unknown/unknown")
    if platforms != sorted(PLATFORMS) or said != ["", "", *platforms]:
        raise SystemExit(f"demo: the registry has {entries}, and should have {PLATFORMS}, with an attestation of each")
    print(f"{built} in the registry is for {' and '.join(platforms)}, and says how each was built")


def _trusted(demo: Demo) -> tuple[str, ...]:
    return (f"--cert-dir={demo.work}/certs.d/{demo.registry.address}",)


def run_it(demo: Demo) -> None:
    with demo.part("Both run, as steps of a build that starts from the image"):
        dockerfile = demo.work / "out/Dockerfile"
        dockerfile.write_text(f"FROM {demo.image}\nRUN greet demo\n")
        for platform in PLATFORMS:
            log = demo.work / "out/run.log"
            with log.open("w") as out:
                _run_step(demo, platform, dockerfile, out.fileno())
            said = log.read_text()
            print(said, end="")
            if f"demo greets from {MACHINES[platform]}" not in said or f"built for {platform}" not in said:
                raise SystemExit(f"demo: the image for {platform} did not say what it should")
    with demo.part("runc runs what umoci unpacks from skopeo's copy"):
        bundle = demo.work / "out/bundle"
        demo.run("umoci", "unpack", "--image", f"{demo.work}/out/amd64:latest", str(bundle))
        config = json.loads((bundle / "config.json").read_text())
        config["process"]["terminal"] = False
        (bundle / "config.json").write_text(json.dumps(config))
        demo.run("runc", "run", "--bundle", str(bundle), f"knarr-demo-{os.getpid()}")


def _run_step(demo: Demo, platform: str, dockerfile: Path, out: int) -> None:
    words = ("build", "--progress=plain", "--no-cache", "--platform", platform, "--output", "type=cacheonly")
    print(f"$ knarr {' '.join(words)} …", flush=True)
    done = subprocess.run(
        [str(ROOT / ".venv/bin/knarr"), *words, "--file", str(dockerfile), str(dockerfile.parent)],
        env=demo.env,
        stdin=subprocess.DEVNULL,
        stderr=out,
    )
    if done.returncode:
        print(dockerfile.with_name("run.log").read_text(), file=sys.stderr)
        raise SystemExit(f"demo: the image for {platform} does not run")


def report(demo: Demo) -> None:
    print("\n=== Done")
    for title, seconds in demo.times:
        print(f"{seconds:7.1f}s  {title}")
    print(f"{sum(seconds for _, seconds in demo.times):7.1f}s  in all")


if __name__ == "__main__":
    sys.exit(main())
