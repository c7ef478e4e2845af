"""`knarr inspect`: an image's index, manifests and configs, or a container, as JSON."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.transfer import words_of
from knarr.errors import KnarrError, NotFound, UsageError
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.content.names import Name
    from knarr.content.store import Store

FLAGS = (
    Flag("platform", Kind.TEXT, "PLATFORM", "only the image for this platform"),
    Flag("raw", Kind.SWITCH, "", "the exact bytes of the index or the manifest"),
    Flag("config", Kind.SWITCH, "", "the exact bytes of the config"),
    Flag("format", Kind.TEXT, "FORM", "json (everything on one line), or a Go template", short="f"),
    Flag("type", Kind.TEXT, "KIND", "image or container (default: the image of that name, or else the container)"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr inspect --help` prints."""
    return (
        "Usage: knarr inspect [OPTIONS] IMAGE|CONTAINER...\n\n"
        f"Show an image's manifest and configuration, or a container, as JSON.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr inspect ARGUMENTS`."""
    from knarr.cli.state import open_parts
    from knarr.content.names import Name

    given = parse(FLAGS, argv, command="knarr inspect")
    if given.switch("help"):
        print(help_text())
        return 0
    if given.text("type") not in ("", "image", "container"):
        raise UsageError(f"--type {given.text('type')}: not known", hint="use image or container")
    platform = Platform.parse(given.text("platform")) if given.text("platform") else None
    with open_parts(os.environ) as parts:
        words = words_of(given, "knarr inspect", "an image or a container")
        named = [_named(parts.store, word, given.text("type")) for word in words]
        if given.switch("raw") or given.switch("config"):
            for name in named:
                if not isinstance(name, Name):
                    raise UsageError("--raw and --config are for images")
                sys.stdout.buffer.write(_bytes(parts.store, name, platform, given))
            return 0
        found = [described(parts.store, name, platform) if isinstance(name, Name) else name for name in named]
    import json

    form = given.text("format")
    if form in ("", "json"):
        print(json.dumps(found, indent=None if form else 4, ensure_ascii=False))
        return 0
    from knarr.gotemplate.functions import pretty
    from knarr.gotemplate.render import render

    for one in found:
        print(render(form, one, {"json": pretty}))
    return 0


def _named(store: Store, word: str, kind: str) -> Name | dict[str, Any]:
    """The image that `word` names, or a container, told already."""
    from knarr.image.stored import lookup

    if kind != "container":
        try:
            return lookup(store, word)
        except KnarrError as error:
            if kind == "image":
                raise
            image_failure = error
    from knarr.cli.containerplace import opened
    from knarr.cli.inspectcontainer import described as described_container

    containers = opened()
    try:
        return described_container(containers, containers.find(word))
    except NotFound:
        if kind == "container":
            raise
        raise image_failure from None


def _bytes(store: Store, name: Name, platform: Platform | None, given: Parsed) -> bytes:
    from knarr.image.stored import one_image

    if given.switch("config"):
        return store.read(one_image(store, name, platform).manifest.config)
    if platform is not None:
        return one_image(store, name, platform).manifest.raw
    return store.read(name.descriptor)


def described(store: Store, name: Name, platform: Platform | None) -> dict[str, Any]:
    """Everything there is to tell about one name."""
    import json

    from knarr.image.stored import images_here, one_image
    from knarr.image.successors import read_document
    from knarr.spec.manifest import Index

    document = read_document(store, name.descriptor)
    images = [one_image(store, name, platform)] if platform else list(images_here(store, name.descriptor))
    data: dict[str, Any] = {
        "Name": name.name,
        "Digest": str(name.descriptor.digest),
        "MediaType": document.media_type,
    }
    if isinstance(document, Index):
        data["Index"] = json.loads(document.raw)
    data["Images"] = [
        {
            "Platform": str(image.platform),
            "Digest": str(image.descriptor.digest),
            "Size": image.size_bytes,
            "Manifest": json.loads(image.manifest.raw),
            "Config": json.loads(store.read(image.manifest.config)),
        }
        for image in images
    ]
    return data
