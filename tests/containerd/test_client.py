from __future__ import annotations

import socket
from pathlib import Path

import pytest

from knarr.containerd.client import Containerd, dial
from knarr.errors import KnarrError, NotFound, UsageError

from .conftest import Running

pytestmark = [pytest.mark.root, pytest.mark.system]


def test_it_tells_who_it_is_and_what_it_has_loaded(daemon: Containerd) -> None:
    assert daemon.version()[0].isdecimal()
    snapshotters = daemon.plugins("io.containerd.snapshotter.v1")
    assert snapshotters["native"] == ""
    assert snapshotters["devmapper"] != ""


def test_a_namespace_is_made_once(running: Running, daemon: Containerd) -> None:
    daemon.make_namespace()
    assert daemon.namespace in running.ctr("namespaces", "ls", "-q").split()


def test_a_namespace_that_is_not_there_is_told_with_those_that_are(daemon: Containerd) -> None:
    with pytest.raises(NotFound, match="has no namespace nowhere") as caught:
        daemon.within("nowhere").need_namespace()
    assert daemon.namespace in caught.value.hint


@pytest.mark.parametrize("address", ["relative/sock", "tcp://127.0.0.1:1234"])
def test_an_address_is_the_path_of_a_socket(address: str) -> None:
    with pytest.raises(UsageError, match="not the path of a socket"):
        dial(address)


@pytest.mark.parametrize("name", ["a/b", "-x", "a b", "x" * 77, "a..b"])
def test_a_namespace_that_containerd_would_refuse_is_refused_before(name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        dial("/nowhere", name)


def test_a_socket_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(KnarrError, match="there is no such socket"):
        dial(str(tmp_path / "sock"))


def test_a_socket_that_nobody_listens_at_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(KnarrError, match="no containerd answers at"):
        dial(str(path))
