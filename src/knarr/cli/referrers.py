"""`knarr referrers`: what belongs to an image, as a tree: platforms, attestations, referrers, digest tags."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, parse, usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.image.closure import Closure, Node
    from knarr.spec.digest import Digest

FLAGS = (
    Flag("type", Kind.LIST, "TYPE", "only referrers of this artifact type (a pattern such as application/*sbom*)"),
    Flag("format", Kind.TEXT, "FORM", "tree (the default), json, or a Go template for each referrer"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr referrers --help` prints."""
    return (
        "Usage: knarr referrers [OPTIONS] NAME\n\n"
        "Show what belongs to an image in a registry, a layout (oci:DIR:TAG) or an archive: platforms and\n"
        "attestations of an index, referrers of each of them and of each other, and digest tags. A template\n"
        "has .Digest, .Kind, .ArtifactType, .MediaType, .Size, .Of, .Tag and .Annotations.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr referrers ARGUMENTS`.

    Raises:
        KnarrError: there is no such image.
    """
    from knarr.cli.places import named_image
    from knarr.image.closure import ReferrerFilter, Wanted, explore
    from knarr.image.spot import shown_name

    given = parse(FLAGS, argv, command="knarr referrers")
    if given.switch("help"):
        print(help_text())
        return 0
    wanted = Wanted(filters=tuple(ReferrerFilter(kind) for kind in given.list("type")), sparse=True)
    with named_image(given, "knarr referrers") as (where, place, root, scope):
        closure = explore(place, root, scope=scope, wanted=wanted)
    form = given.text("format", "tree")
    if form == "tree":
        print("\n".join([f"{shown_name(where)}@{root.digest}", *_branches(closure, root.digest, "")]))
    elif form == "json":
        print(json.dumps(_tree(closure, closure.nodes[root.digest]), indent=2, ensure_ascii=False))
    else:
        from knarr.gotemplate.render import Fields, render

        for node in closure.nodes.values():
            if node.kind in ("referrer", "digest tag"):
                print(render(form, Fields(_described(node))))
    return 0


def _below(closure: Closure, digest: Digest) -> list[Node]:
    """What hangs on a document, in the order: its parts, its referrers, its digest tags."""
    from knarr.record import replace
    from knarr.spec.referrers import fallback_tag

    node = closure.nodes[digest]
    found = [closure.nodes[child] for child in closure.documents_of(node)]
    known = {one.descriptor.digest for one in found}
    for entry in closure.referrers.get(digest, ()):
        referrer = closure.nodes[entry.digest]
        found.append(replace(referrer, kind="referrer", of=digest) if entry.digest not in known else referrer)
    start = f"{fallback_tag(digest)}."
    for tag, target in closure.digest_tags.items():
        if tag.startswith(start):
            found.append(replace(closure.nodes[target], kind="digest tag", tag=tag, of=digest))
    return found


def _branches(closure: Closure, digest: Digest, indent: str) -> Iterator[str]:
    below = _below(closure, digest)
    for number, node in enumerate(below):
        last = number == len(below) - 1
        yield f"{indent}{'└── ' if last else '├── '}{_line(closure, node)}"
        yield from _branches(closure, node.descriptor.digest, indent + ("    " if last else "│   "))


def _line(closure: Closure, node: Node) -> str:
    platform = node.descriptor.platform
    kind = node.document.artifact_type
    if node.kind == "child":
        what = str(platform) if platform else "image"
    elif node.kind == "digest tag":
        what = f".{node.tag.partition('.')[2]} tag"
    elif node.kind == "attestation":
        what = "attestation"
    else:
        what = kind or node.descriptor.artifact_type or "referrer"
    return f"{what}  {node.descriptor.digest}"


def _described(node: Node) -> dict[str, Any]:
    return {
        "Digest": str(node.descriptor.digest),
        "Kind": node.kind,
        "ArtifactType": node.document.artifact_type or node.descriptor.artifact_type,
        "MediaType": node.document.media_type,
        "Size": len(node.raw),
        "Of": str(node.of or ""),
        "Tag": node.tag,
        "Annotations": dict(node.document.annotations),
    }


def _tree(closure: Closure, node: Node) -> dict[str, Any]:
    described = {name[0].lower() + name[1:]: value for name, value in _described(node).items() if value}
    platform = node.descriptor.platform
    if platform is not None and not platform.is_attestation():
        described["platform"] = str(platform)
    below = [_tree(closure, child) for child in _below(closure, node.descriptor.digest)]
    return {**described, "below": below} if below else described
