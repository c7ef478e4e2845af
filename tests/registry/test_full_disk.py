"""A full disk under the server: the client is told, nothing is lost, and the upload goes on once there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Client, digest

pytestmark = [pytest.mark.root, pytest.mark.system]

DATA = bytes(range(256)) * 4 * 1024 * 40  # 40 MiB


class Disk:
    """A server whose state lies on a tmpfs that only it can see."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir()
        script = f"mount -t tmpfs -o size=16m knarr-test {root} && echo ready && exec cat"
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", script]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self._inside = ["nsenter", "-m", "-t", str(self._holder.pid), "--"]
        serve = [sys.executable, "-m", "knarr", "registry", "serve", "--listen=127.0.0.1:0"]
        env = {**os.environ, "KNARR_ROOT": str(root)}
        self.server = subprocess.Popen([*self._inside, *serve], env=env, stderr=subprocess.PIPE, text=True)
        assert self.server.stderr is not None
        line = self.server.stderr.readline()
        self.client = Client(int(line.rpartition(":")[2].partition("/")[0]))

    def grow(self) -> None:
        subprocess.run([*self._inside, "mount", "-o", "remount,size=200m", str(self._root)], check=True)

    def close(self) -> str:
        """End the server; what it said."""
        self.server.terminate()
        said = self.server.communicate(timeout=20)[1]
        self._holder.kill()
        self._holder.communicate()
        return said


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "state")
    yield made
    made.close()


def test_an_upload_that_finds_no_room_goes_on_at_the_byte_when_there_is_some(disk: Disk) -> None:
    client = disk.client
    client.push_image("a", "v1", b"layer")
    place = client("POST", "/v2/a/blobs/uploads/").headers["Location"]

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(DATA), 1 << 20):
            yield DATA[start : start + (1 << 20)]

    try:
        refused = client("PATCH", place, pieces())
        assert (refused.status, refused.codes) == (507, ["UNAVAILABLE"])
        assert "no space left" in refused.json["errors"][0]["message"]
    except ConnectionError:
        pass  # the answer came while the client was still sending, and was lost with the connection
    assert client("GET", "/v2/a/manifests/v1").status == 200
    assert client("GET", f"/v2/a/blobs/{digest(b'layer')}").body == b"layer"
    whole = client("POST", f"/v2/a/blobs/uploads/?digest={digest(b'y' * (1 << 20))}", b"y" * (1 << 20))
    assert whole.status == 507

    offset = int(client("GET", place).headers["Range"].removeprefix("0-")) + 1
    assert 1 << 20 < offset < 16 << 20
    disk.grow()
    rest = client("PUT", f"{place}?digest={digest(DATA)}", DATA[offset:], Content_Range=f"{offset}-{len(DATA) - 1}")
    assert rest.status == 201
    assert digest(client("GET", f"/v2/a/blobs/{digest(DATA)}").body) == digest(DATA)
    client.push_image("a", "v2", b"another layer")
    assert "Traceback" not in disk.close()
