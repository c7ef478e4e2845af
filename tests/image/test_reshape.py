"""Other forms of an image: platforms left out, attestations moved; what stays byte for byte, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knarr.errors import NotFound, UsageError
from knarr.image.closure import Closure, Wanted, explore
from knarr.image.layoutrepository import LayoutRepository
from knarr.image.reshape import ATTESTATION_TYPE, reshape
from knarr.scope import Scope
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest
from knarr.spec.platform import Platform
from tests.image.universe import Universe

ARM64 = Platform.parse("linux/arm64")


@pytest.fixture
def universe() -> Universe:
    return Universe()


@pytest.fixture
def layout(universe: Universe, tmp_path: Path) -> LayoutRepository:
    layout = LayoutRepository.create(tmp_path / "layout")
    universe.push_to(layout, "1")
    return layout


def closure(layout: Any, universe: Universe, **wanted: Any) -> Closure:
    with Scope() as scope:
        return explore(layout, universe.root, scope=scope, wanted=Wanted(**wanted))


def digests(closure: Closure, kind: str = "") -> set[Digest]:
    return {node.descriptor.digest for node in closure.nodes.values() if kind in ("", node.kind)}


def test_without_a_wish_nothing_changes(layout: LayoutRepository, universe: Universe) -> None:
    whole = closure(layout, universe)

    assert reshape(whole).closure is whole
    assert digests(whole) == universe.digests


def test_dropped_attestations_do_not_come_back_as_referrers(layout: LayoutRepository, universe: Universe) -> None:
    made = reshape(closure(layout, universe), attestations="drop")

    root = made.closure.nodes[made.closure.root.digest].document
    assert isinstance(root, Index)
    assert [entry.digest for entry in root.manifests] == [m.descriptor.digest for m in (universe.amd64, universe.arm64)]
    gone = {manifest.descriptor.digest for manifest in (*universe.attested, universe.old)}
    assert digests(made.closure) & gone == set()
    assert universe.child_sbom.descriptor.digest in digests(made.closure)
    assert made.notes == (f"the digest changes from {universe.root.digest} to {made.closure.root.digest}",)


def test_what_referred_to_the_old_index_is_told(layout: LayoutRepository, universe: Universe) -> None:
    made = reshape(closure(layout, universe), attestations="drop")

    left = {node.descriptor.digest for node in made.left_out}
    assert {universe.sbom.descriptor.digest, universe.signature.descriptor.digest} <= left
    assert set(made.closure.digest_tags) == {tag for tag in universe.tags if tag.endswith(".att")}


def test_attestations_move_to_the_referrers_and_back(layout: LayoutRepository, universe: Universe) -> None:
    out = reshape(closure(layout, universe), attestations="referrers").closure
    arm64 = universe.arm64.descriptor.digest

    attached = out.referrers[arm64]
    documents = [out.nodes[entry.digest].document for entry in attached]
    assert [document.artifact_type for document in documents] == [ATTESTATION_TYPE] * 2
    assert universe.attested[1].raw in [document.raw for document in documents]  # the newer form needs no change
    assert {layer.digest for d in documents if isinstance(d, Manifest) for layer in d.layers} == {
        manifest.layers[0].digest for manifest in (universe.attested[1], universe.old)
    }

    back = reshape(out, attestations="index").closure
    root = back.nodes[back.root.digest].document
    assert isinstance(root, Index)
    assert len(root.manifests) == 5
    assert {entry.annotations.get("vnd.docker.reference.digest") for entry in root.manifests} == {
        None,
        universe.amd64.descriptor.digest,
        arm64,
    }


def test_attestations_move_to_tags_and_back_and_what_is_signed_stays(
    layout: LayoutRepository, universe: Universe
) -> None:
    whole = closure(layout, universe)
    signed = next(node for node in whole.nodes.values() if node.tag.endswith(".att")).document
    tagged = reshape(whole, attestations="tag").closure

    root = tagged.nodes[tagged.root.digest].document
    assert isinstance(root, Index)
    assert {str(entry.platform) for entry in root.manifests} == {"linux/amd64", "linux/arm64"}
    arm64 = tagged.nodes[tagged.digest_tags[f"sha256-{universe.arm64.descriptor.digest.hex}.att"]].document
    assert isinstance(arm64, Manifest)
    moved = {layer.digest for m in (universe.attested[1], universe.old) for layer in m.layers}
    assert moved <= {layer.digest for layer in arm64.layers}
    assert not any(
        entry.artifact_type == ATTESTATION_TYPE for entry in tagged.referrers.get(arm64.descriptor.digest, ())
    )

    back = reshape(tagged, attestations="referrers").closure
    listed = [back.nodes[e.digest].document for e in back.referrers[universe.arm64.descriptor.digest]]
    again = {layer.digest for m in listed if m.artifact_type == ATTESTATION_TYPE for layer in m.layers}  # type: ignore[union-attr]
    assert again == moved
    kept = [back.nodes[digest].document for tag, digest in back.digest_tags.items() if tag.endswith(".att")]
    assert [layer for m in kept for layer in m.layers] == list(signed.layers)  # type: ignore[union-attr]

    gone = reshape(tagged, attestations="drop").closure
    assert not moved & {layer.digest for node in gone.nodes.values() for layer in getattr(node.document, "layers", ())}


def test_one_platform_keeps_its_attestations_in_an_index(layout: LayoutRepository, universe: Universe) -> None:
    made = reshape(closure(layout, universe, platforms=(ARM64,)), platforms=(ARM64,)).closure

    root = made.nodes[made.root.digest].document
    assert isinstance(root, Index)
    assert [entry.digest for entry in root.manifests] == [
        manifest.descriptor.digest for manifest in (universe.arm64, universe.attested[1], universe.old)
    ]


def test_one_platform_without_attestations_is_that_image(layout: LayoutRepository, universe: Universe) -> None:
    made = reshape(closure(layout, universe, platforms=(ARM64,)), platforms=(ARM64,), attestations="drop").closure

    assert made.root.digest == universe.arm64.descriptor.digest


def test_a_sparse_copy_keeps_the_index(layout: LayoutRepository, universe: Universe) -> None:
    made = reshape(closure(layout, universe, platforms=(ARM64,), sparse=True), platforms=(ARM64,), sparse=True).closure

    assert made.root.digest == universe.root.digest
    assert universe.amd64.descriptor.digest not in made.nodes
    assert universe.sbom.descriptor.digest in made.nodes


def test_a_manifest_without_index_gets_one_for_its_attestations(layout: LayoutRepository, universe: Universe) -> None:
    with Scope() as scope:
        single = explore(layout, universe.amd64.descriptor.bare(), scope=scope)

    made = reshape(single, attestations="index", own_platform=Platform.parse("linux/amd64")).closure

    root = made.nodes[made.root.digest].document
    assert isinstance(root, Index)
    assert [str(entry.platform) for entry in root.manifests] == ["linux/amd64", "unknown/unknown"]


def test_a_platform_that_is_not_there_is_named(layout: LayoutRepository, universe: Universe) -> None:
    with pytest.raises(NotFound, match="linux/s390x"):
        closure(layout, universe, platforms=(Platform.parse("linux/s390x"),))


def test_sparse_and_moving_attestations_exclude_each_other(layout: LayoutRepository, universe: Universe) -> None:
    with pytest.raises(UsageError):
        reshape(closure(layout, universe), sparse=True, attestations="drop")
