"""Documents, judged by the published schemas and by the validators of the formats' own projects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from knarr.sbom import cyclonedx, spdx
from knarr.sbom.about import About
from knarr.sbom.package import Distribution, FileFact, Inventory, Package, Skipped, from_json, to_json

ABOUT = About("registry.example/app:1", 1_700_000_000, {"usr/bin/app": "sha256:" + "a" * 64}, "sha256:" + "b" * 64)
FACT = FileFact(7, "f" * 40, "e" * 64)
INVENTORY = Inventory(
    (
        Package(
            "deb",
            "app",
            "1:1.0-1",
            "debian",
            "amd64",
            "app-src",
            "1.0",
            licenses=("GPL-2+ or my-own", "Expat"),
            license_files=("usr/share/doc/app/copyright",),
            supplier='"A (Team)" <a@example.com>',
            homepage="https://example.com/x",
            summary="an app",
            evidence=("var/lib/dpkg/status",),
            requires=("missing|lib",),
        ),
        Package("deb", "lib", "2", "debian", "all", licenses=("BSD",), evidence=("var/lib/dpkg/status",)),
        Package("golang", "x", "v1", "example.com/y", evidence=("usr/bin/app",)),
        Package("npm", "left", "1.0.0", "@scope", licenses=("MIT",), homepage="not a url", evidence=("p",)),
    ),
    {"usr/bin/app": FACT, "usr/bin/é": FACT},
    (("usr/bin/app", "usr/bin/é"), (), (), ()),
    Distribution("debian", "12"),
    (Skipped("a.jar", "cut short"),),
)


def document(inventory: Inventory, about: About = ABOUT) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(b"".join(spdx.write(inventory, about)))
    return found


def problems_of_spdx(raw: bytes, tmp_path: Path) -> list[str]:
    path = tmp_path / "x.spdx.json"
    path.write_bytes(raw)
    return [one.validation_message for one in validate_full_spdx_document(parse_file(str(path)))]


def test_spdx_is_valid_for_the_tools_of_spdx(tmp_path: Path) -> None:
    assert problems_of_spdx(b"".join(spdx.write(INVENTORY, ABOUT)), tmp_path) == []


def test_a_document_without_findings_is_valid_too(tmp_path: Path) -> None:
    assert problems_of_spdx(b"".join(spdx.write(Inventory(), About("x", 0))), tmp_path) == []
    assert (
        JsonStrictValidator(SchemaVersion.V1_6).validate_str(
            b"".join(cyclonedx.write(Inventory(), About("x", 0))).decode()
        )
        is None
    )


@pytest.mark.parametrize(("version", "schema"), [("1.6", SchemaVersion.V1_6), ("1.5", SchemaVersion.V1_5)])
def test_cyclonedx_is_valid_by_its_schema(version: str, schema: SchemaVersion) -> None:
    raw = b"".join(cyclonedx.write(INVENTORY, ABOUT, version=version)).decode()
    assert JsonStrictValidator(schema).validate_str(raw) is None


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
PACKAGES = st.builds(
    Package,
    st.sampled_from(["deb", "rpm", "npm", "pypi", "golang", "maven"]),
    TEXT.filter(str.strip),
    TEXT,
    namespace=TEXT,
    licenses=st.lists(TEXT, max_size=3).map(tuple),
    supplier=TEXT,
    homepage=TEXT.map("https://".__add__) | TEXT,
    summary=TEXT,
    evidence=st.lists(TEXT, min_size=1, max_size=2).map(tuple),
    license_files=st.lists(TEXT, max_size=1).map(tuple),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(PACKAGES, max_size=4, unique_by=lambda one: (one.kind, one.name)))
def test_whatever_packages_say_the_documents_are_valid(tmp_path: Path, packages: list[Package]) -> None:
    inventory = Inventory(tuple(packages), {}, tuple(() for _ in packages))
    raw = b"".join(cyclonedx.write(inventory, ABOUT)).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw) is None
    assert problems_of_spdx(b"".join(spdx.write(inventory, ABOUT)), tmp_path) == []


def test_words_that_no_one_sees_are_none(tmp_path: Path) -> None:
    package = Package("deb", "a", "1", licenses=("\b",), supplier="\x0c", evidence=("x",))
    raw = b"".join(spdx.write(Inventory((package,), {}, ((),)), ABOUT))
    assert problems_of_spdx(raw, tmp_path) == []
    assert b"Organization" not in raw


def test_the_licence_file_of_a_package_is_named() -> None:
    app = document(INVENTORY)["packages"][1]  # type: ignore[index]
    assert app["licenseDeclared"] == "(GPL-2.0-or-later OR LicenseRef-my-own) AND MIT"
    assert app["licenseComments"] == "licence file: usr/share/doc/app/copyright"
    assert app["supplier"] == "Person: A [Team] (a@example.com)"
    assert app["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/app@1:1.0-1?arch=amd64&distro=debian-12&upstream=app-src%401.0"
    )


def test_files_belong_to_packages_and_came_with_layers() -> None:
    told = document(INVENTORY)
    files = {one["fileName"]: one for one in told["files"]}  # type: ignore[attr-defined]
    assert files["usr/bin/app"]["comment"] == "layerID: sha256:" + "a" * 64
    assert "comment" not in files["usr/bin/é"]
    related = {(one["spdxElementId"], one["relationshipType"]) for one in told["relationships"]}  # type: ignore[attr-defined]
    packages = [one["SPDXID"] for one in told["packages"]]  # type: ignore[attr-defined]
    assert (packages[1], "DEPENDS_ON") in related
    assert (packages[1], "CONTAINS") in related


def test_what_was_not_read_is_in_the_document() -> None:
    assert document(INVENTORY)["comment"] == "not read: a.jar: cut short"


@pytest.mark.parametrize("form", [spdx, cyclonedx])
def test_the_same_findings_give_the_same_bytes(form: object) -> None:
    write = form.write  # type: ignore[attr-defined]
    again = from_json(json.loads(json.dumps(to_json(INVENTORY))))
    assert again == INVENTORY
    assert b"".join(write(INVENTORY, ABOUT)) == b"".join(write(again, ABOUT))


def test_a_large_document_comes_in_small_pieces() -> None:
    many = Inventory(INVENTORY.packages * 500, INVENTORY.files, INVENTORY.owners * 500)
    assert max(map(len, spdx.write(many, ABOUT))) < 1 << 14
