"""`--cache-from` and `--cache-to`, from text to records; what cannot be meant is refused by name.

    parse_cache("--cache-from", "registry.example/app:cache")             # CacheEntry("registry", {"ref": …})
    parse_cache("--cache-to", "type=local,dest=cache,mode=max", cwd="/w") # CacheEntry("local", {"dest": "/w/cache", …})

Forms and keys are buildx's (util/buildflags/cache.go) and BuildKit's (cache/remotecache).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr.builder import CacheEntry
from knarr.errors import UsageError
from knarr.export.options import compression, near, switch
from knarr.record import record
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.layer.compress import Compression

CACHE_FROM, CACHE_TO = "--cache-from", "--cache-to"
_LAYERS = ("compression", "compression-level", "force-compression")
_MANIFEST = ("mode", "image-manifest", "oci-mediatypes", "ignore-error", "mounts", *_LAYERS)
_KEYS: Mapping[tuple[str, str], tuple[str, ...]] = {
    (CACHE_FROM, "registry"): ("ref", "registry.insecure"),
    (CACHE_FROM, "local"): ("src", "tag", "digest"),
    (CACHE_TO, "registry"): ("ref", "registry.insecure", *_MANIFEST),
    (CACHE_TO, "local"): ("dest", "tag", "reset", *_MANIFEST),
    (CACHE_TO, "inline"): ("mode", "ignore-error"),
}
_ELSEWHERE = {
    "gha": "use type=registry with a repository for caches, or type=local with actions/cache",
    "s3": "use type=registry, or type=local and copy the directory",
    "azblob": "use type=registry, or type=local and copy the directory",
}


@record
class CacheTarget:
    """One `--cache-to`. `ref` or `dest` says where, neither that it is in the image's own config."""

    kind: str
    ref: str
    dest: str
    tag: str  # in the directory
    insecure: bool
    reset: bool  # blobs of the directory that the new cache does not have are removed
    all_steps: bool  # mode=max
    image_manifest: bool
    oci: bool
    compression: Compression
    ignore_error: bool
    mounts: tuple[str, ...]  # ids of cache mounts that go along

    @property
    def place(self) -> str:
        """Where it goes, for people."""
        return self.ref or (f"directory {self.dest}" if self.dest else "the image")


def parse_cache(flag: str, text: str, *, cwd: str = "") -> CacheEntry:
    """The cache a user wrote. A relative directory is one below `cwd`, or else below this process's own.

    Raises:
        UsageError: malformed, an option that the type does not have, or a type that exists elsewhere, but not here.
    """
    fields = _fields(flag, text)
    if len(fields) == 1 and "=" not in fields[0]:
        kind, attrs = "registry", {"ref": fields[0]}
    else:
        kind, attrs = _pairs(flag, text, fields)
    for key in ("src", "dest"):
        if attrs.get(key):
            attrs[key] = os.path.join(cwd, os.path.expanduser(attrs[key]))
    entry = CacheEntry(kind, attrs)
    if flag == CACHE_TO:
        cache_target(entry)
    else:
        check_source(entry)
    return entry


def with_inline(targets: tuple[CacheEntry, ...], build_args: Mapping[str, str]) -> tuple[CacheEntry, ...]:
    """`targets`, and an inline cache if a build argument asks for one, as with BuildKit."""
    asked = build_args.get("BUILDKIT_INLINE_CACHE", "") in ("1", "t", "T", "true", "TRUE", "True")
    if not asked or any(entry.type == "inline" for entry in targets):
        return targets
    return (*targets, CacheEntry("inline"))


def check_source(entry: CacheEntry) -> None:
    """Whether a `--cache-from` can be meant; raises as `parse_cache` does."""
    _check(CACHE_FROM, entry, "src" if entry.type == "local" else "ref")


def cache_target(entry: CacheEntry) -> CacheTarget:
    """The options of a `--cache-to`; raises as `parse_cache` does."""
    attrs, where = entry.attrs, f"{CACHE_TO} type={entry.type}"
    _check(CACHE_TO, entry, {"registry": "ref", "local": "dest"}.get(entry.type, ""))
    mode = attrs.get("mode", "min")
    if mode not in ("min", "max"):
        raise UsageError(f"{where}: mode={mode} is not known", hint="mode=min or mode=max")
    oci = switch(attrs, "oci-mediatypes", where, default=True)
    image_manifest = switch(attrs, "image-manifest", where, default=oci)
    if image_manifest and not oci:
        raise UsageError(
            f"{where}: image-manifest and oci-mediatypes=false exclude each other", hint="drop one of the two"
        )
    if entry.type == "inline" and mode == "max":
        raise UsageError(
            f"{where}: an image has only its own layers, so mode=max cannot be in it",
            hint="use type=registry,mode=max with a name of its own",
        )
    return CacheTarget(
        entry.type,
        attrs.get("ref", ""),
        attrs.get("dest", ""),
        attrs.get("tag", "latest"),
        switch(attrs, "registry.insecure", where, default=False),
        switch(attrs, "reset", where, default=False),
        mode == "max",
        image_manifest,
        oci,
        compression(attrs, where),
        switch(attrs, "ignore-error", where, default=False),
        tuple(id for id in attrs.get("mounts", "").split(",") if id),
    )


def _check(flag: str, entry: CacheEntry, place: str) -> None:
    kind, where = entry.type, f"{flag} type={entry.type}"
    known = _KEYS.get((flag, kind))
    if known is None:
        if kind in _ELSEWHERE:
            raise UsageError(f"{where} is not supported", hint=_ELSEWHERE[kind])
        kinds = [name for given, name in _KEYS if given == flag]
        if kind == "inline":
            raise UsageError(f"{where}: an inline cache is read from its image", hint=f"{flag} type=registry,ref=IMAGE")
        raise UsageError(f"{where} is not known", hint=near(kind, kinds) or f"types are: {', '.join(kinds)}")
    for key in entry.attrs:
        if key not in known:
            raise UsageError(f"{where} has no option {key!r}", hint=near(key, known) or f"it has: {', '.join(known)}")
    if place and not entry.attrs.get(place):
        raise UsageError(f"{where} needs {place}={'REFERENCE' if place == 'ref' else 'DIRECTORY'}")
    if entry.attrs.get("ref"):
        Reference.parse(entry.attrs["ref"])


def _fields(flag: str, text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"{flag} {text}: {error}") from error


def _pairs(flag: str, text: str, fields: list[str]) -> tuple[str, dict[str, str]]:
    """Type and options. The ids of `mounts=` go on over commas, so that they need no quotes."""
    attrs: dict[str, str] = {}
    last = ""
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals and last == "mounts":
            attrs["mounts"] += f",{field}"
            continue
        if not equals:
            raise UsageError(f"{flag} {text}: {field!r} is not key=value", hint=f"write {flag} type=TYPE,key=value")
        last = key.strip().lower()
        attrs[last] = value
    kind = attrs.pop("type", "")
    if not kind:
        raise UsageError(f"{flag} {text}: there is no type", hint=f"write {flag} type=registry,ref=REFERENCE")
    return kind, attrs
