"""Where an image is, as people write it: a registry, a layout, an archive, the store. Nothing is opened here.

registry.example/team/app:1.0     a registry (docker:// may stand before it)
oci:DIR[:TAG]                     an OCI layout (ocidir:// as well)
oci-archive:FILE[:TAG]            a tar of one
docker-archive:FILE[:NAME]        a tar that docker loads
store:NAME                        knarr's own store
containerd://[NAMESPACE/]NAME     a containerd's

What stands before the first slash behind containerd:// is a namespace if it is one that
everybody has (k8s.io, default, moby, buildkit), or if a registry's host follows it. So
`containerd://k8s.io/app:1` and `containerd://ci/registry.example/app:1` name one, and
`containerd://registry.example/app:1` does not.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.record import record, replace
from knarr.spec.reference import Reference

REGISTRY, LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE, STORE = "docker", "oci", "oci-archive", "docker-archive", "store"
CONTAINERD = "containerd"
_PREFIXES = {
    "docker://": REGISTRY,
    "ocidir://": LAYOUT,
    "oci:": LAYOUT,
    "oci-archive:": OCI_ARCHIVE,
    "docker-archive:": DOCKER_ARCHIVE,
    "store:": STORE,
    "containerd://": CONTAINERD,
}
_ELSEWHERE = ("docker-daemon", "containers-storage", "containerd", "dir", "ostree", "sif", "tarball")
_NAMESPACES = ("k8s.io", "default", "moby", "buildkit")
ARCHIVES = (OCI_ARCHIVE, DOCKER_ARCHIVE)


@record
class Spot:
    """One word, understood. `path` and `tag` are of files; `reference` of registries, stores and containerd.

    `namespace` is containerd's; empty: the usual one.
    """

    kind: str
    text: str
    path: str = ""
    tag: str = ""
    reference: Reference | None = None
    namespace: str = ""

    @property
    def repository(self) -> str:
        """What the image is called, without its tag, for messages."""
        if self.reference is not None:
            name = f"{self.reference.registry}/{self.reference.repository}"
            return name if self.kind == REGISTRY else f"{_start(self)}{name}"
        return f"{self.kind}:{self.path}"


def spot(text: str) -> Spot:
    """What `text` stands for.

    Raises:
        UsageError: a transport that is not known, or something malformed behind it.
    """
    kind, rest = REGISTRY, text
    for prefix, known in _PREFIXES.items():
        if text.startswith(prefix):
            kind, rest = known, text.removeprefix(prefix)
            break
    word = text.partition(":")[0]
    if kind == REGISTRY and word in _ELSEWHERE and rest == text:
        raise UsageError(
            f"{text}: {word}: is not supported", hint="use a registry, oci:, oci-archive:, store: or containerd://"
        )
    if not rest:
        raise UsageError(f"{text!r}: something must stand behind {kind}:", hint=f"write {kind}:PATH")
    if kind == CONTAINERD:
        namespace, name = in_namespace(rest)
        if not name:
            raise UsageError(f"{text!r}: an image must stand behind the namespace", hint=f"write {text}/NAME:TAG")
        return Spot(kind, text, reference=Reference.parse(name).tagged(), namespace=namespace)
    if kind in (REGISTRY, STORE):
        return Spot(kind, text, reference=Reference.parse(rest).tagged())
    path, tag = _split(rest, kind)
    return Spot(kind, text, path=path, tag=tag)


def shown_name(place: Spot) -> str:
    """The whole name, for people: a registry's with its tag, or what was written."""
    if place.reference is None:
        return place.text
    return str(place.reference) if place.kind == REGISTRY else f"{_start(place)}{place.reference}"


def in_namespace(text: str) -> tuple[str, str]:
    """What stands behind `containerd://`: the namespace (empty: none is given) and the name (empty: none)."""
    first, _, rest = text.partition("/")
    host = rest.partition("/")[0] if "/" in rest else ""
    if first in _NAMESPACES or "." in host or ":" in host or host == "localhost":
        return first, rest
    return "", text


def _start(place: Spot) -> str:
    """What stands before the name of an image in a store or in containerd."""
    if place.kind == CONTAINERD:
        return f"containerd://{place.namespace}/" if place.namespace else "containerd://"
    return f"{place.kind}:"


def tagged(place: Spot, tag: str) -> Spot:
    """The same place with another tag."""
    if place.reference is not None:
        return replace(place, reference=replace(place.reference, tag=tag, digest=None))
    return replace(place, tag=tag)


def _split(rest: str, kind: str) -> tuple[str, str]:
    """Path and tag: skopeo's rule, the first colon ends the path. A digest may stand behind `@`."""
    path, _, tag = rest.partition(":")
    at, separator, digest = rest.partition("@")
    if separator and ":" not in at:
        path, tag = at, digest
    if not path:
        raise UsageError(f"{kind}:{rest}: there is no path in it")
    return path, tag
