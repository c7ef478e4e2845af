"""`--cache-from` and `--cache-to` as records; what cannot be meant is refused by name."""

from __future__ import annotations

import pytest

from knarr.builder import CacheEntry
from knarr.errors import KnarrError, UsageError
from knarr.export.cacheoptions import CACHE_FROM, CACHE_TO, cache_target, parse_cache
from knarr.layer.compress import Compression


@pytest.mark.parametrize(
    ("flag", "text", "entry"),
    [
        (CACHE_FROM, "reg.example/app:cache", CacheEntry("registry", {"ref": "reg.example/app:cache"})),
        (CACHE_TO, "user/app:cache", CacheEntry("registry", {"ref": "user/app:cache"})),
        (CACHE_FROM, "type=registry,REF=a:b", CacheEntry("registry", {"ref": "a:b"})),
        (CACHE_FROM, "type=local,src=c,tag=x", CacheEntry("local", {"src": "/w/c", "tag": "x"})),
        (CACHE_TO, 'type=local,"dest=a,b"', CacheEntry("local", {"dest": "/w/a,b"})),
        (CACHE_TO, "type=inline", CacheEntry("inline")),
    ],
)
def test_forms_of_buildx(flag: str, text: str, entry: CacheEntry) -> None:
    assert parse_cache(flag, text, cwd="/w") == entry


def test_defaults_are_those_of_buildkit() -> None:
    target = cache_target(CacheEntry("registry", {"ref": "a:b"}))
    assert (target.all_steps, target.image_manifest, target.oci, target.ignore_error) == (False, True, True, False)
    assert target.compression == Compression()
    assert cache_target(CacheEntry("local", {"dest": "/c"})).tag == "latest"


def test_dockers_media_types_mean_an_index() -> None:
    target = cache_target(CacheEntry("registry", {"ref": "a:b", "oci-mediatypes": "false"}))
    assert not target.image_manifest
    assert not target.oci


@pytest.mark.parametrize("text", ["mounts=a,/b/c", '"mounts=a,/b/c"'])
def test_ids_of_cache_mounts_need_no_quotes(text: str) -> None:
    entry = parse_cache(CACHE_TO, f"type=local,dest=/x,{text},mode=max")
    assert cache_target(entry).mounts == ("a", "/b/c")
    assert cache_target(entry).all_steps


def test_compression() -> None:
    attrs = {"ref": "a:b", "compression": "zstd", "compression-level": "7", "force-compression": "true"}
    assert cache_target(CacheEntry("registry", attrs)).compression == Compression("zstd", 7, force=True)


@pytest.mark.parametrize(
    ("flag", "text", "kind", "message"),
    [
        (CACHE_TO, "type=registry", UsageError, "--cache-to type=registry needs ref=REFERENCE"),
        (CACHE_FROM, "type=local", UsageError, "--cache-from type=local needs src=DIRECTORY"),
        (CACHE_FROM, "type=registry,ref=UPPER", KnarrError, "'UPPER' is not an image reference"),
        (CACHE_TO, "ref=a:b", UsageError, "--cache-to ref=a:b: there is no type"),
        (CACHE_TO, "type=local,dest", UsageError, "--cache-to type=local,dest: 'dest' is not key=value"),
        (CACHE_TO, 'type=local,"dest', UsageError, '--cache-to type=local,"dest: '),
        (CACHE_TO, "type=regstry,ref=a", UsageError, "--cache-to type=regstry is not known"),
        (CACHE_FROM, "type=inline", UsageError, "--cache-from type=inline: an inline cache is read from its image"),
        (CACHE_FROM, "type=local,dest=x", UsageError, "--cache-from type=local has no option 'dest'"),
        (CACHE_TO, "type=registry,ref=a,mode=all", UsageError, "--cache-to type=registry: mode=all is not known"),
        (CACHE_TO, "type=inline,mode=max", UsageError, "--cache-to type=inline: an image has only its own layers"),
        (CACHE_TO, "type=local,dest=x,reset=maybe", UsageError, "--cache-to type=local: reset=maybe is neither"),
        (CACHE_TO, "type=local,dest=x,compression=lz4", UsageError, "--cache-to type=local: compression 'lz4'"),
        (
            *(CACHE_TO, "type=registry,ref=a,image-manifest=true,oci-mediatypes=false", UsageError),
            "--cache-to type=registry: image-manifest and oci-mediatypes=false exclude each other",
        ),
        (CACHE_TO, "type=gha", UsageError, "--cache-to type=gha is not supported"),
        (CACHE_FROM, "type=s3,bucket=x", UsageError, "--cache-from type=s3 is not supported"),
    ],
)
def test_refusals(flag: str, text: str, kind: type[KnarrError], message: str) -> None:
    with pytest.raises(kind) as caught:
        parse_cache(flag, text)
    assert caught.value.message.startswith(message)
