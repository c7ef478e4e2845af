"""SOURCE_DATE_EPOCH and rewrite-timestamp: the same image from two machines, that is, from two state directories."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Knarr as Command
from tests.engine.conftest import open_archive

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

EPOCH = 1_700_000_000
OPTIONS = ("--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}")

# Whatever makes entries whose time is that of the build: steps, whiteouts, an opaque directory, directories that a
# COPY makes on its way or only for what its patterns take, a WORKDIR, a heredoc, an archive, a rebased layer.
DOCKERFILE = """
FROM busybox AS base
RUN mkdir -p /srv/deep && echo a > /srv/a && echo b > /srv/deep/b && touch -d @1600000000 /srv/old
RUN rm /srv/a && rm -rf /srv/deep && mkdir /srv/deep && echo $(uname -m) > /srv/deep/c && ln /srv/old /srv/hard
FROM base
WORKDIR /made/by/workdir
COPY f /implicit/parents/f
COPY --parents d/sub/b /parents/
COPY --exclude=d/a . /all/
COPY --link d /linked/
COPY <<END /heredoc
text
END
COPY --from=base /srv /from
RUN --mount=type=bind,source=f,target=/mnt/f cat /mnt/f > /etc/motd
ENTRYPOINT ["/bin/true"]
"""


@pytest.fixture
def second(knarr: Knarr, bases: Any, tmp_path: Path) -> Knarr:
    """Another machine: nothing in common with the first but the base image."""
    (tmp_path / "second").mkdir()
    return Command(tmp_path / "second/state", bases.hosts_dir, tmp_path / "second")


def index_digest(knarr: Knarr, context: Path, *options: str) -> str:
    metadata = knarr.work / "metadata.json"
    archive = f"type=oci,dest={knarr.work}/out.tar,rewrite-timestamp=true"
    knarr.run(
        *knarr.command(DOCKERFILE, *OPTIONS, *options, context=context), "-o", archive, "--metadata-file", metadata
    )
    return str(json.loads(metadata.read_bytes())["containerimage.digest"])


def test_two_machines_make_the_same_index(knarr: Knarr, second: Knarr, context: Path) -> None:
    platforms = ("--platform", "linux/amd64,linux/arm64")
    first = index_digest(knarr, context, *platforms)
    time.sleep(1.1)  # times in layers are whole seconds
    copied = second.work / "context"
    subprocess.run(["cp", "-a", context, copied], check=True)
    for path in (copied, copied / "d", copied / "d/sub"):
        os.utime(path)  # what a checkout does: a new directory has a new time

    assert index_digest(second, copied, *platforms) == first
    assert index_digest(knarr, context, *platforms) == first  # from the cache, and from the layers that were rewritten


def test_no_new_time_is_later_and_no_old_one_is_changed(knarr: Knarr, context: Path) -> None:
    os.utime(context / "f", (1577836800, 1577836800))
    index_digest(knarr, context)
    image = open_archive(knarr.work / "out.tar")[0]
    files = image.files

    assert max(entry.mtime for entry in files.values()) > EPOCH  # the base image's, which are as they were
    new = [entry for name, entry in files.items() if name.startswith(("srv", "made", "implicit", "parents", "from"))]
    assert len(new) > 15
    assert max(entry.mtime for entry in new) == EPOCH
    assert files["srv/old"].mtime == 1600000000
    assert files["implicit/parents/f"].mtime == 1577836800
    base, *rest = image.manifest["layers"]
    assert "annotations" not in base
    assert {layer["annotations"]["buildkit/rewritten-timestamp"] for layer in rest} == {str(EPOCH)}
    assert image.config["created"] == "2023-11-14T22:13:20Z"


def test_without_an_epoch_nothing_is_rewritten_and_that_is_said(knarr: Knarr, context: Path) -> None:
    done = knarr.run(
        *knarr.command("FROM busybox\nRUN touch /x\n", context=context),
        *("-o", f"type=oci,dest={knarr.work}/out.tar,rewrite-timestamp=true"),
    )
    assert "there is no SOURCE_DATE_EPOCH" in done.stderr
    assert open_archive(knarr.work / "out.tar")[0].files["x"].mtime > EPOCH


def test_files_that_are_exported_as_such_have_the_epoch_itself(knarr: Knarr, context: Path) -> None:
    dockerfile = "FROM scratch\nCOPY f /a/f\n"
    os.utime(context / "f", (1577836800, 1577836800))
    out = knarr.work / "out"
    knarr.run(*knarr.command(dockerfile, *OPTIONS, context=context), "-o", str(out), "-o", f"type=tar,dest={out}.tar")

    assert {path.stat().st_mtime for path in out.rglob("*")} == {EPOCH}
    with tarfile.open(f"{out}.tar") as tar:
        assert {entry.mtime for entry in tar} == {EPOCH}


@pytest.mark.parametrize(("squash", "layers"), [("new", 2), ("all", 1)])
def test_squashed_layers_are_the_same_files_in_fewer_layers(
    knarr: Knarr, context: Path, squash: str, layers: int
) -> None:
    plain = knarr.build(DOCKERFILE, *OPTIONS, context=context)
    archive = knarr.work / "squashed.tar"
    knarr.run(*knarr.command(DOCKERFILE, *OPTIONS, context=context), "-o", f"type=oci,dest={archive},squash={squash}")
    squashed = open_archive(archive)[0]

    assert len(squashed.layers) == layers
    assert squashed.contents == {name: data for name, data in plain.contents.items() if name in plain.files}
    shown = {name: (entry.type, entry.mode, entry.uid, entry.linkname) for name, entry in squashed.files.items()}
    for name, entry in plain.files.items():
        if not entry.islnk() and shown[name][0] != tarfile.LNKTYPE:  # which of two names is the link is nobody's matter
            assert shown[name] == (entry.type, entry.mode, entry.uid, entry.linkname)
    assert not [name for layer in squashed.layers for name in layer if "/.wh." in name]
    with_layer = [line for line in squashed.config["history"] if not line.get("empty_layer")]
    assert len(with_layer) == layers
    assert with_layer[-1]["created_by"] == f"squash of {len(plain.layers) - layers + 1} layers"


def test_a_squashed_layer_hides_what_was_deleted_from_the_base(knarr: Knarr) -> None:
    dockerfile = "FROM busybox\nRUN echo 1 > /x && rm /bin/vi\nRUN rm /x && echo 2 > /y\n"
    archive = knarr.work / "squashed.tar"
    knarr.run(*knarr.command(dockerfile, "--squash"), "-o", f"type=oci,dest={archive}")
    image = open_archive(archive)[0]

    assert image.layers[1:] == [["bin", "bin/.wh.vi", "y"]]
    assert "bin/vi" not in image.files


def test_an_epoch_that_the_dockerfile_gives_counts_for_the_outputs(knarr: Knarr) -> None:
    dockerfile = f"ARG SOURCE_DATE_EPOCH={EPOCH}\nFROM busybox\nRUN touch /x\nWORKDIR /w\n"
    out = knarr.work / "out"
    output = f"type=oci,dest={out}.tar,rewrite-timestamp=true"
    knarr.run(*knarr.command(dockerfile), "-o", output, "-o", f"type=local,dest={out}")

    image = open_archive(Path(f"{out}.tar"))[0]
    assert (image.files["x"].mtime, image.files["w"].mtime) == (EPOCH, EPOCH)
    assert image.config["created"] == "2023-11-14T22:13:20Z"
    assert (out / "x").stat().st_mtime == EPOCH
