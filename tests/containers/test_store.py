"""The containers of a state directory: names, beginnings of ids, and who holds one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.cache.hold import held
from knarr.containers.spec import ContainerMount, ContainerSpec, Limit, Port, decode, encode
from knarr.containers.state import State
from knarr.containers.store import Container, Containers
from knarr.errors import ContentError, NotFound, UsageError


def spec_of(id: str, name: str) -> ContainerSpec:
    digest = "sha256:" + "a" * 64
    return ContainerSpec(id, name, int(id[:2], 16), "app", digest, "linux/amd64", "layer:x", "s", (digest,), ("true",))


def made(containers: Containers, id: str, name: str) -> Container:
    containers.claim(name, id)
    return containers.add(containers.directory_of(id), spec_of(id, name))


def test_what_is_written_is_read_back() -> None:
    spec = ContainerSpec(
        **{
            **{name: getattr(spec_of("ab", "x"), name) for name in ContainerSpec.__annotations__},
            "mounts": (ContainerMount("bind", "/a", "/b", readonly=True),),
            "ports": (Port(80, 8080, "127.0.0.1"),),
            "limits": (Limit("nofile", 1, 2),),
            "extra_hosts": (("a", "192.0.2.1"),),
            "resources": {"pids": 5},
        }
    )
    assert decode(encode(spec), "file") == spec


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"id": 1}', b"\xff"])
def test_a_file_that_describes_no_container_is_said_to(raw: bytes) -> None:
    with pytest.raises(ContentError, match="does not describe a container"):
        decode(raw, "file")


def test_a_container_is_found_by_name_id_and_beginning(tmp_path: Path) -> None:
    containers = Containers(tmp_path)
    made(containers, "aa11", "one")
    made(containers, "aa22", "two")
    assert [containers.find(word).id for word in ("one", "aa11", "aa2")] == ["aa11", "aa11", "aa22"]
    with pytest.raises(UsageError, match="beginning of several"):
        containers.find("aa")
    with pytest.raises(NotFound) as missing:
        containers.find("tow")
    assert missing.value.hint == "did you mean two?"
    for word in ("", "../names", "names"):
        with pytest.raises(NotFound):
            containers.find(word)


def test_a_name_of_a_container_that_was_never_finished_is_free(tmp_path: Path) -> None:
    containers = Containers(tmp_path)
    containers.claim("one", "aa11")
    containers.claim("one", "aa22")
    made(containers, "aa33", "two")
    with pytest.raises(UsageError, match="taken by container aa33"):
        containers.claim("two", "aa44")


def test_who_holds_a_container_keeps_others_from_it_and_one_that_is_gone_is_told(tmp_path: Path) -> None:
    containers = Containers(tmp_path)
    container = made(containers, "aa11", "one")
    with container.held():
        assert container.is_held
        container.write_state(State(status="running"))
        assert container.is_running
        late = os.open(container.path / "lock", os.O_RDWR)
    assert container.is_lost
    with container.held():
        containers.forget(container)
    os.close(late)
    with pytest.raises(NotFound):
        container.try_hold()
    assert containers.all() == []


def test_images_are_held_by_the_files_of_containers_alone(tmp_path: Path) -> None:
    containers = Containers(tmp_path)
    container = made(containers, "aa11", "one")
    (tmp_path / "containers/broken").mkdir()
    (tmp_path / "containers/broken/config.json").write_text('{"record": ')
    assert held(tmp_path).records == {"layer:x"}
    assert held(tmp_path).blobs == {"sha256:" + "a" * 64}
    with container.held():
        containers.forget(container)
    assert held(tmp_path).blobs == frozenset()
