"""What is fetched for a node image: only what is right is kept, and what cannot be had is told."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.errors import ContentError, DigestMismatch, KnarrError, RegistryError, UsageError
from knarr.node import components
from knarr.node.cache import Cache
from knarr.node.components import ComponentList
from knarr.node.debian import mirror
from knarr.node.gather import Sources, archives
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.remote.transport import Transport
from knarr.scope import Scope
from knarr.session.session import Credentials
from tests.node.servers import Served, serving

DATA = b"an archive" * 500_000  # several pieces, as they are read
SHA256 = hashlib.sha256(DATA).hexdigest()
LIST = """
suite = "trixie"
python = "3.13"
system = ["dash"]
[[component]]
name = "tool"
version = "1.0"
url = "ADDRESS/tool-{arch}.tgz"
files = { tool = "usr/local/bin/tool" }
sha256 = { amd64 = "SHA256" }
"""


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        served.files["/tool-amd64.tgz"] = DATA
        yield served


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def have(tmp_path: Path, lines: list[str]) -> Iterator[Callable[..., ComponentList]]:
    """Has the archives of a list in `tmp_path/cache`."""
    with Scope() as scope:
        settings = RegistrySettings(hosts_dirs=(), retry=RetryBudget(attempts=2, first_wait_s=0.01))

        def transport() -> Transport:
            return Transport(settings, lambda _: Credentials(), scope=scope)

        def have(text: str, *, offline: bool = False, cache: Path = tmp_path / "cache") -> ComponentList:
            sources = Sources(Cache(cache), transport, lines.append, offline=offline)
            return archives(components.read(text), ["amd64"], sources)

        yield have


def listing(server: Served, sha256: str = SHA256, more: str = "") -> str:
    return LIST.replace("ADDRESS", server.address).replace("SHA256", sha256) + more


def kept(cache: Path) -> list[str]:
    """All files in a cache directory."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_an_archive_is_fetched_once(server: Served, have: Callable[..., ComponentList], tmp_path: Path) -> None:
    assert len(have(listing(server)).components) == 1
    have(listing(server))
    have(listing(server), offline=True)
    assert server.asked == ["/tool-amd64.tgz"]
    assert kept(tmp_path / "cache") == [SHA256]


def test_another_file_than_the_list_says_is_refused_and_not_kept(
    server: Served, have: Callable[..., ComponentList], tmp_path: Path
) -> None:
    with pytest.raises(DigestMismatch, match=r"component tool 1\.0 \(amd64\): its sha256 is .*, but 00"):
        have(listing(server, "00" * 32, "optional = true\n"))
    assert kept(tmp_path / "cache") == []


def test_a_file_of_the_cache_that_changed_is_fetched_again(
    server: Served, have: Callable[..., ComponentList], tmp_path: Path
) -> None:
    have(listing(server))
    (tmp_path / "cache/sha256" / SHA256).write_bytes(DATA[:-1] + b"!")
    have(listing(server))
    assert len(server.asked) == 2
    assert (tmp_path / "cache/sha256" / SHA256).read_bytes() == DATA


def test_a_download_that_is_cut_off_leaves_nothing(
    server: Served, have: Callable[..., ComponentList], tmp_path: Path
) -> None:
    server.cut_at = 1000
    with pytest.raises(RegistryError):
        have(listing(server))
    assert kept(tmp_path / "cache") == []


def test_a_server_that_says_no_is_a_failure_also_for_what_is_optional(
    server: Served, have: Callable[..., ComponentList]
) -> None:
    server.files.clear()
    with pytest.raises(RegistryError, match="404"):
        have(listing(server, more="optional = true\n"))


def test_what_is_optional_and_cannot_be_reached_is_left_out_with_one_line(
    have: Callable[..., ComponentList], lines: list[str]
) -> None:
    with serving() as gone:
        text = listing(gone, more="optional = true\n")
    assert have(text).components == ()
    assert len(lines) == 1
    assert lines[0].startswith("left out: tool 1.0: ")


def test_what_is_not_optional_and_cannot_be_reached_is_a_failure(have: Callable[..., ComponentList]) -> None:
    with serving() as gone:
        text = listing(gone)
    with pytest.raises(RegistryError, match=r"component tool 1\.0 \(amd64\)"):
        have(text)


