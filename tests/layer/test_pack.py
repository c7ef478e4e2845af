from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
from pathlib import Path

import pytest

from knarr.content.memory import MemoryStore
from knarr.content.store import Store
from knarr.errors import Cancelled
from knarr.layer.compress import Compression
from knarr.layer.decompress import open_compressed
from knarr.layer.pack import Packed, pack
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, Writable

DATA = random.Random(3).randbytes(1 << 20) * 3 + b"text " * 300_000


def write_data(out: Writable) -> None:
    for start in range(0, len(DATA), CHUNK):
        out.write(DATA[start : start + CHUNK])


@pytest.mark.parametrize(
    ("kind", "media_type"), [("gzip", "tar+gzip"), ("zstd", "tar+zstd"), ("uncompressed", "v1.tar")]
)
def test_digests_are_of_both_sides(kind: str, media_type: str) -> None:
    store = MemoryStore()
    packed = pack(write_data, store, compression=Compression(kind))
    assert (packed.diff_id, packed.uncompressed_size) == (Digest.of(DATA), len(DATA))
    assert packed.descriptor.media_type.endswith(media_type)
    assert open_compressed(io.BytesIO(store.read(packed.descriptor))).read() == DATA


def test_the_default_is_gzip_and_dockers_type_can_be_had() -> None:
    packed = pack(write_data, MemoryStore(), oci=False)
    assert packed.descriptor.media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip"


def test_jobs_make_no_difference(tmp_path: Path) -> None:
    made: set[Packed] = {pack(write_data, Store(tmp_path), jobs=jobs) for jobs in (1, 2, 7)}
    assert len(made) == 1


def test_an_empty_layer_is_a_layer() -> None:
    store = MemoryStore()
    packed = pack(lambda out: None, store)
    assert packed.diff_id == Digest.of(b"")
    assert gzip.decompress(store.read(packed.descriptor)) == b""


@pytest.mark.parametrize("kind", ["gzip", "zstd", "uncompressed"])
def test_failure_and_cancellation_leave_nothing(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path)
    calls: list[None] = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise Cancelled

    def broken(out: Writable) -> None:
        write_data(out)
        raise KeyError("broken")

    with pytest.raises(Cancelled):
        pack(write_data, store, compression=Compression(kind), check=check)
    with pytest.raises(KeyError):
        pack(broken, store, compression=Compression(kind))
    assert list(store.walk()) == []
    assert list((tmp_path / "ingest").iterdir()) == []


MEASURE = """
import random, sys
from pathlib import Path
from knarr.content.store import Store
from knarr.layer.apply import apply
from knarr.layer.compress import Compression
from knarr.layer.decompress import open_compressed
from knarr.layer.pack import pack
from knarr.layer.tar import Entry
from knarr.layer.tar_write import Writer

piece = random.Random(5).randbytes(600_000) + b"text " * 90_000

class Endless:
    def read(self, size=-1):
        return piece[:size]

def write(out):
    writer = Writer(out)
    writer.add_stream(Entry("large", size=300 << 20), Endless())
    writer.close()

root, store = Path(sys.argv[1]), Store(Path(sys.argv[2]))
packed = pack(write, store, compression=Compression(sys.argv[3]), jobs=4)
with store.open(packed.descriptor) as stream:
    assert apply(open_compressed(stream), root) == packed.diff_id
# Not getrusage: its peak includes that of the process we were forked from.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak) >> 10)
"""


@pytest.mark.root
@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_memory_stays_small(root: Path, tmp_path: Path, kind: str) -> None:
    arguments = [sys.executable, "-c", MEASURE, str(root), str(tmp_path / "store"), kind]
    peak_mib = int(subprocess.run(arguments, capture_output=True, check=True, text=True).stdout)
    assert peak_mib < 150
