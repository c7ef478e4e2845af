"""Addresses of builders: what is understood, and what is refused before anything is started."""

from __future__ import annotations

import pytest

from knarr.client.address import read_address
from knarr.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("unix:///run/buildkit/buildkitd.sock", "unix", "/run/buildkit/buildkitd.sock"),
        ("tcp://builder.corp.example:1234", "tcp", "builder.corp.example:1234"),
        ("tcp://[::1]:1234", "tcp", "[::1]:1234"),
    ],
)
def test_sockets_and_hosts(text: str, kind: str, target: str) -> None:
    found = read_address(text)
    assert (found.kind, found.target, found.command) == (kind, target, ())


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("docker-container://box", "docker exec -i box buildctl dial-stdio"),
        ("docker-container://box?context=far", "docker --context=far exec -i box buildctl dial-stdio"),
        ("podman-container://box", "podman exec -i box buildctl dial-stdio"),
        ("nerdctl-container://box?namespace=k8s.io", "nerdctl exec --namespace k8s.io -i box buildctl dial-stdio"),
        ("kube-pod://pod", "kubectl exec -i pod -- buildctl dial-stdio"),
        ("kube-pod://ns/pod?container=c", "kubectl --namespace=ns exec --container=c -i pod -- buildctl dial-stdio"),
        (
            "kube-pod://pod?context=me@there&namespace=ns",
            "kubectl --context=me@there --namespace=ns exec -i pod -- buildctl dial-stdio",
        ),
    ],
)
def test_commands_are_those_of_buildctl(text: str, command: str) -> None:
    assert read_address(text).command == tuple(command.split())


def test_ssh_asks_for_buildctl_and_else_for_knarr() -> None:
    command = read_address("ssh://ci@host:2222/run/x y.sock").command
    assert command[:-1] == ("ssh", "-T", "-l", "ci", "-p", "2222", "--", "host")
    assert "buildctl --addr 'unix:///run/x y.sock' dial-stdio" in command[-1]
    assert "knarr builder dial-stdio --addr 'unix:///run/x y.sock'" in command[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unix://relative", "begins with a slash"),
        ("tcp://host", "not tcp://HOST:PORT"),
        ("tcp://host:99999", "out of range"),
        ("tcp://host:1/path", "not tcp://HOST:PORT"),
        ("http://host:1", "not known"),
        ("ssh://me:secret@host", "password has no place"),
        ("ssh://-oProxyCommand=id", "no name"),
        ("docker-container://", "no name"),
        ("docker-container://-v", "no name"),
        ("docker-container://box?tty=1", "no option 'tty'"),
        ("kube-pod://Pod", "no name"),
        ("kube-pod://ns/--help", "no name"),
        ("kube-pod://pod?context=--kubeconfig", "no name"),
    ],
)
def test_what_could_not_be_reached_or_would_be_a_flag_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_address(text)
    assert "secret" not in caught.value.render()
