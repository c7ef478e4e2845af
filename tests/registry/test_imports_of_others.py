"""What docker-registry and zot have on disk is served as they served it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knarr.spec import mediatype

from .conftest import Client, Start, described, digest, manifest


def run_import(root: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knarr", "registry", "import", str(directory)]
    return subprocess.run(command, env={**os.environ, "KNARR_ROOT": str(root)}, capture_output=True, text=True)


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """The directory of a docker-registry that was filled over HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tmp_path / "distribution"
    config = tmp_path / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {data}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL)
    try:
        client = Client(port)
        deadline = time.monotonic() + 20
        while True:
            try:
                client("GET", "/v2/")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        fill(client)
    finally:
        process.terminate()
        process.wait()
    return data


def fill(client: Client) -> None:
    def blob(repository: str, data: bytes) -> None:
        place = client("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"].split("/", 3)[3]
        assert client("PUT", f"/{place}&digest={digest(data)}", data).status == 201

    for repository in ("team/app", "team/app/tools"):
        for data in (b"{}", b"layer", b"sbom"):
            blob(repository, data)
        image = manifest(b"layer", config=b"{}")
        sbom = manifest(b"sbom", config=b"{}", subject=described(image, mediatype.OCI_MANIFEST))
        for reference, raw in (("v1", image), ("v2", image), (f"sha256-{digest(image)[7:]}.sbom", sbom)):
            pushed = client("PUT", f"/v2/{repository}/manifests/{reference}", raw, Content_Type=mediatype.OCI_MANIFEST)
            assert pushed.status == 201, pushed


@pytest.mark.system
def test_a_distribution_registry_is_taken_over_with_its_referrers(
    start: Start, distribution: Path, tmp_path: Path
) -> None:
    done = run_import(tmp_path, distribution)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "team/app: 3 tags, 2 manifests, 3 blobs",
        "team/app/tools: 3 tags, 2 manifests, 3 blobs",
    ]
    client = start(root=tmp_path / "content").client
    image = manifest(b"layer", config=b"{}")
    for tag in ("v1", "v2"):
        assert client("GET", f"/v2/team/app/tools/manifests/{tag}").body == image
    assert client("GET", f"/v2/team/app/blobs/{digest(b'layer')}").body == b"layer"
    listed = client("GET", f"/v2/team/app/referrers/{digest(image)}").json["manifests"]
    assert len(listed) == 1
    assert run_import(tmp_path, distribution).stdout == done.stdout


@pytest.mark.system
def test_what_is_damaged_over_there_is_told_and_left_out(start: Start, distribution: Path, tmp_path: Path) -> None:
    blobs = distribution / "docker/registry/v2/blobs/sha256"
    name = digest(b"layer")[7:]
    (blobs / name[:2] / name / "data").write_bytes(b"rot!!")
    name = digest(b"sbom")[7:]
    shutil.rmtree(blobs / name[:2] / name)
    done = run_import(tmp_path, distribution)
    assert done.returncode == 1
    assert f"team/app: blob: expected {digest(b'layer')}" in done.stderr
    assert f"team/app: blob {digest(b'sbom')}" in done.stderr
    client = start(root=tmp_path / "content").client
    assert client("GET", "/v2/team/app/manifests/v1").status == 200
    assert client("GET", f"/v2/team/app/blobs/{digest(b'layer')}").status == 404


def test_a_zot_is_taken_over(start: Start, tmp_path: Path) -> None:
    image = manifest(b"layer", config=b"{}")
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": [described(image, mediatype.OCI_MANIFEST)]}
    ).encode()
    place = tmp_path / "zot/team/app"
    (place / "blobs/sha256").mkdir(parents=True)
    for data in (image, index, b"layer", b"{}"):
        (place / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
    entry = {**described(index, mediatype.OCI_INDEX), "annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    done = run_import(tmp_path, tmp_path / "zot")
    assert (done.returncode, done.stdout) == (0, "team/app: 1 tags, 2 manifests, 2 blobs\n"), done.stderr
    client = start(root=tmp_path / "content").client
    assert client("GET", "/v2/team/app/manifests/v1").body == index
    assert client("GET", f"/v2/team/app/manifests/{digest(image)}").body == image


@pytest.mark.parametrize("directory", ["empty", "absent"])
def test_a_directory_that_holds_no_registry_is_refused(tmp_path: Path, directory: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run_import(tmp_path / "state", tmp_path / directory)
    assert done.returncode == 2
    assert directory in done.stderr
