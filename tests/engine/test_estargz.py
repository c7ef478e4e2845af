"""`compression=estargz` from the Dockerfile to the registry and back; what a reader of the format says of it."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from knarr.layer.estargz import FOOTER_SIZE, TOC_NAME, toc_offset
from knarr.spec.digest import Digest
from knarr.spec.mediatype import TOC_DIGEST, UNCOMPRESSED_SIZE
from tests.engine.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]

DOCKERFILE = """
FROM busybox
COPY f /srv/f
RUN echo made > /made && rm /bin/vi
"""


class Layout:
    """An OCI layout with one image for one platform."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (entry,) = json.loads((place / "index.json").read_bytes())["manifests"]
        self.manifest = json.loads(self.blob(entry["digest"]))
        self.layers: list[dict[str, Any]] = self.manifest["layers"]
        self.diff_ids = json.loads(self.blob(self.manifest["config"]["digest"]))["rootfs"]["diff_ids"]

    def blob(self, digest: str) -> bytes:
        return (self.place / "blobs" / digest.replace(":", "/")).read_bytes()

    def tables(self) -> list[bool]:
        """Which layers have a table, all that is said of them checked."""
        for layer, diff_id in zip(self.layers, self.diff_ids, strict=True):
            assert diff_id == str(Digest.of(gzip.decompress(self.blob(layer["digest"]))))
        return [self._check(layer) for layer in self.layers]

    def _check(self, layer: dict[str, Any]) -> bool:
        raw = self.blob(layer["digest"])
        offset, told = toc_offset(raw[-FOOTER_SIZE:]), layer.get("annotations", {})
        assert (offset is not None) == (TOC_DIGEST in told)
        if offset is None:
            return False
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(raw[offset:]))) as tar:
            assert told[TOC_DIGEST] == str(Digest.of(tar.extractfile(TOC_NAME).read()))  # type: ignore[union-attr]
        assert told[UNCOMPRESSED_SIZE] == str(len(gzip.decompress(raw)))
        return True


@pytest.fixture
def built(knarr: Knarr, context: Path) -> Any:
    """built(options of the output, options of the command…) → the layout."""

    def run(attrs: str = "", *options: str, dockerfile: str = DOCKERFILE, on: Knarr = knarr) -> Layout:
        place = on.work / f"layout-{len(list(on.work.glob('layout-*')))}"
        output = f"type=oci,tar=false,dest={place},compression=estargz{attrs}"
        command = on.command(dockerfile, "--provenance=false", *options, context=context)
        on.run(*command, "-o", output)
        return Layout(place)

    return run


def test_new_layers_have_tables_and_base_layers_keep_their_form(built: Any) -> None:
    assert built().tables() == [False, True, True]


def test_base_layers_get_tables_by_force(built: Any) -> None:
    assert built(",force-compression=true").tables() == [True, True, True]


def test_the_same_tree_has_other_forms_beside_it(built: Any) -> None:
    first = built()
    plain = built(",compression=gzip")
    again = built()
    assert plain.tables() == [False, False, False]
    assert again.manifest == first.manifest
    for one, other in zip(first.layers[1:], plain.layers[1:], strict=True):
        table = toc_offset(first.blob(one["digest"])[-FOOTER_SIZE:])
        assert gzip.decompress(first.blob(one["digest"])[:table]) == gzip.decompress(plain.blob(other["digest"]))


@pytest.mark.parametrize("attrs", [",squash=all", ",squash=new", ",rewrite-timestamp=true"])
def test_layers_that_are_made_over_have_tables(built: Any, attrs: str) -> None:
    assert built(attrs, "--build-arg", "SOURCE_DATE_EPOCH=1700000000").tables()[-1]


def test_two_outputs_of_one_build_may_want_different_forms(knarr: Knarr, context: Path) -> None:
    places = {form: knarr.work / form for form in ("estargz", "zstd", "gzip")}
    outputs = [f"type=oci,tar=false,dest={place},compression={form}" for form, place in places.items()]
    words = [word for output in outputs for word in ("-o", output)]
    knarr.run(*knarr.command("FROM busybox\nCOPY f d /srv/\n", "--provenance=false", context=context), *words)
    assert Layout(places["estargz"]).tables() == [False, True]
    assert Layout(places["gzip"]).tables() == [False, False]
    assert json.loads((places["zstd"] / "index.json").read_bytes())["manifests"]


def test_an_image_with_tables_is_a_base_like_others(
    built: Any, knarr: Knarr, context: Path, bases: Any, tmp_path: Path
) -> None:
    name = f"{bases.address}/estargz/{knarr.work.name.lower()}:1"
    command = knarr.command(DOCKERFILE, "--provenance=false", context=context)
    knarr.run(*command, "-o", f"type=image,name={name},push=true,compression=estargz,force-compression=true")
    (tmp_path / "other").mkdir()
    other = Knarr(tmp_path / "other/state", bases.hosts_dir, tmp_path / "other")
    upon = f"FROM {name}\nRUN test ! -e /bin/vi && test ! -e /{TOC_NAME} && cat /made /srv/f > /both\n"
    kept = built(",compression=gzip", dockerfile=upon, on=other)
    forced = built(",compression=gzip,force-compression=true", dockerfile=upon, on=other)
    assert kept.tables() == [True, True, True, False]
    assert forced.tables() == [False, False, False, False]


def test_a_shared_cache_keeps_the_tables(built: Any, knarr: Knarr, bases: Any, tmp_path: Path) -> None:
    shared = f"{knarr.work}/shared"
    first = built("", "--cache-to", f"type=local,dest={shared},mode=max,compression=estargz")
    (tmp_path / "other").mkdir()
    other = Knarr(tmp_path / "other/state", bases.hosts_dir, tmp_path / "other")
    second = built("", "--cache-from", f"type=local,src={shared}", on=other)
    assert second.tables() == [False, True, True]
    assert second.layers == first.layers


def test_stargz_snapshotter_finds_the_table(built: Any, ctr_remote: Any, tmp_path: Path) -> None:
    layout = built()
    for layer in layout.layers[1:]:
        assert ctr_remote(layout.blob(layer["digest"]), layer["digest"]) == layer["annotations"][TOC_DIGEST]


@pytest.fixture
def ctr_remote(tmp_path: Path) -> Any:
    """ctr_remote(blob, digest) → the digest of its table, by stargz-snapshotter's command and a containerd."""
    from tests.interop.conftest import service

    place = tmp_path / "ctd"
    place.mkdir()
    config = place / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{place}/sock"\n[ttrpc]\naddress = "{place}/sock.ttrpc"\n'
    )

    def ask(blob: bytes, digest: str) -> str:
        command = ["ctr-remote", "--address", f"{place}/sock"]
        ingest = [*command, "content", "ingest", "--expected-digest", digest, f"ref-{digest}"]
        subprocess.run(ingest, input=blob, check=True, capture_output=True)
        found = subprocess.run(
            [*command, "images", "get-toc-digest", digest], check=True, capture_output=True, text=True
        )
        return found.stdout.strip()

    with service(["containerd", "--config", str(config)], place / "sock", place / "log"):
        yield ask