def test_offline_with_an_empty_cache(server: Served, have: Callable[..., ComponentList], lines: list[str]) -> None:
    with pytest.raises(UsageError, match=r"component tool 1\.0 \(amd64\): not in .*, and --offline"):
        have(listing(server), offline=True)
    assert have(listing(server, more="optional = true\n"), offline=True).components == ()
    assert lines == ["left out: tool 1.0: not in the cache for amd64, and --offline"]
    assert server.asked == []


@pytest.mark.root
def test_a_full_disk_is_told_as_one(server: Served, have: Callable[..., ComponentList], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        with pytest.raises(ContentError, match="no space left on the disk that holds") as caught:
            have(listing(server), cache=small)
        assert "--cache DIR" in caught.value.hint
        assert kept(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_cache_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a directory to keep things in"):
        Cache(tmp_path / "file")


def test_a_killed_build_leaves_a_draft_that_the_next_one_removes(server: Served, tmp_path: Path) -> None:
    server.stall.set()
    (tmp_path / "list.toml").write_text(listing(server))
    words = [
        "node",
        "build",
        f"--components={tmp_path}/list.toml",
        f"--cache={tmp_path}/cache",
        "--platform=linux/amd64",
    ]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    process = subprocess.Popen([sys.executable, "-m", "knarr", *words], env=env, stderr=subprocess.DEVNULL)
    drafts = tmp_path / "cache/drafts"
    while not list(drafts.glob("*/archive")) or not next(drafts.glob("*/archive")).stat().st_size:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert kept(tmp_path / "cache") == ["archive"]
    Cache(tmp_path / "cache").sweep()
    assert kept(tmp_path / "cache") == []


def test_the_mirror_is_the_one_that_apt_is_told_of(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "other.list").write_text("deb https://packages.example/apt stable main\n")
    (parts / "debian.sources").write_text("Types: deb\nURIs: https://mirror.example/debian\nSuites: trixie\n")
    assert mirror((parts,)) == "https://mirror.example/debian"
    (parts / "debian.sources").unlink()
    with pytest.raises(UsageError, match="name no mirror of Debian"):
        mirror((parts,))
    line = tmp_path / "sources.list"
    line.write_text("# none\ndeb [arch=amd64] http://mirror.example/debian/ trixie main\n")
    assert mirror((line,)) == "http://mirror.example/debian/"


@pytest.mark.system
def test_a_package_of_another_checksum_than_the_list_says_is_refused(tmp_path: Path) -> None:
    own = Path(components.__file__).with_name("components.toml").read_text()
    listed = components.read(own)
    right = next(each for each in listed.components if each.name == "runc").sha256["amd64"]
    (tmp_path / "list.toml").write_text(own.replace(right, "00" * 32))
    without = [f"--without={each.name}" for each in listed.archives]
    command = [sys.executable, "-m", "knarr", "node", "build", "--platform=linux/amd64", f"--cache={tmp_path}/cache"]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    done = subprocess.run(
        [*command, *without, f"--components={tmp_path}/list.toml"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"component runc 1.1.15+ds1-2+b4 (amd64): the mirror's sha256 is {right}, the list says 0000" in done.stderr
    assert kept(tmp_path / "cache/sha256") == []


@pytest.mark.system
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--component=runc=0.1"], "component runc 0.1: the mirror has 1."),
        (["--component=runk"], "did you mean runc?"),
        (["--platform=linux/s390x", "--component=crictl"], "component crictl 1.36.0: not listed for s390x"),
        (["--offline"], "not in "),
        (["--rootfs=/"], "--rootfs /: is there already"),
        (["--mirror=http://127.0.0.1:9/debian"], "packages of trixie for amd64: apt: "),
    ],
)
def test_the_command_says_what_it_cannot_do(tmp_path: Path, words: list[str], said: str) -> None:
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    without = [f"--without={name}" for name in ("crictl", "nerdctl", "buildctl", "fuse-overlayfs-snapshotter")]
    given = words if "--component=crictl" in words else [*without, *words]
    command = [sys.executable, "-m", "knarr", "node", "build", "--platform=linux/amd64", f"--cache={tmp_path}/cache"]
    done = subprocess.run([*command, *given], env=env, capture_output=True, text=True)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert kept(tmp_path / "cache/sha256") == []
    assert KnarrError.exit_code <= done.returncode <= UsageError.exit_code
