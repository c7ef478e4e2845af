"""Times a mirror of 50 images of two platforms: knarr sync beside crane, skopeo and regsync, as far as they are here.

python bench/mirror.py [--images N] [--runs N] [--layer KIB] [--peers-path DIR]

Two docker-registries on loopback. Every measured first run goes to a repository of its own, so that nothing is there;
the second run of each tool goes where its first went. Medians of wall and CPU time of the command; the registries' work
is the same for all.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from knarr.remote.repository import Registry as Client
from knarr.remote.repository import Repository
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_index, encode_manifest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference
from registry import Registry

PLATFORMS = ("linux/amd64", "linux/arm64")
Command = Callable[[str, str], Sequence[str]]  # source repository, target repository


def main() -> int:
    options = _options()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed knarr has its bytecode
    if options.peers_path:
        os.environ["PATH"] = f"{options.peers_path}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="knarr-mirror-") as place:
        work = Path(place)
        with Registry(work / "a") as source, Registry(work / "b") as target:
            _fill(source.address, options.images, options.layer << 10)
            for name, command in _tools(work).items():
                first, second = [], []
                for run in range(options.runs):
                    argv = command(f"{source.address}/bench/app", f"{target.address}/{name}-{run}/app")
                    first.append(_timed(argv))
                    second.append(_timed(argv))
                print(f"{name:10} first {_shown(first)}   again {_shown(second)}", flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time a mirror of many images.")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layer", type=int, default=256, help="KiB of a layer; each platform has one, and shares one")
    parser.add_argument("--peers-path", help="a directory with crane, regsync")
    return parser.parse_args()


def _tools(work: Path) -> dict[str, Command]:
    found: dict[str, Command] = {"knarr": lambda source, target: _knarr(work, source, target)}
    if shutil.which("regsync"):
        found["regsync"] = lambda source, target: _regsync(work, source, target)
    if shutil.which("crane"):
        found["crane"] = lambda source, target: ["crane", "copy", "--insecure", "-a", "-j", "4", source, target]
    if shutil.which("skopeo"):
        found["skopeo"] = lambda source, target: [
            *("skopeo", "--insecure-policy", "sync", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"),
            *("--src", "docker", "--dest", "docker", source, target.rpartition("/")[0]),
        ]
    return found


def _knarr(work: Path, source: str, target: str) -> Sequence[str]:
    os.environ["KNARR_ROOT"] = str(work / "root")
    file = work / f"{target.replace('/', '-')}.toml"
    file.write_text(f'[[sync]]\nsource = "{source}"\ntarget = "{target}"\n')
    return [str(Path(sys.executable).parent / "knarr"), "sync", "-q", str(file)]


def _regsync(work: Path, source: str, target: str) -> Sequence[str]:
    file = work / f"{target.replace('/', '-')}.yml"
    hosts = [{"registry": name.partition("/")[0], "tls": "disabled"} for name in (source, target)]
    sync = [{"source": source, "target": target, "type": "repository"}]
    file.write_text(json.dumps({"version": 1, "creds": hosts, "defaults": {"parallel": 4}, "sync": sync}))
    return ["regsync", "once", "-c", str(file)]


def _timed(argv: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _shown(samples: Sequence[tuple[float, float]]) -> str:
    wall, cpu = (statistics.median(values) for values in zip(*samples, strict=True))
    return f"{wall:6.3f} s ({cpu:6.3f} s CPU)"


def _fill(host: str, images: int, layer_bytes: int) -> None:
    """`images` tags of one repository; the platforms of all of them share a base layer."""
    with Client(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        place = client.repository(Reference.parse(f"{host}/bench/app"))
        bases = {name: _put(place, mediatype.OCI_LAYER_GZIP, os.urandom(layer_bytes)) for name in PLATFORMS}
        for number in range(images):
            entries = []
            for name in PLATFORMS:
                config = {"os": "linux", "architecture": name.partition("/")[2], "number": number}
                own = _put(place, mediatype.OCI_LAYER_GZIP, os.urandom(layer_bytes))
                layers = [bases[name], own]
                manifest = encode_manifest(_put(place, mediatype.OCI_CONFIG, json.dumps(config).encode()), layers)
                place.push_manifest(manifest.descriptor, manifest.raw)
                bare = manifest.descriptor
                entries.append(Descriptor(bare.media_type, bare.digest, bare.size, Platform.parse(name)))
            index = encode_index(entries)
            place.push_manifest(index.descriptor, index.raw, tag=f"1.{number}")


def _put(place: Repository, media_type: str, data: bytes) -> Descriptor:
    descriptor = Descriptor(media_type, Digest.of(data), len(data))
    place.push(descriptor, io.BytesIO(data))
    return descriptor


if __name__ == "__main__":
    sys.exit(main())
