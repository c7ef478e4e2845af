from __future__ import annotations

import pytest

from knarr.cli.containerdplace import namespace_of
from knarr.errors import UsageError
from knarr.image.spot import CONTAINERD, shown_name, spot


@pytest.mark.parametrize(
    ("text", "namespace", "name"),
    [
        ("containerd://app", "", "docker.io/library/app:latest"),
        ("containerd://k8s.io/app:1", "k8s.io", "docker.io/library/app:1"),
        ("containerd://default/team/app", "default", "docker.io/team/app:latest"),
        ("containerd://ci/registry.example/app:1", "ci", "registry.example/app:1"),
        ("containerd://ci/localhost:5000/app:1", "ci", "localhost:5000/app:1"),
        ("containerd://registry.example/app:1", "", "registry.example/app:1"),
        ("containerd://registry.example/team/app", "", "registry.example/team/app:latest"),
        ("containerd://team/app:1", "", "docker.io/team/app:1"),
    ],
)
def test_what_stands_before_the_name_is_a_namespace_or_a_registry(text: str, namespace: str, name: str) -> None:
    place = spot(text)
    assert (place.kind, place.namespace, str(place.reference)) == (CONTAINERD, namespace, name)
    assert shown_name(place) == "containerd://" + (f"{namespace}/" if namespace else "") + name


@pytest.mark.parametrize("text", ["containerd://", "containerd://k8s.io/", "containerd:app"])
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        spot(text)


def test_a_namespace_alone() -> None:
    assert namespace_of("containerd://k8s.io", "--into") == "k8s.io"
    assert namespace_of("containerd://", "--into") == ""
    for text in ("k8s.io", "containerd://k8s.io/app", "oci:dir"):
        with pytest.raises(UsageError, match="--into"):
            namespace_of(text, "--into")
