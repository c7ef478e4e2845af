"""`--attest`, `--provenance`, `--sbom` and the variables of buildx, as options."""

from __future__ import annotations

import pytest

from knarr.cli.buildoptions import BuildOptions, parse_options
from knarr.errors import UsageError

MIN = {"mode": "min", "inline-only": "true"}


def options(*argv: str, **environ: str) -> BuildOptions:
    return parse_options([*argv, "."], environ, "/")


@pytest.mark.parametrize(
    ("argv", "attest"),
    [
        ((), {"provenance": MIN}),
        (("--provenance=true",), {"provenance": {}}),
        (("--provenance=mode=max,version=v0.2",), {"provenance": {"mode": "max", "version": "v0.2"}}),
        (("--provenance", "mode=max"), {"provenance": {"mode": "max"}}),
        (("--provenance=false",), {}),
        (("--attest", "type=provenance,disabled=true"), {}),
        (("--attest", "type=provenance,mode=max", "--provenance=false"), {}),
        (("--sbom=true",), {"sbom": {}, "provenance": MIN}),
        (("--attest", "type=sbom,generator=x/y:1", "--sbom=false"), {"provenance": MIN}),
        (("--attest", 'type=sbom,"stages=a,b"'), {"sbom": {"stages": "a,b"}, "provenance": MIN}),
        (("--provenance=false", "--build-arg", "BUILDKIT_ATTEST_PROVENANCE=mode=max"), {"provenance": {"mode": "max"}}),
    ],
)
def test_the_later_word_for_a_kind_counts(argv: tuple[str, ...], attest: dict[str, dict[str, str]]) -> None:
    assert options(*argv).attest == attest


def test_the_default_can_be_switched_off() -> None:
    assert options(BUILDX_NO_DEFAULT_ATTESTATIONS="1").attest == {}
    assert options(BUILDX_NO_DEFAULT_ATTESTATIONS="0").attest == {"provenance": MIN}
    with pytest.raises(UsageError, match="BUILDX_NO_DEFAULT_ATTESTATIONS=yes is neither true nor false"):
        options(BUILDX_NO_DEFAULT_ATTESTATIONS="yes")


def test_the_older_form_can_be_the_default() -> None:
    (export,) = options("-t", "app", BUILDX_NO_DEFAULT_OCI_ARTIFACT="true").exports
    assert export.attrs["oci-artifact"] == "false"
    (export,) = options("-o", "type=image,name=app,oci-artifact=true", BUILDX_NO_DEFAULT_OCI_ARTIFACT="true").exports
    assert export.attrs["oci-artifact"] == "true"


@pytest.mark.parametrize(("text", "mode"), [("", "min"), ("max", "max"), ("disabled", ""), ("0", ""), ("true", "min")])
def test_the_metadata_file_tells_as_much_as_the_variable_says(text: str, mode: str) -> None:
    assert options("--metadata-file", "m", BUILDX_METADATA_PROVENANCE=text).tell_provenance == mode
    assert options(BUILDX_METADATA_PROVENANCE=text).tell_provenance == ""
