"""`knarr images`: list the images in the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.table import ago, rows
from knarr.errors import UsageError
from knarr.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.content.names import Name
    from knarr.image.stored import Holder

FLAGS = (
    Flag("quiet", Kind.SWITCH, "", "print only IDs", short="q"),
    Flag("digests", Kind.SWITCH, "", "show digests"),
    Flag("no-trunc", Kind.SWITCH, "", "show whole IDs"),
    Flag("all", Kind.SWITCH, "", "nameless images, lists of referrers and digest tags, too", short="a"),
    Flag("filter", Kind.LIST, "KEY=VALUE", "reference=PATTERN or dangling=true|false", short="f"),
    Flag("format", Kind.TEXT, "FORM", "table (the default) or json: one object a line"),
    Flag("in", Kind.TEXT, "PLACE", "containerd://[NAMESPACE]: those of a containerd instead of knarr's own store"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_NAMELESS = "<none>"


@record
class Line:
    """One name as it is shown. `platforms`: those that are here, of all that there are."""

    name: str
    digest: str
    created: str
    platforms: tuple[str, ...]
    size_bytes: int

    @property
    def repository(self) -> str:
        return self._parts()[0]

    @property
    def tag(self) -> str:
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        from knarr.spec.reference import Reference

        if self.name.startswith(_NAMELESS):
            return _NAMELESS, _NAMELESS
        reference = Reference.parse(self.name)
        familiar = Reference(reference.registry, reference.repository).familiar
        return familiar, reference.tag or _NAMELESS


def help_text() -> str:
    """What `knarr images --help` prints."""
    return (
        f"Usage: knarr images [OPTIONS] [REPOSITORY[:TAG]]\n\nList the images in the store.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr images ARGUMENTS`."""
    from knarr.cli.state import open_parts

    given = parse(FLAGS, argv, command="knarr images")
    if given.switch("help"):
        print(help_text())
        return 0
    form = given.text("format", "table")
    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: not known", hint="use table or json")
    if given.text("in"):
        lines = _in_containerd(given)
    else:
        with open_parts(os.environ) as parts:
            names = [name for name in parts.store.names.list() if _is_wanted(name.name, given)]
            lines = [line_of(parts.store, name) for name in names]
    for text in _texts(lines, given, form):
        print(text)
    return 0


def _in_containerd(given: Parsed) -> list[Line]:
    """The images of a namespace. Names without a tag are left out: CRI has each image by its ID and its digest, too."""
    from knarr.cli.containerdplace import dialled, namespace_of
    from knarr.cli.transfer import quiet_transfer
    from knarr.containerd.content import Content
    from knarr.containerd.images import Images
    from knarr.content.names import Name

    with (
        quiet_transfer() as world,
        dialled(world, namespace_of(given.text("in"), "--in"), make=False, hold=False) as daemon,
    ):
        content = Content(daemon)
        names = [Name(image.name, image.target, image.updated_ns) for image in Images(daemon).list()]
        return [line_of(content, name) for name in names if _is_reference(name.name) and _is_wanted(name.name, given)]


def _is_reference(name: str) -> bool:
    from knarr.errors import KnarrError
    from knarr.spec.reference import Reference

    try:
        return bool(Reference.parse(name).tag)
    except KnarrError:
        return False


def _is_wanted(name: str, given: Parsed) -> bool:
    from fnmatch import fnmatchcase

    from knarr.spec.reference import Reference
    from knarr.spec.referrers import is_digest_tag, is_fallback_tag

    nameless = name.startswith(_NAMELESS)
    patterns = list(given.words)
    dangling = ""
    for text in given.list("filter"):
        key, _, value = text.partition("=")
        if key == "reference":
            patterns.append(value)
        elif key == "dangling" and value in ("true", "false"):
            dangling = value
        else:
            raise UsageError(f"--filter {text}: not known", hint="use reference=PATTERN or dangling=true|false")
    if dangling:
        return nameless == (dangling == "true")
    if nameless:
        return given.switch("all") and not patterns
    reference = Reference.parse(name)
    if not given.switch("all") and (is_fallback_tag(reference.tag) or is_digest_tag(reference.tag)):
        return False
    bare = Reference(reference.registry, reference.repository)
    forms = (name, reference.familiar, str(bare), bare.familiar)
    return not patterns or any(fnmatchcase(form, pattern) for form in forms for pattern in patterns)


def line_of(store: Holder, name: Name) -> Line:
    """What `name` leads to, in short."""
    from knarr.image.stored import images_here

    here = list(images_here(store, name.descriptor))
    blobs = {
        blob.digest: blob.size
        for image in here
        for blob in (image.descriptor, *image.manifest.successors)
        if store.has(blob)
    }
    created = next((image.config.created for image in here if image.config.created), "") or ""
    shown = tuple(str(image.platform) for image in here)
    return Line(name.name, str(name.descriptor.digest), created, shown, sum(blobs.values()))


def _texts(lines: Sequence[Line], given: Parsed, form: str) -> list[str]:
    short = not given.switch("no-trunc")
    if given.switch("quiet"):
        return list(dict.fromkeys(_id(line, short) for line in lines))
    if form == "json":
        return [_json(line, short) for line in lines]
    from knarr.cli.progress.figures import size

    head = ["REPOSITORY", "TAG", *(["DIGEST"] if given.switch("digests") else []), "IMAGE ID", "CREATED"]
    table = [[*head, "PLATFORMS", "SIZE"]]
    for line in lines:
        digest = [line.digest] if given.switch("digests") else []
        shown = ", ".join(line.platforms) or "-"
        row = [line.repository, line.tag, *digest, _id(line, short), ago(line.created), shown, size(line.size_bytes)]
        table.append(row)
    return rows(table)


def _id(line: Line, short: bool) -> str:
    return line.digest.partition(":")[2][:12] if short else line.digest


def _json(line: Line, short: bool) -> str:
    import json

    data: dict[str, Any] = {
        "Repository": line.repository,
        "Tag": line.tag,
        "ID": _id(line, short),
        "Digest": line.digest,
        "CreatedAt": line.created,
        "Platforms": list(line.platforms),
        "Size": line.size_bytes,
    }
    return json.dumps(data)
