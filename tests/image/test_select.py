"""Which manifest of an index serves a platform."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.errors import NotFound
from knarr.image.select import manifest_for, match, platforms_of, restrict, select
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, encode_index
from knarr.spec.platform import Platform


def entry(platform: str | Platform | None, **more: Any) -> Descriptor:
    seed = f"{platform} {more}".encode()
    parsed = Platform.parse(platform) if isinstance(platform, str) else platform
    return Descriptor(mediatype.OCI_MANIFEST, Digest.of(seed), len(seed), parsed, **more)


def index(*platforms: str) -> Index:
    return encode_index([entry(platform) for platform in platforms])


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/amd64", "linux/arm64"], "linux/arm64", "linux/arm64"),
        (["linux/amd64", "linux/arm64"], "linux/arm64/v8", "linux/arm64"),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm", "linux/arm/v7"),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", "linux/arm/v6"),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["linux/arm/v7"], "linux/arm64", "linux/arm/v7"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64/v4", "linux/amd64/v3"),
        (["windows/amd64"], "linux/amd64", None),
        ([], "linux/amd64", None),
    ],
)
def test_the_best_entry_is_chosen(offered: list[str], wanted: str, chosen: str | None) -> None:
    found = match(index(*offered), Platform.parse(wanted))

    assert (str(found.platform) if found else None) == chosen


def test_a_miss_says_what_there_is() -> None:
    with pytest.raises(NotFound, match="no image for linux/s390x") as caught:
        select(index("linux/amd64", "linux/arm64"), Platform.parse("linux/s390x"))

    assert caught.value.hint == "available: linux/amd64, linux/arm64"


def test_attestations_never_match() -> None:
    image = entry("linux/amd64")
    note = entry(Platform("unknown", "unknown"), annotations={"vnd.docker.reference.digest": str(image.digest)})
    disguised = entry("linux/arm64", annotations={"vnd.docker.reference.type": "attestation-manifest"})
    mixed = encode_index([note, disguised, image])

    assert platforms_of(mixed) == (image.platform,)
    assert match(mixed, Platform("unknown", "unknown")) is None
    assert match(mixed, Platform.parse("linux/arm64")) is None


def test_artifacts_never_match() -> None:
    assert (
        match(encode_index([entry("linux/amd64", artifact_type="application/x.sbom")]), Platform.parse("amd64")) is None
    )


def test_an_image_that_says_no_platform_serves_when_it_is_the_only_one() -> None:
    assert match(encode_index([entry(None)]), Platform.parse("linux/amd64")) == entry(None)
    assert match(encode_index([entry(None), entry("linux/arm64")]), Platform.parse("linux/amd64")) is None


def test_windows_versions_are_told_apart_when_asked_for() -> None:
    old = entry(Platform("windows", "amd64", os_version="10.0.17763.1"))
    new = entry(Platform("windows", "amd64", os_version="10.0.20348.1"))

    assert match(encode_index([old, new]), Platform("windows", "amd64", os_version="10.0.20348")) == new


def test_restricting_keeps_the_attestations_of_what_is_kept() -> None:
    amd64, arm64 = entry("linux/amd64"), entry("linux/arm64")
    unknown = Platform("unknown", "unknown")
    notes = [entry(unknown, annotations={"vnd.docker.reference.digest": str(image.digest)}) for image in (amd64, arm64)]
    whole = encode_index([amd64, arm64, *notes])

    assert restrict(whole, [Platform.parse("linux/arm64")]) == (arm64, notes[1])


def test_a_manifest_is_found_through_nested_indexes(images: Any) -> None:
    image = images.manifest("linux/arm64")
    inner = images.index(image)
    outer = images.index(Descriptor(inner.media_type, inner.digest, inner.size, Platform.parse("linux/arm64")))

    descriptor, manifest = manifest_for(images.layout, outer, Platform.parse("linux/arm64"))

    assert descriptor.digest == image.digest == manifest.descriptor.digest
