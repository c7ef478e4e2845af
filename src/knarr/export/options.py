"""`--output`: `type=…,key=value` as buildx reads it, and the options that exporters share."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from knarr.builder import Export
from knarr.errors import Unsupported, UsageError
from knarr.layer.compress import KINDS, Compression
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

_IMAGE = frozenset(
    (
        *("name", "push", "push-by-digest", "registry.insecure", "unpack", "store", "name-canonical"),
        *("dangling-name-prefix", "dangling-name-empty-only", "danging-name-empty-only"),
    )
)
_SHARED = frozenset(
    (
        *("compression", "compression-level", "force-compression", "oci-mediatypes", "source-date-epoch"),
        *("rewrite-timestamp", "oci-artifact", "attestation-inline", "prefer-nondist-layers", "attestation-prefix"),
    )
)
KNOWN: Mapping[str, frozenset[str]] = {
    "image": _IMAGE | _SHARED,
    "registry": _IMAGE | _SHARED,
    "oci": frozenset(("dest", "tar", "name", "annotation")) | _SHARED,
    "docker": frozenset(("dest", "tar", "name", "context")) | _SHARED,
    "local": frozenset(("dest", "platform-split", "mode", "attestation-prefix", "source-date-epoch")),
    "tar": frozenset(("dest", "platform-split", "attestation-prefix", "source-date-epoch")),
    "cacheonly": frozenset(),
}
_ANNOTATION = re.compile(
    r"annotation(?:-(manifest|index|manifest-descriptor|index-descriptor))?(?:\[([^\]]+)\])?\.(.+)", re.DOTALL
)
_GZIP = Compression()
_NOT_BUILT = {
    "rewrite-timestamp": "set SOURCE_DATE_EPOCH for the config and the history; file times are kept",
    "prefer-nondist-layers": "foreign layers become ordinary ones",
}


def parse_output(text: str) -> Export:
    """One `--output`: `type=TYPE,k=v,…`, a bare path (type local), or `-` (a tar on standard output).

    Raises:
        UsageError: malformed, an unknown type or option, a missing dest.
    """
    try:
        fields = next(csv.reader([text], strict=True))
    except (csv.Error, StopIteration):
        raise UsageError(f"--output {text!r}: not a list of key=value", hint="example: type=oci,dest=out.tar") from None
    if len(fields) == 1 and not fields[0].startswith("type="):
        return Export("tar" if text == "-" else "local", {"dest": text})
    attrs: dict[str, str] = {}
    for item in fields:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--output {text!r}: {item!r} is not key=value", hint="example: type=oci,dest=out.tar")
        attrs[key.strip().lower() if not key.startswith("annotation") else key] = value
    kind = attrs.pop("type", "")
    if kind not in KNOWN:
        raise UsageError(f"--output: {kind or 'no type given'}", hint="types are " + ", ".join(KNOWN))
    check(kind, attrs)
    if kind in ("local", "tar") and not attrs.get("dest"):
        raise UsageError(f"--output type={kind} needs dest=", hint=f"example: type={kind},dest=out")
    return Export(kind, attrs)


def check(kind: str, attrs: Mapping[str, str]) -> None:
    """Refuse what the exporter does not know or cannot do, by name.

    Raises:
        UsageError, Unsupported
    """
    for key, value in attrs.items():
        if key in _NOT_BUILT and is_true(key, value):
            raise Unsupported(f"--output: {key} is not supported yet", hint=_NOT_BUILT[key])
        if key in KNOWN[kind] or (_ANNOTATION.fullmatch(key) and kind not in ("local", "tar", "cacheonly")):
            continue
        import difflib

        near = difflib.get_close_matches(key, KNOWN[kind], 1)
        hint = f"did you mean {near[0]}?" if near else "options are " + ", ".join(sorted(KNOWN[kind]))
        raise UsageError(f"--output type={kind}: unknown option {key!r}", hint=hint)


def is_true(key: str, value: str) -> bool:
    """A boolean option as Go's strconv.ParseBool reads it; an empty value is true.

    Raises:
        UsageError: neither.
    """
    if value in ("", "1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise UsageError(f"--output: {key}={value}: not a boolean", hint="use true or false")


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation, where it goes, and for which platform (None: all)."""

    key: str
    value: str
    level: str = "manifest"  # manifest, index, manifest-descriptor, index-descriptor
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """The options of image-like exporters, read."""

    names: tuple[Reference, ...] = ()
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    store: bool = True
    unpack: bool = False
    oci: bool = True
    compression: Compression = _GZIP
    annotations: tuple[Annotation, ...] = ()
    dest: str = ""
    tar: bool = True
    epoch: int | None = None
    dangling_prefix: str = ""
    platform_split: bool | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)


def image_options(export: Export) -> ImageOptions:
    """The options of `export`.

    Raises:
        UsageError: a value that cannot be meant.
    """
    attrs = export.attrs

    def flag(key: str, default: bool) -> bool:
        return is_true(key, attrs[key]) if key in attrs else default

    names = tuple(_name(text) for text in attrs.get("name", "").split(",") if text)
    by_digest = flag("push-by-digest", False)
    if by_digest:
        for name in names:
            if name.tag != "latest" or name.digest:
                raise UsageError(f"push-by-digest: {name.familiar} has a tag", hint="give the repository without a tag")
    kind = attrs.get("compression", "gzip")
    if kind == "estargz":
        raise Unsupported("compression=estargz is not supported yet", hint="use gzip, zstd or uncompressed")
    if kind not in KINDS:
        raise UsageError(f"compression={kind}: not known", hint="use " + ", ".join(KINDS))
    oci = flag("oci-mediatypes", True)
    if kind == "zstd" and not oci:
        raise UsageError("compression=zstd needs OCI media types", hint="leave out oci-mediatypes=false")
    return ImageOptions(
        names=names,
        push=flag("push", export.type == "registry"),
        push_by_digest=by_digest,
        insecure=flag("registry.insecure", False),
        store=flag("store", True),
        unpack=flag("unpack", False),
        oci=oci,
        compression=Compression(kind, _number(attrs, "compression-level"), flag("force-compression", False)),
        annotations=tuple(_annotations(attrs)),
        dest=attrs.get("dest", ""),
        tar=flag("tar", True),
        epoch=_number(attrs, "source-date-epoch"),
        dangling_prefix=attrs.get("dangling-name-prefix", ""),
        platform_split=is_true("platform-split", attrs["platform-split"]) if "platform-split" in attrs else None,
    )


def _name(text: str) -> Reference:
    return Reference.parse(text.strip()).tagged()


def _number(attrs: Mapping[str, str], key: str) -> int | None:
    text = attrs.get(key, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--output: {key}={text}: not a number") from None


def _annotations(attrs: Mapping[str, str]) -> list[Annotation]:
    found = []
    for key, value in attrs.items():
        match = _ANNOTATION.fullmatch(key)
        if match:
            level, platform, name = match.groups()
            found.append(Annotation(name, value, level or "manifest", Platform.parse(platform) if platform else None))
    return found
