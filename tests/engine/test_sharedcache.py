"""`--cache-to` and `--cache-from`: what one state directory made, another one takes, and nothing of it can hurt."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Knarr, open_archive

pytestmark = [pytest.mark.root, pytest.mark.system]

DOCKERFILE = """FROM busybox AS build
WORKDIR /w
COPY src /w/src
RUN cat src/a > out && echo built >> out
FROM busybox AS tools
RUN head -c 9 /dev/urandom | sha256sum > /random
FROM busybox
ENV A=1
COPY top /etc/
COPY --from=build /w/out /app/
COPY --from=tools /random /app/
COPY --link --chown=5:6 src/*.c /linked/
RUN --mount=from=build,source=/w/src,target=/m --mount=type=cache,target=/c cat /m/a > /final
RUN --mount=target=/m ls /m > /names
"""
STEPS = 11  # that can be cached
Build = Callable[..., "Built"]


class Built:
    """A build that was: its output, and its image."""

    def __init__(self, output: str, archive: Path) -> None:
        self.output = output
        self.image = open_archive(archive)[0]

    @property
    def cached(self) -> int:
        return self.output.count(" CACHED\n")

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.output.splitlines() if "cache" in line and line.startswith("WARNING")]


@pytest.fixture
def build(knarr: Knarr) -> Build:
    """Build the example, by default on a fresh state directory."""
    context = knarr.work / "context"
    (context / "src").mkdir(parents=True)
    (context / "top").write_text("top\n")
    (context / "src/a").write_text("a\n")
    (context / "src/b.c").write_text("b\n")

    def run(*options: str, keep: bool = False, dockerfile: str = DOCKERFILE) -> Built:
        if not keep:
            shutil.rmtree(knarr.root, ignore_errors=True)
        archive = knarr.work / "out.tar"
        done = knarr.run(*knarr.command(dockerfile, *options), "-o", f"type=oci,dest={archive}")
        return Built(done.stderr, archive)

    return run


@pytest.mark.parametrize(
    ("to", "source"),
    [
        ("{name}", "{name}"),
        ("type=registry,ref={name},mode=max,image-manifest=false", "type=registry,ref={name}"),
        ("type=registry,ref={name},mode=max,oci-mediatypes=false", "{name}"),
        ("type=local,dest={directory},mode=max", "type=local,src={directory}"),
        ("type=local,dest={directory},tag=x", "type=local,src={directory},tag=x"),
    ],
)
def test_a_fresh_state_takes_every_step_from_the_shared_cache(
    build: Build, knarr: Knarr, bases: Any, to: str, source: str
) -> None:
    words = {"name": f"{bases.address}/cache/{knarr.work.name.lower()}:a", "directory": knarr.work / "shared"}
    first = build("--cache-to", to.format(**words))
    second = build("--cache-from", source.format(**words))
    assert first.cached == 0
    assert second.cached == STEPS
    assert second.image.manifest["layers"] == first.image.manifest["layers"]
    assert second.image.config == first.image.config


def test_the_largest_cache_serves_the_stages_that_the_smallest_does_not(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    changed = DOCKERFILE.replace("ENV A=1", "ENV A=2\nRUN true")
    build("--cache-to", f"type=local,dest={shared},mode=min")
    smallest = build("--cache-from", f"type=local,src={shared}", dockerfile=changed)
    build("--cache-to", f"type=local,dest={shared},mode=max")
    largest = build("--cache-from", f"type=local,src={shared}", dockerfile=changed)
    assert "[tools 2/2] RUN head" in smallest.output
    assert smallest.cached < largest.cached


def test_an_image_carries_its_own_cache(build: Build, knarr: Knarr, bases: Any) -> None:
    name = f"{bases.address}/inline/{knarr.work.name.lower()}:1"
    first = build("--cache-to", "type=inline", "-t", name, "--push")
    second = build("--cache-from", name)
    assert "moby.buildkit.cache.v0" in first.image.config
    assert "moby.buildkit.cache.v0" not in second.image.config
    assert second.cached == STEPS


def test_an_image_made_of_its_own_cache_carries_the_same_again(build: Build, knarr: Knarr, bases: Any) -> None:
    name = f"{bases.address}/inline/{knarr.work.name.lower()}:2"
    made = [build("--cache-to", "type=inline", "-t", name, "--push")]
    made += [build("--cache-from", name, "--cache-to", "type=inline", "-t", name, "--push") for _ in range(2)]
    assert [one.cached for one in made] == [0, STEPS, STEPS]
    assert made[0].image.config == made[1].image.config == made[2].image.config


def test_the_build_argument_of_buildkit_asks_for_an_inline_cache(build: Build) -> None:
    assert "moby.buildkit.cache.v0" in build("--build-arg", "BUILDKIT_INLINE_CACHE=1").image.config


def test_two_platforms_share_one_cache(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    simple = "FROM busybox\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\nCOPY top /top\n"
    both = ("--platform", "linux/amd64,linux/arm64")
    build(*both, "--cache-to", f"type=local,dest={shared}", dockerfile=simple)
    second = build(*both, "--cache-from", f"type=local,src={shared}", dockerfile=simple)
    assert second.cached == 4


def test_equal_caches_have_equal_bytes(build: Build, knarr: Knarr) -> None:
    one, two = knarr.work / "one", knarr.work / "two"
    build("--cache-to", f"type=local,dest={one},mode=max")
    build("--cache-from", f"type=local,src={one}", "--cache-to", f"type=local,dest={two},mode=max")
    assert (one / "index.json").read_bytes() == (two / "index.json").read_bytes()


def test_a_step_that_is_only_pushed_onward_is_not_fetched(build: Build, knarr: Knarr, bases: Any) -> None:
    name = f"{bases.address}/lazy/{knarr.work.name.lower()}"
    build("-t", f"{name}:1", "--push", "--cache-to", f"{name}:cache")
    shutil.rmtree(knarr.root)
    options = ("--cache-from", f"{name}:cache", "--provenance=false", "-t", f"{name}:2", "--push")
    knarr.run(*knarr.command(DOCKERFILE, *options))
    manifest = json.loads(knarr.run("inspect", "--raw", f"{name}:2").stdout)
    held = {path.name for path in (knarr.root / "content/blobs/sha256").iterdir()}
    assert len(manifest["layers"]) > STEPS // 2
    assert not held & {layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]}


def test_a_changed_file_runs_what_reads_it_and_nothing_else(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    build("--cache-to", f"type=local,dest={shared},mode=max")
    (knarr.work / "context/src/a").write_text("changed\n")
    second = build("--cache-from", f"type=local,src={shared}")
    assert second.image.contents["final"] == b"changed\n"
    assert "RUN head -c 9 /dev/urandom | sha256sum > /random\n#" in second.output
    assert 4 <= second.cached < STEPS


def test_no_cache_takes_nothing_from_a_shared_cache(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    first = build("--cache-to", f"type=local,dest={shared},mode=max")
    second = build("--cache-from", f"type=local,src={shared}", "--no-cache")
    assert second.cached == 1  # WORKDIR, which --no-cache does not mean, as with BuildKit
    assert second.image.contents["app/random"] != first.image.contents["app/random"]


def test_what_was_taken_once_is_known_without_the_shared_cache(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    build("--cache-to", f"type=local,dest={shared}")
    build("--cache-from", f"type=local,src={shared}")
    shutil.rmtree(shared)
    assert build(keep=True).cached == STEPS


# --- caches that are not what they should be


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        ("127.0.0.1:1/nobody:here", "127.0.0.1:1"),
        ("type=local,src=nowhere", "there is no cache in the directory"),
        ("{address}/library/busybox", "it is an image without a cache in it"),
        ("{address}/no/such:cache", "not found"),
    ],
    ids=["unreachable", "no-directory", "no-cache", "unknown"],
)
def test_a_cache_that_is_not_there_is_a_warning(build: Build, bases: Any, source: str, fact: str) -> None:
    built = build("--cache-from", source.format(address=bases.address))
    assert built.cached == 0
    assert "is not used" in built.output
    assert fact in built.output


def test_a_cache_with_a_wrong_config_is_no_cache(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    build("--cache-to", f"type=local,dest={shared}")
    _replace_config(shared, b'{"records":[{"layers":[{"layer":3}]}]}')
    built = build("--cache-from", f"type=local,src={shared}")
    assert built.cached == 0
    assert "record 0 of a cache config has a layer that is not there" in built.output


def test_a_malformed_manifest_is_no_cache(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    build("--cache-to", f"type=local,dest={shared}")
    _replace_manifest(shared, {"schemaVersion": 2, "config": {}, "layers": [{"annotations": 7}]})
    built = build("--cache-from", f"type=local,src={shared}")
    assert built.cached == 0
    assert "is not used" in built.output


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_layers_that_cannot_be_had_are_made_anew(build: Build, knarr: Knarr, damage: str) -> None:
    shared = knarr.work / "shared"
    first = build("--cache-to", f"type=local,dest={shared},mode=max")
    for layer in first.image.manifest["layers"][1:]:
        blob = shared / "blobs" / layer["digest"].replace(":", "/")
        if damage == "gone":
            blob.unlink()
        else:
            data = blob.read_bytes()
            blob.chmod(0o644)
            blob.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    second = build("--cache-from", f"type=local,src={shared}")
    assert second.image.contents["final"] == b"a\n"
    assert "is not there" in second.output or "the build begins again without it" in second.output
    third = build("--cache-from", f"type=local,src={shared}", keep=True)
    assert third.cached == STEPS


def test_a_registry_that_forgot_a_layer_costs_only_the_step(build: Build, knarr: Knarr, bases: Any) -> None:
    name = f"{bases.address}/forgot/{knarr.work.name.lower()}:c"
    simple = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n"
    first = build("--cache-to", f"{name}", dockerfile=simple)
    _delete_blob(bases.address, name, first.image.manifest["layers"][-1]["digest"])
    second = build("--cache-from", name, dockerfile=simple)
    assert second.image.contents["two"] == b"two\n"
    assert "is not there" in second.output
    assert second.cached == 1


# --- writing


def test_a_cache_that_cannot_be_written_fails_the_build_unless_it_is_told_not_to(build: Build, knarr: Knarr) -> None:
    to = ("--cache-to", "type=registry,ref=127.0.0.1:1/x:y")
    failed = knarr.run(*knarr.command(DOCKERFILE, *to), check=False)
    assert failed.returncode == 1
    assert "(cache 127.0.0.1:1/x:y)" in failed.stderr
    ignored = build(to[0], f"{to[1]},ignore-error=true")
    assert "the cache was not written to 127.0.0.1:1/x:y" in ignored.output


def test_zstd_layers_come_back(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    build("--cache-to", f"type=local,dest={shared},mode=max,compression=zstd,force-compression=true")
    blobs = {path.name: path.read_bytes()[:4] for path in (shared / "blobs/sha256").iterdir()}
    done = knarr.run(*knarr.command(DOCKERFILE, "--cache-from", f"type=local,src={shared}"), "-o", f"{knarr.work}/tree")
    assert sum(data == b"\x28\xb5\x2f\xfd" for data in blobs.values()) > STEPS // 2
    assert "FAILED" not in done.stderr
    assert (knarr.work / "tree/final").read_text() == "a\n"


def test_a_directory_keeps_one_cache_per_tag_and_drops_blobs_when_told(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    simple = "FROM busybox\nRUN echo {} > /x\n"
    for number, options in enumerate(("tag=one", "tag=two", "tag=two,reset=true")):
        build("--cache-to", f"type=local,dest={shared},{options}", dockerfile=simple.format(number))
    index = json.loads((shared / "index.json").read_text())
    names = sorted(entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"])
    assert names == ["one", "two"]
    assert build("--cache-from", f"type=local,src={shared},tag=one", dockerfile=simple.format(0)).cached == 1
    assert build("--cache-from", f"type=local,src={shared},tag=two", dockerfile=simple.format(1)).cached == 0


def test_nothing_to_share_writes_nothing(build: Build, knarr: Knarr) -> None:
    shared = knarr.work / "shared"
    built = build("--cache-to", f"type=local,dest={shared},mode=max", dockerfile="FROM busybox\nENV a=b\n")
    assert "skipping cache export for empty result" in built.output
    assert not (shared / "index.json").exists()


def _replace_config(shared: Path, config: bytes) -> None:
    """Put another config into the cache of a directory, well described."""
    index = json.loads((shared / "index.json").read_text())
    manifest = json.loads((shared / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    manifest["config"].update(_put(shared, config))
    _replace_manifest(shared, manifest)


def _replace_manifest(shared: Path, manifest: dict[str, Any]) -> None:
    index = json.loads((shared / "index.json").read_text())
    index["manifests"][0].update(_put(shared, json.dumps(manifest).encode()))
    (shared / "index.json").write_text(json.dumps(index))


def _put(shared: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (shared / "blobs/sha256" / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


def _delete_blob(address: str, name: str, digest: str) -> None:
    import urllib.request

    repository = name.removeprefix(f"{address}/").rpartition(":")[0]
    url = f"http://{address}/v2/{repository}/blobs/{digest}"
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).close()
