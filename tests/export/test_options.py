"""`--output`, from text to records."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.builder import Export
from knarr.errors import KnarrError, UsageError
from knarr.export.options import archive_options, check, image_options, parse_output, tree_options


@pytest.mark.parametrize(
    ("text", "kind", "attrs"),
    [
        ("out", "local", {"dest": "/src/out"}),
        ("-", "tar", {"dest": "-"}),
        ("type=tar,dest=-", "tar", {"dest": "-"}),
        ("type=oci,dest=a.tar", "oci", {"dest": "/src/a.tar"}),
        ("type=image,name=app:1,push=true", "image", {"name": "app:1", "push": "true"}),
        ("type=registry,name=r.example/app", "image", {"name": "r.example/app", "push": "true"}),
        ('type=image,"name=a:1,b:2"', "image", {"name": "a:1,b:2"}),
        ("type=image,Compression=zstd", "image", {"compression": "zstd"}),
        ("type=cacheonly", "cacheonly", {}),
        ("type=image,annotation-index.org.x=a=b", "image", {"annotation-index.org.x": "a=b"}),
    ],
)
def test_outputs_are_read_as_buildx_reads_them(text: str, kind: str, attrs: dict[str, str]) -> None:
    assert parse_output(text, cwd="/src") == Export(kind, attrs)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("type=image,push", UsageError, "'push' is not key=value"),
        ("dest=x,name=y", UsageError, "there is no type"),
        ("type=imgae", UsageError, "did you mean image?"),
        ("type=image,compresion=zstd", UsageError, "did you mean compression?"),
        ("type=cacheonly,dest=x", UsageError, "has no options"),
        ("type=image,push=maybe", UsageError, "push=maybe is neither true nor false"),
        ("type=image,compression=lz4", UsageError, "lz4"),
        ("type=image,compression=estargz,oci-mediatypes=false", UsageError, "exclude each other"),
        ("type=image,compression-level=high", UsageError, "not a number"),
        ("type=image,compression=zstd,compression-level=99", UsageError, "no compression level 99"),
        ("type=image,oci-mediatypes=false,annotation-index.a=b", UsageError, "on manifests only"),
        ("type=image,oci-mediatypes=false,oci-artifact=true", UsageError, "exclude each other"),
        ("type=image,annotation-layer.a=b", UsageError, "not a place for annotations"),
        ("type=image,rewrite-timestamp=perhaps", UsageError, "rewrite-timestamp=perhaps"),
        ("type=image,rewrite-timestamp=true,unpack=true", UsageError, "exclude each other"),
        ("type=image,squash=some", UsageError, "use new"),
        ("type=image,source-date-epoch=now", UsageError, "source-date-epoch=now"),
        ("type=image,name=UPPER", UsageError, "lower-case"),
        ("type=image,push-by-digest=true,name=app:1", UsageError, "push-by-digest"),
        ("type=docker", UsageError, "needs dest=FILE"),
        ("type=oci,tar=false", UsageError, "needs dest=DIRECTORY"),
        ("type=local", UsageError, "needs dest=DIRECTORY"),
        ("type=local,dest=/etc/hostname", UsageError, "is a file"),
        ("type=local,dest=x,mode=merge", UsageError, "mode=merge"),
        ("type=tar,dest=/", UsageError, "is a directory"),
        ('type=image,"name=a', UsageError, "--output"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text: str, error: type[KnarrError], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_output(text, cwd="/src")

    assert words in f"{caught.value.message} {caught.value.hint}"


def test_options_of_what_is_not_made_are_let_pass() -> None:
    check(Export("image", {"oci-artifact": "true", "attestation-inline": "true"}))
    check(Export("local", {"dest": "x", "attestation-prefix": "a-"}))
    check(Export("docker", {"dest": "x", "buildinfo": "true", "buildinfo-attrs": "true"}))


@pytest.mark.parametrize(("given", "meant"), [("new", "new"), ("true", "new"), ("all", "all"), ("false", "")])
def test_squash_is_a_switch_or_says_what(given: str, meant: str) -> None:
    assert image_options(Export("image", {"squash": given})).layers.squash == meant


def test_the_options_of_an_image() -> None:
    options = image_options(
        Export("image", {"name": "app,r.example/app:2", "push": "", "compression": "zstd", "compression-level": "7"})
    )

    assert options.layers.names == ("docker.io/library/app", "r.example/app:2")
    assert options.push
    assert options.store
    assert (options.layers.compression.kind, options.layers.compression.level) == ("zstd", 7)
    assert options.layers.oci


def test_registry_is_an_image_that_is_pushed() -> None:
    assert image_options(Export("registry", {"name": "r.example/app"})).push


def test_annotations_say_where_they_go() -> None:
    options = image_options(
        Export("image", {"annotation.a": "1", "annotation-index.b": "2", "annotation-manifest[linux/arm64/v8].c": "3"})
    )

    found = [(note.level, str(note.platform or ""), note.key, value) for note, value in options.layers.annotations]
    assert found == [("manifest", "", "a", "1"), ("index", "", "b", "2"), ("manifest", "linux/arm64", "c", "3")]


def test_archives_and_trees_have_their_own(tmp_path: Path) -> None:
    archive = archive_options(Export("oci", {"dest": str(tmp_path / "x"), "tar": "false"}))
    tree = tree_options(Export("local", {"dest": "/x", "platform-split": "false", "source-date-epoch": "5"}))

    assert (archive.tar, archive.dest) == (False, str(tmp_path / "x"))
    assert (tree.split, tree.epoch) == (False, 5)
    assert archive_options(Export("oci")).dest == "-"


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60) | st.from_regex(r"type=[a-z]+(,[a-z-]+=[^,]{0,9}){0,4}", fullmatch=True))
def test_any_text_is_an_output_or_a_clear_error(text: str) -> None:
    try:
        message = f"read as {parse_output(text, cwd='/src').type}"
    except KnarrError as error:
        message = error.message
    assert message
