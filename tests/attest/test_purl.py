"""Package URLs, compared with those of BuildKit's util/purl."""

from __future__ import annotations

import pytest

from knarr.attest import purl
from knarr.errors import ContentError
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

HEX = "688e838cebb6d9c9d8558766b92fd4cc1e863e9c18a099ab99964b508a5e6721"
CASES = [
    ("busybox", "linux/amd64", "pkg:docker/busybox@latest?platform=linux%2Famd64"),
    ("library/busybox:1.36", "", "pkg:docker/busybox@1.36"),
    ("me/app:1", "linux/arm/v7", "pkg:docker/me/app@1?platform=linux%2Farm%2Fv7"),
    ("localhost:5055/x/y:1", "linux/arm64", "pkg:docker/localhost%3A5055/x/y@1?platform=linux%2Farm64"),
    (f"localhost:5055/x/y@sha256:{HEX}", "", f"pkg:docker/localhost%3A5055/x/y?digest=sha256:{HEX}"),
    (f"a.test/y:1@sha256:{HEX}", "linux/amd64", f"pkg:docker/a.test/y@1?digest=sha256:{HEX}&platform=linux%2Famd64"),
]


@pytest.mark.parametrize(("name", "platform", "text"), CASES)
def test_an_image_has_buildkits_package_url(name: str, platform: str, text: str) -> None:
    of = Platform.parse(platform) if platform else None

    assert purl.of_image(Reference.parse(name), of) == text


@pytest.mark.parametrize(("name", "platform", "text"), CASES)
def test_a_package_url_leads_back_to_its_image(name: str, platform: str, text: str) -> None:
    expected = Reference.parse(name).tagged(), Platform.parse(platform) if platform else None

    assert purl.image_of(text) == expected


def test_an_image_from_a_layout_is_oci() -> None:
    assert purl.of_image(Reference.parse("app"), kind=purl.OCI).startswith("pkg:oci/app@latest")


@pytest.mark.parametrize("text", ["", "docker/app", "pkg:npm/app@1", "pkg:docker/", "pkg:docker/UPPER@1"])
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(ContentError, match="is not the package URL of an image"):
        purl.image_of(text)
