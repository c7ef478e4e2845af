"""`knarr inspect`: an image's index, manifests and configs as JSON."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.transfer import words_of
from knarr.errors import UsageError
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.content.names import Name
    from knarr.content.store import Store

FLAGS = (
    Flag("platform", Kind.TEXT, "PLATFORM", "only the image for this platform"),
    Flag("raw", Kind.SWITCH, "", "the exact bytes of the index or the manifest"),
    Flag("config", Kind.SWITCH, "", "the exact bytes of the config"),
    Flag("format", Kind.TEXT, "FORM", "json: everything on one line"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr inspect --help` prints."""
    return (
        "Usage: knarr inspect [OPTIONS] IMAGE...\n\n"
        f"Show an image's manifest and configuration as JSON.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr inspect ARGUMENTS`."""
    from knarr.cli.state import open_parts
    from knarr.image.stored import lookup

    given = parse(FLAGS, argv, command="knarr inspect")
    if given.switch("help"):
        print(help_text())
        return 0
    if given.text("format") not in ("", "json"):
        raise UsageError(f"--format {given.text('format')}: not known", hint="use json")
    platform = Platform.parse(given.text("platform")) if given.text("platform") else None
    with open_parts(os.environ) as parts:
        names = [lookup(parts.store, word) for word in words_of(given, "knarr inspect", "an image")]
        if given.switch("raw") or given.switch("config"):
            for name in names:
                sys.stdout.buffer.write(_bytes(parts.store, name, platform, given))
            return 0
        found = [described(parts.store, name, platform) for name in names]
    import json

    print(json.dumps(found, indent=None if given.text("format") else 4, ensure_ascii=False))
    return 0


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
