"""Cache mounts that go along with a shared cache: `--cache-to …,mounts=ID`, and back by `--cache-from`."""

from __future__ import annotations

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]

WRITE = """FROM busybox
RUN --mount=type=cache,id=pkgs,target=/c,uid=7,mode=0750 \\
    mkdir -p /c/sub && echo kept > /c/sub/file && ln -s sub/file /c/link && chown 5:6 /c/link \\
    && touch -d @1000000000 /c/sub/file
RUN --mount=type=cache,target=/other echo other > /other/x
"""
MOUNT = "--mount=type=cache,id=pkgs,target=/c,uid=7,mode=0750"
LIST = f"FROM busybox\nRUN {MOUNT} ls /c > /seen; stat -c %a /c >> /seen\n"
READ = """FROM busybox
RUN --mount=type=cache,id=pkgs,target=/c,uid=7,mode=0750 \\
    cat /c/sub/file /c/link > /seen; stat -c '%u %g %a %Y' /c /c/sub/file >> /seen; stat -c '%u' /c/link >> /seen
"""


def _fresh(knarr: Knarr) -> None:
    shutil.rmtree(knarr.root, ignore_errors=True)


def _manifest(shared: Path) -> dict[str, Any]:
    index = json.loads((shared / "index.json").read_text())
    raw = (shared / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text()
    manifest: dict[str, Any] = json.loads(raw)
    return manifest


def _mounts(shared: Path) -> dict[str, str]:
    """The blobs of cache mounts in a cache, by id."""
    layers = _manifest(shared)["layers"]
    notes = [(layer["annotations"].get("knarr/cachemount"), layer["digest"]) for layer in layers]
    return {id: digest for id, digest in notes if id}


def test_a_mount_comes_back_on_another_machine(knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    knarr.run(*knarr.command(WRITE, "--cache-to", f"type=local,dest={shared},mounts=pkgs"), "-o", "type=cacheonly")
    _fresh(knarr)
    image = knarr.build(READ, "--cache-from", f"type=local,src={shared}")
    seen = image.contents["seen"].decode().splitlines()
    assert seen[:2] == ["kept", "kept"]
    assert seen[2].startswith("7 0 750 ")
    assert seen[3:] == ["5 6 644 1000000000", "0"]


def test_only_the_mounts_that_are_named_go_along(knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    for ids, expected in (("pkgs", {"/pkgs"}), ("/other,pkgs", {"/pkgs", "//other"})):
        to = f"type=local,dest={shared},mounts={ids}"
        knarr.run(*knarr.command(WRITE, "--cache-to", to), "-o", "type=cacheonly")
        assert set(_mounts(shared)) == expected


def test_equal_directories_are_equal_blobs(knarr: Knarr) -> None:
    one, two = knarr.work / "one", knarr.work / "two"
    for shared in (one, two):
        _fresh(knarr)
        text = f"FROM busybox\nRUN {MOUNT} mkdir /c/d && touch -d @7 /c/d/b /c/d/a && touch -d @8 /c/d /c\n"
        knarr.run(*knarr.command(text, "--cache-to", f"type=local,dest={shared},mounts=pkgs"), "-o", "type=cacheonly")
    assert _mounts(one) == _mounts(two)


def test_a_mount_that_is_here_is_not_replaced(knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    knarr.run(*knarr.command(WRITE, "--cache-to", f"type=local,dest={shared},mounts=pkgs"), "-o", "type=cacheonly")
    _fresh(knarr)
    own = WRITE.replace("echo kept", "echo own")
    knarr.run(*knarr.command(own), "-o", "type=cacheonly")
    image = knarr.build(READ, "--cache-from", f"type=local,src={shared}")
    assert image.contents["seen"].startswith(b"own\nown\n")


def test_a_mount_that_no_step_needed_stays_in_the_cache_unread(knarr: Knarr, bases: Any) -> None:
    name = f"{bases.address}/mounts/{knarr.work.name.lower()}:c"
    command = knarr.command(WRITE, "--cache-from", name, "--cache-to", f"type=registry,ref={name},mode=max,mounts=pkgs")
    knarr.run(*command, "-o", "type=cacheonly")
    _fresh(knarr)
    done = knarr.run(*command, "-o", "type=cacheonly")
    repository, _, tag = name.removeprefix(f"{bases.address}/").rpartition(":")
    url = f"http://{bases.address}/v2/{repository}/manifests/{tag}"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=accept)) as answer:
        raw = json.load(answer)
    kept = [layer["digest"] for layer in raw["layers"] if "knarr/cachemount" in layer["annotations"]]
    assert done.stderr.count(" CACHED\n") == 3  # with the directory that carries owner and mode
    assert len(kept) == 1
    assert not (knarr.root / "content/blobs" / kept[0].replace(":", "/")).exists()


def test_an_unknown_mount_is_a_warning(knarr: Knarr) -> None:
    to = ("--cache-to", f"type=local,dest={knarr.work}/shared,mounts=nobody")
    done = knarr.run(*knarr.command(WRITE, *to), "-o", "type=cacheonly")
    assert "cache mount nobody: no step has used one of this id" in done.stderr


@pytest.mark.parametrize("damage", ["gone", "other bytes", "no archive"])
def test_a_damaged_mount_begins_empty(knarr: Knarr, damage: str) -> None:
    shared = knarr.work / "shared"
    knarr.run(*knarr.command(WRITE, "--cache-to", f"type=local,dest={shared},mounts=pkgs"), "-o", "type=cacheonly")
    blob = shared / "blobs" / _mounts(shared)["/pkgs"].replace(":", "/")
    if damage == "gone":
        blob.unlink()
    elif damage == "other bytes":
        blob.chmod(0o644)
        blob.write_bytes(bytes(blob.stat().st_size))
    else:
        _point_mount_at(shared, b"no archive")
    _fresh(knarr)
    text = LIST
    command = knarr.command(text, "--cache-from", f"type=local,src={shared}")
    done = knarr.run(*command, "-o", f"type=local,dest={knarr.work}/tree")
    assert (knarr.work / "tree/seen").read_text() == "750\n"
    assert "is not used: " in done.stderr


def test_names_of_whiteouts_and_paths_outside_cannot_come_in(knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    knarr.run(*knarr.command(WRITE, "--cache-to", f"type=local,dest={shared},mounts=pkgs"), "-o", "type=cacheonly")
    _point_mount_at(shared, _archive(knarr.work, "../../outside"))
    _fresh(knarr)
    done = knarr.run(*knarr.command(LIST, "--cache-from", f"type=local,src={shared}"), "-o", "type=cacheonly")
    assert "is not used: " in done.stderr
    assert not list(knarr.root.rglob("outside"))


def test_a_file_that_no_layer_can_hold_leaves_the_mount_as_it_was(knarr: Knarr) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,id=pkgs,target=/c touch /c/.wh.name\n"
    to = ("--cache-to", f"type=local,dest={knarr.work}/shared,mounts=pkgs")
    done = knarr.run(*knarr.command(text, *to), "-o", "type=cacheonly")
    assert "cache mount pkgs stays as the cache had it: /.wh.name: no layer can hold" in done.stderr


def _archive(work: Path, name: str) -> bytes:
    import gzip
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return gzip.compress(data.getvalue())


def _point_mount_at(shared: Path, content: bytes) -> None:
    """Let the cache mount of a cache be another blob, well described."""
    import hashlib

    def put(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (shared / "blobs/sha256" / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = _manifest(shared)
    for layer in manifest["layers"]:
        if "knarr/cachemount" in layer["annotations"]:
            layer.update(put(content))
    index = json.loads((shared / "index.json").read_text())
    index["manifests"][0].update(put(json.dumps(manifest).encode()))
    (shared / "index.json").write_text(json.dumps(index))
