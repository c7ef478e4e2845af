"""`knarr repro`: build an image again as its provenance says, and compare what comes of it file by file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.errors import NotFound, UsageError
from knarr.record import replace

if TYPE_CHECKING:
    from knarr.cli.places import Place
    from knarr.cli.reproplan import Plan
    from knarr.content.target import Fetcher
    from knarr.spec.descriptor import Descriptor

_FORWARDED = ("build-arg", "label", "build-context", "secret", "ssh", "allow")
FLAGS = (
    Flag("build-arg", Kind.LIST, "NAME[=VALUE]", "a build argument that the provenance does not tell (mode=min)"),
    Flag("label", Kind.LIST, "KEY=VALUE", "a label that the provenance does not tell"),
    Flag("build-context", Kind.LIST, "NAME=WHERE", "a context that was lent to the build"),
    Flag("secret", Kind.LIST, "id=ID[,src=FILE]", "a secret that was lent to the build"),
    Flag("ssh", Kind.LIST, "ID[=SOCKET|KEY,…]", "an agent that was lent to the build"),
    Flag("allow", Kind.LIST, "RIGHT", "what a step may do"),
    Flag("platform", Kind.LIST, "OS/ARCH", "only these platforms"),
    Flag("times", Kind.SWITCH, "", "times of files count as well"),
    Flag("format", Kind.TEXT, "FORM", "json: the result as JSON"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr repro --help` prints."""
    return (
        "Usage: knarr repro [OPTIONS] IMAGE [CONTEXT]\n\n"
        "Build IMAGE again as its provenance says (base images by their digests, a remote context at its\n"
        "commit, the Dockerfile as it was told) and report which files differ. CONTEXT is the directory that\n"
        "was built from, where it was one. The status is 0 when nothing differs, and 1 when something does.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr repro ARGUMENTS`.

    Raises:
        NotFound: no such image, or it has no provenance.
        UsageError: the context is needed and not given.
        KnarrError: the image cannot be built.
    """
    given = parse(FLAGS, argv, command="knarr repro")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) not in (1, 2) or given.text("format") not in ("", "json"):
        raise UsageError("knarr repro takes an image and the directory it was built from", hint="see --help")
    from knarr.cli.places import named_image

    context = given.words[1] if len(given.words) == 2 else ""
    with named_image(replace(given, words=given.words[:1]), "knarr repro") as (name, place, root, _):
        images = _images(place, root, given.list("platform"), str(name))
        found = _compared(place, images, context, given)
    same = all(not one["files"] and not one["config"] for one in found.values())
    if given.text("format") == "json":
        print(json.dumps({"same": same, "platforms": found}, indent=2))
    else:
        for platform, one in found.items():
            sys.stdout.write(_text(platform, one))
    return 0 if same else 1


def _images(
    place: Place, root: Descriptor, wanted: Sequence[str], name: str
) -> dict[str, tuple[Descriptor, Mapping[str, Any]]]:
    """Platform → its manifest, and the predicate of its provenance."""
    from knarr.cli.imagetoolsinspect import statements
    from knarr.image.select import images_of
    from knarr.image.successors import read_config, read_document
    from knarr.spec.manifest import Index, Manifest
    from knarr.spec.platform import Platform

    document = read_document(place, root)
    only = {str(Platform.parse(text)) for field in wanted for text in field.split(",") if text}
    found: dict[str, tuple[Descriptor, Mapping[str, Any]]] = {}
    for entry in images_of(document) if isinstance(document, Index) else (root,):
        manifest = document if entry is root else read_document(place, entry)
        if not isinstance(manifest, Manifest):
            continue
        platform = str(entry.platform or read_config(place, manifest).platform)
        if only and platform not in only:
            continue
        provenance, _ = statements(place, document, str(entry.digest))
        if "SLSA" not in provenance:
            raise NotFound(f"{name} has no provenance for {platform}", hint="build it with --provenance=mode=max")
        found[platform] = (entry, provenance["SLSA"])
    if not found:
        raise NotFound(f"{name} has no image for {', '.join(sorted(only))}")
    return found


def _compared(
    place: Place, images: Mapping[str, tuple[Descriptor, Mapping[str, Any]]], context: str, given: Parsed
) -> dict[str, dict[str, Any]]:
    from knarr.cli.reproplan import plan
    from knarr.image.layout import Layout
    from knarr.image.successors import read_document
    from knarr.spec.manifest import Index

    first = plan(next(iter(images.values()))[1])
    for note in first.notes:
        print(f"note: {note}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="knarr-repro-") as work:
        _build(first, list(images), context, given, Path(work))
        layout = Layout(Path(work) / "image")
        root = layout.entries()[0]
        document = read_document(layout, root.bare())
        made = document.manifests if isinstance(document, Index) else (root,)
        rebuilt = {str(entry.platform): entry for entry in made}
        return {
            platform: _one(place, entry, layout, rebuilt[platform] if len(made) > 1 else made[0], given)
            for platform, (entry, _) in images.items()
        }


def _build(planned: Plan, platforms: Sequence[str], context: str, given: Parsed, work: Path) -> None:
    from knarr.cli.buildjob import build
    from knarr.cli.buildoptions import parse_options

    where = context or planned.context
    if not where and planned.needs_context:
        raise UsageError("the image was built from a directory", hint="name it: knarr repro IMAGE DIRECTORY")
    if not where:
        where = os.fspath(work / "empty")
        os.mkdir(where)
    words = [*planned.words, "--provenance=false", "--platform", ",".join(platforms)]
    for flag in _FORWARDED:
        for value in given.list(flag):
            words += [f"--{flag}", value]
    if planned.dockerfile is not None:
        file = work / "dockerfile" / os.path.basename(planned.filename)
        file.parent.mkdir()
        file.write_bytes(planned.dockerfile)
        words += ["--file", os.fspath(file)]
    elif context:
        words += ["--file", os.path.join(context, planned.filename)]
    else:
        words += ["--file", planned.filename]
    words += ["--output", f"type=oci,tar=false,dest={work}/image", where]
    build(parse_options(words, os.environ, os.getcwd()), words)


def _one(place: Fetcher, entry: Descriptor, other: Fetcher, rebuilt: Descriptor, given: Parsed) -> dict[str, Any]:
    """What differs between two images of one platform."""
    from knarr.cli.reprofiles import config_differences, differences, files
    from knarr.image.successors import MAX_CONFIG_BYTES, read_document, read_small
    from knarr.spec.manifest import Manifest

    found: dict[str, Any] = {"image": str(entry.digest), "rebuilt": str(rebuilt.digest), "config": [], "files": []}
    if entry.digest == rebuilt.digest:
        return found
    sides: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for where, descriptor in ((place, entry), (other, rebuilt)):
        manifest = read_document(where, descriptor.bare())
        if not isinstance(manifest, Manifest):
            raise NotFound(f"{descriptor.digest} is no image")
        config = json.loads(read_small(where, manifest.config, limit=MAX_CONFIG_BYTES))
        sides.append((config, dict(files(where, manifest))))
    (one_config, one), (other_config, another) = sides
    found["config"] = list(config_differences(one_config, other_config))
    found["files"] = [
        {"path": diff.path, "what": diff.what} for diff in differences(one, another, times=given.switch("times"))
    ]
    return found


def _text(platform: str, found: Mapping[str, Any]) -> str:
    lines = [platform]
    if found["image"] == found["rebuilt"]:
        lines.append(f"  the same, bit for bit: {found['image']}")
    elif not found["files"] and not found["config"]:
        lines.append(f"  the same files and settings; {found['rebuilt']} differs from {found['image']} in times only")
    else:
        lines += [f"  {key} differs" for key in found["config"]]
        width = max((len(one["what"]) for one in found["files"]), default=0)
        lines += [f"  {one['what']:<{width}}  /{one['path']}" for one in found["files"]]
    return "\n".join(lines) + "\n"
