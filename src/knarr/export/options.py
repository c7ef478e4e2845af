"""`--output` and the options of exporters, from text to records; what cannot be meant is refused by name.

    parse_output("type=image,name=app:1,push=true", cwd="/src")  # Export("image", {"name": …, "push": "true"})
    parse_output("out", cwd="/src")                              # Export("local", {"dest": "/src/out"})

Forms and keys are buildx's (util/buildflags) and BuildKit's (exporter/*).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.errors import KnarrError, UsageError
from knarr.export.annotations import MANIFEST, Annotation, parse_key
from knarr.export.context import NO_EPOCH
from knarr.record import record
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.layer.compress import Compression

STDOUT = "-"
ATTEST_STORES = ("auto", "index", "referrers", "both", "tag", "file", "none")
_TRUE = ("", "1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")

_LAYERS = (
    *("compression", "compression-level", "force-compression", "oci-mediatypes", "name"),
    *("oci-artifact", "attestation-inline"),
    *("source-date-epoch", "rewrite-timestamp", "squash", "prefer-nondist-layers"),
)
_IMAGE = (
    *("push", "push-by-digest", "registry.insecure", "unpack", "store", "attest-store", "attest-dest"),
    *("name-canonical", "dangling-name-prefix", "danging-name-empty-only"),  # BuildKit spells the last one so
)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "image": (*_LAYERS, *_IMAGE),
    "registry": (*_LAYERS, *_IMAGE),
    "oci": (*_LAYERS, "dest", "tar"),
    "docker": (*_LAYERS, "dest", "tar"),
    "local": ("dest", "platform-split", "mode", "source-date-epoch", "rewrite-timestamp", "attestation-prefix"),
    "tar": ("dest", "platform-split", "source-date-epoch", "rewrite-timestamp", "attestation-prefix"),
    "containerd": (*_LAYERS, "address", "namespace", "unpack", "snapshotter", "pinned"),
    "cacheonly": (),
}
_ANNOTATED = ("image", "registry", "oci", "docker", "containerd")
# What BuildKit once had, or hears of and does not know: passed over by both.
PASSED_OVER = ("buildinfo", "buildinfo-attrs", "prefer-image-digest", "unsafe-internal-store-allow-incomplete")


@record
class LayerOptions:
    """What image, oci and docker have in common."""

    names: tuple[str, ...]
    compression: Compression
    oci: bool
    epoch: int | None  # seconds; None: none was given; or NO_EPOCH
    annotations: tuple[tuple[Annotation, str], ...]
    rewrite: bool = False  # cut the times in new layers down to the epoch
    squash: str = ""  # "all", "new"
    prefer_nondist: bool = False  # a base image's layers that must not be distributed stay so marked
    artifact: bool = True  # attestation manifests are OCI artifacts with a subject; else BuildKit's older form
    inline: bool = False  # attestations that are never a reason for an index are one all the same


@record
class ImageOptions:
    """`type=image`."""

    layers: LayerOptions
    push: bool
    push_by_digest: bool
    insecure: bool
    unpack: bool
    store: bool
    name_canonical: bool
    dangling_prefix: str
    dangling_empty_only: bool
    attest_store: str = "auto"  # where attestations go: export/placement
    attest_dest: str = ""  # the directory for those that are files


@record
class ArchiveOptions:
    """`type=oci` and `type=docker`."""

    layers: LayerOptions
    dest: str
    tar: bool


@record
class ContainerdOptions:
    """`type=containerd`. Empty texts: as the settings say, else as containerd has it."""

    layers: LayerOptions
    address: str
    namespace: str
    unpack: bool
    snapshotter: str
    pinned: bool


@record
class TreeOptions:
    """`type=local` and `type=tar`. `split` None: one directory per platform when there are several.

    `delete`: what is in `dest` beside the result is removed. An epoch is the time of
    every file, so `rewrite-timestamp` asks for nothing more.
    """

    dest: str
    split: bool | None
    epoch: int | None
    delete: bool = False
    attestation_prefix: str = ""  # before the names of files that hold attestations


def parse_output(text: str, *, cwd: str = "", loaded: str = "") -> Export:
    """The output a user wrote; `type=registry` becomes an image that is pushed.

    `type=docker` without a `dest`, which buildx loads into docker, is of the type
    `loaded` if there is one. A relative `dest` is one below `cwd`, or else below
    this process's own directory.

    Raises:
        UsageError: malformed, or an option that the type does not have.
        Unsupported: an option that exists elsewhere, but not here.
    """
    fields = _fields(text)
    if len(fields) == 1 and fields[0] == text and not text.startswith("type="):
        kind, attrs = ("tar", {"dest": STDOUT}) if text == STDOUT else ("local", {"dest": text})
    else:
        kind, attrs = _pairs(text, fields)
    dest = attrs.get("dest", "")
    if dest and dest != STDOUT:
        attrs["dest"] = os.path.join(cwd, os.path.expanduser(dest))
    export = Export(kind, attrs)
    if kind == "registry":
        export = Export("image", {"push": "true", **attrs})
    if kind == "docker" and loaded and not dest and switch(attrs, "tar", "type=docker", default=True):
        _check_keys(export)
        export = Export("image", {key: value for key, value in attrs.items() if key not in ("dest", "tar")})
        check(export)
        return Export(loaded, export.attrs)
    check(export)
    return export


def _fields(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UsageError(f"--output {text}: {error}") from error


def _pairs(text: str, fields: list[str]) -> tuple[str, dict[str, str]]:
    attrs: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"--output {text}: {field!r} is not key=value", hint="write --output type=TYPE,key=value")
        attrs[key.strip().lower()] = value
    kind = attrs.pop("type", "")
    if not kind:
        raise UsageError(f"--output {text}: there is no type", hint="write --output type=image, local, tar, oci …")
    return kind, attrs


def check(export: Export) -> None:
    """Read the options of an output just to see that they can be meant.

    Raises:
        UsageError, Unsupported: see `parse_output`.
    """
    if export.type in ("image", "registry"):
        image_options(export)
    elif export.type in ("oci", "docker"):
        archive_options(export)
    elif export.type in ("local", "tar"):
        tree_options(export)
    elif export.type == "containerd":
        containerd_options(export)
    else:
        _check_keys(export)


def with_containerd(exports: Sequence[Export], address: str = "") -> tuple[Export, ...]:
    """`exports`, and each image that is kept in the own store in containerd as well: at `address`, or the usual one.

    One without a name is not: nothing would keep it there.
    """
    own = _KEYS["containerd"]
    more = []
    for export in exports:
        attrs = export.attrs
        if export.type not in ("image", "registry") or not attrs.get("name") or attrs.get("store") in _FALSE:
            continue
        shared = {key: value for key, value in attrs.items() if key in own or parse_key(key) is not None}
        more.append(Export("containerd", {**shared, "address": address} if address else shared))
    return (*exports, *more)


def _check_keys(export: Export) -> None:
    kind = export.type
    if kind not in _KEYS:
        guess = near(kind, list(_KEYS))
        raise UsageError(f"output type {kind!r} is not known", hint=guess or f"types are: {', '.join(_KEYS)}")
    for key in export.attrs:
        _check_key(kind, key)


def is_option(kind: str, key: str) -> bool:
    """Whether an output of the type `kind` has the option `key`; of one that does not exist, everything is."""
    if kind not in _KEYS or key in _KEYS[kind]:
        return True
    return kind in _ANNOTATED and (key in PASSED_OVER or parse_key(key) is not None)


def _check_key(kind: str, key: str) -> None:
    if is_option(kind, key):
        return
    names = ", ".join(_KEYS[kind])
    hint = near(key, _KEYS[kind]) or (f"type={kind} has: {names}" if names else f"type={kind} has no options")
    raise UsageError(f"type={kind} has no option {key!r}", hint=hint)


def near(word: str, known: tuple[str, ...] | list[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(word, known, n=1)
    return f"did you mean {found[0]}?" if found else ""


def image_options(export: Export) -> ImageOptions:
    """The options of `image` and `registry`; raises as `parse_output` does."""
    _check_keys(export)
    attrs, where = export.attrs, f"type={export.type}"
    options = ImageOptions(
        layers=_layers(attrs, where, inline=True),
        push=switch(attrs, "push", where, default=export.type == "registry"),
        push_by_digest=switch(attrs, "push-by-digest", where, default=False),
        insecure=switch(attrs, "registry.insecure", where, default=False),
        unpack=switch(attrs, "unpack", where, default=False),
        store=switch(attrs, "store", where, default=True),
        name_canonical=switch(attrs, "name-canonical", where, default=False),
        dangling_prefix=attrs.get("dangling-name-prefix", ""),
        dangling_empty_only=switch(attrs, "danging-name-empty-only", where, default=False),
        attest_store=attrs.get("attest-store", "") or ATTEST_STORES[0],
        attest_dest=attrs.get("attest-dest", ""),
    )
    if options.attest_store not in ATTEST_STORES:
        raise UsageError(
            f"{where}: attest-store={options.attest_store} is not known", hint=f"use one of: {', '.join(ATTEST_STORES)}"
        )
    if options.attest_dest and options.attest_store != "file":
        raise UsageError(f"{where}: attest-dest is a directory for attest-store=file")
    if options.unpack and options.layers.rewrite:
        raise UsageError(f"{where}: unpack and rewrite-timestamp exclude each other", hint="leave out unpack=true")
    if options.push_by_digest:
        for name in options.layers.names:
            if Reference.parse(name).tag:
                raise UsageError(
                    f"{where}: push-by-digest cannot push the tag of {name}",
                    hint="give the name without a tag, and set tags on the index later",
                )
    return options


def archive_options(export: Export) -> ArchiveOptions:
    """The options of `oci` and `docker`; raises as `parse_output` does."""
    _check_keys(export)
    kind, attrs, where = export.type, export.attrs, f"type={export.type}"
    tar = switch(attrs, "tar", where, default=True)
    dest = attrs.get("dest", "")
    if not dest and kind == "docker" and export.taker is None:
        raise UsageError(
            f"{where} needs dest=FILE", hint="without docker there is nothing to load into; type=image keeps it here"
        )
    if not tar and dest in ("", STDOUT) and export.taker is None:
        raise UsageError(f"{where},tar=false needs dest=DIRECTORY")
    if tar:
        _check_file(dest, where)
    return ArchiveOptions(_layers(attrs, where, inline=False), dest or STDOUT, tar)


def containerd_options(export: Export) -> ContainerdOptions:
    """The options of `containerd`; raises as `parse_output` does."""
    _check_keys(export)
    attrs, where = export.attrs, f"type={export.type}"
    return ContainerdOptions(
        _layers(attrs, where, inline=True),
        attrs.get("address", ""),
        attrs.get("namespace", ""),
        unpack=switch(attrs, "unpack", where, default=False),
        snapshotter=attrs.get("snapshotter", ""),
        pinned=switch(attrs, "pinned", where, default=False),
    )


def _check_file(dest: str, where: str) -> None:
    if dest not in ("", STDOUT) and os.path.isdir(dest):
        raise UsageError(f"{where}: dest={dest} is a directory", hint="name a file in it")


def tree_options(export: Export) -> TreeOptions:
    """The options of `local` and `tar`; raises as `parse_output` does."""
    _check_keys(export)
    kind, attrs, where = export.type, export.attrs, f"type={export.type}"
    dest = attrs.get("dest", "")
    switch(attrs, "rewrite-timestamp", where, default=False)
    if kind == "local":
        if dest in ("", STDOUT) and export.taker is None:
            raise UsageError(f"{where} needs dest=DIRECTORY")
        if export.taker is None and os.path.exists(dest) and not os.path.isdir(dest):
            raise UsageError(f"{where}: dest={dest} is a file", hint="name a directory, which may be new")
    else:
        _check_file(dest, where)
    split = switch(attrs, "platform-split", where, default=True) if "platform-split" in attrs else None
    prefix = attrs.get("attestation-prefix", "")
    if "/" in prefix:
        raise UsageError(f"{where}: attestation-prefix={prefix} has a slash", hint="it begins the names of files")
    return TreeOptions(dest or STDOUT, split, _epoch(attrs, where), deletes(export), prefix)


def deletes(export: Export) -> bool:
    """Whether an output removes what else is in its directory.

    Raises:
        UsageError: a mode that is not known.
    """
    mode = export.attrs.get("mode", "").strip().lower()
    if export.type == "local" and mode not in ("", "copy", "delete"):
        raise UsageError(f"type=local: mode={mode} is not known", hint="use copy or delete")
    return export.type == "local" and mode == "delete"


def _layers(attrs: Mapping[str, str], where: str, *, inline: bool) -> LayerOptions:
    oci = switch(attrs, "oci-mediatypes", where, default=True)
    artifact = switch(attrs, "oci-artifact", where, default=oci)
    compressed = compression(attrs, where)
    annotations = tuple((parsed, value) for key, value in attrs.items() if (parsed := parse_key(key)) is not None)
    if not oci:
        if compressed.kind == "estargz":
            raise UsageError(
                f"{where}: compression=estargz and oci-mediatypes=false exclude each other",
                hint="the layers' annotations need OCI's media types",
            )
        if artifact:
            raise UsageError(f"{where}: oci-artifact=true and oci-mediatypes=false exclude each other")
        if any(annotation.level != MANIFEST for annotation, _ in annotations):
            raise UsageError(
                f"{where}: Docker's media types have annotations on manifests only", hint="drop oci-mediatypes=false"
            )
    names = tuple(str(Reference.parse(name)) for name in attrs.get("name", "").split(",") if name)
    return LayerOptions(
        names,
        compressed,
        oci,
        _epoch(attrs, where),
        annotations,
        rewrite=switch(attrs, "rewrite-timestamp", where, default=False),
        squash=_squash(attrs, where),
        prefer_nondist=switch(attrs, "prefer-nondist-layers", where, default=False),
        artifact=artifact,
        inline=switch(attrs, "attestation-inline", where, default=inline),
    )


def _squash(attrs: Mapping[str, str], where: str) -> str:
    text = attrs.get("squash", "false")
    squash = {**dict.fromkeys(_FALSE, ""), **dict.fromkeys(_TRUE, "new"), "new": "new", "all": "all"}.get(text)
    if squash is None:
        raise UsageError(
            f"{where}: squash={text} is not known", hint="use new (the layers above the base image) or all"
        )
    return squash


def compression(attrs: Mapping[str, str], where: str) -> Compression:
    from knarr.layer.compress import Compression

    kind = attrs.get("compression", "") or "gzip"
    level: Any = attrs.get("compression-level", "")
    if level:
        try:
            level = int(level)
        except ValueError:
            raise UsageError(f"{where}: compression-level={level} is not a number") from None
    force = switch(attrs, "force-compression", where, default=False)
    try:
        return Compression(kind, None if level == "" else level, force)
    except KnarrError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from None


def _epoch(attrs: Mapping[str, str], where: str) -> int | None:
    text = attrs.get("source-date-epoch")
    if not text:
        return None if text is None else NO_EPOCH
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{where}: source-date-epoch={text} is not a number of seconds since 1970")
    return int(text)


def switch(attrs: Mapping[str, str], key: str, where: str, *, default: bool) -> bool:
    value = attrs.get(key)
    if value is None:
        return default
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"{where}: {key}={value} is neither true nor false")
