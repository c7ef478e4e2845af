"""`knarr imagetools inspect`: an image in a registry (or elsewhere), in buildx's words and shape."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import ContentError, NotFound

if TYPE_CHECKING:
    from knarr.cli.places import Place
    from knarr.gotemplate.render import Fields
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.manifest import Index, Manifest

FLAGS = (
    Flag(
        "format", Kind.TEXT, "TEMPLATE", "a Go template over .Name, .Manifest, .Image, .Provenance and .SBOM, or json"
    ),
    Flag("raw", Kind.SWITCH, "", "the exact bytes of the manifest or the index"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("builder", Kind.TEXT, "NAME", "taken and ignored: no builder is needed"),
    Flag("debug", Kind.SWITCH, "", "taken and ignored", short="D"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_WHOLE_MANIFEST = re.compile(r"\{\{\s*\.Manifest\s*\}\}")
_MAX_STATEMENT_BYTES = 40 << 20  # BuildKit's limit for a statement
_SPDX = "https://spdx.dev/Document"
_SLSA = "https://slsa.dev/provenance/"
_PREDICATES = ("in-toto.io/predicate-type", "predicateType", "dev.sigstore.bundle.predicateType")  # BuildKit, cosign
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def help_text() -> str:
    """What `knarr imagetools inspect --help` prints."""
    return (
        "Usage: knarr imagetools inspect [OPTIONS] NAME\n\n"
        "Show an image in a registry, a layout (oci:DIR:TAG) or an archive. In a template, json writes any\n"
        'part: --format "{{json .Provenance}}".\n\n'
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr imagetools inspect ARGUMENTS`.

    Raises:
        KnarrError: there is no such image, or the template is wrong.
    """
    from knarr.cli.places import named_image
    from knarr.image.spot import shown_name
    from knarr.image.successors import read_small
    from knarr.spec.manifest import MAX_MANIFEST_BYTES, decode

    given = parse(FLAGS, argv, command="knarr imagetools inspect")
    if given.switch("help"):
        print(help_text())
        return 0
    form = given.text("format")
    with named_image(given, "knarr imagetools inspect") as (where, place, root, _):
        raw = read_small(place, root, limit=MAX_MANIFEST_BYTES)
        if given.switch("raw"):
            sys.stdout.buffer.write(raw)
            return 0
        document = decode(raw, root.media_type)
        if not form or _WHOLE_MANIFEST.fullmatch(form.strip()):
            print(_text(shown_name(where), root, document))
            return 0
        # As buildx: what a template gives, and no line end that it does not have.
        sys.stdout.write(_formatted(form, where.text, place, root, document))
    return 0


def _text(name: str, root: Descriptor, document: Manifest | Index) -> str:
    from knarr.spec.manifest import Index

    lines = [f"Name:      {name}", f"MediaType: {root.media_type}", f"Digest:    {root.digest}"]
    if isinstance(document, Index):
        lines += [" " * 11, "Manifests: ", *_entries(name, document.manifests)]
    return "\n".join(lines)


def _entries(name: str, entries: Sequence[Descriptor]) -> list[str]:
    """The entries in one column, which begins anew behind annotations, as buildx's does."""
    lines: list[str] = []
    column: list[tuple[str, str]] = []

    def flush() -> None:
        width = max((len(title) for title, _ in column), default=0) + 1
        lines.extend(f"  {title:<{width}}{value}" for title, value in column)
        column.clear()

    for number, entry in enumerate(entries):
        if number:
            column.append(("", ""))
        column.extend(_rows(name, entry))
        if column[-1][0] == "Annotations:":
            flush()
            inner = max(map(len, entry.annotations)) + 2
            lines.extend(f"    {key + ':':<{inner}}{value}" for key, value in sorted(entry.annotations.items()))
    flush()
    return lines


def _rows(name: str, entry: Descriptor) -> list[tuple[str, str]]:
    rows = [("Name:", f"{name}@{entry.digest}"), ("MediaType:", entry.media_type)]
    platform = entry.platform
    if platform is None:
        return rows
    written = entry.to_json()["platform"]
    words = (platform.os, platform.architecture, written.get("variant", ""))
    rows.append(("Platform:", "/".join(filter(None, words))))
    if platform.os_version:
        rows.append(("OSVersion:", platform.os_version))
    if platform.os_features:
        rows.append(("OSFeatures:", ", ".join(platform.os_features)))
    if entry.urls:
        rows.append(("URLs:", ", ".join(entry.urls)))
    if entry.annotations:
        rows.append(("Annotations:", ""))
    return rows


def _formatted(form: str, name: str, place: Place, root: Descriptor, document: Manifest | Index) -> str:
    from knarr.gotemplate.functions import pretty
    from knarr.gotemplate.render import render

    wants_all = form == "json"
    data = _fields(name, place, root, document, attested=wants_all or ".Provenance" in form or ".SBOM" in form)
    if wants_all:
        return pretty({key.lower(): value for key, value in data.items() if value}) + "\n"
    return render(form, data, {"json": pretty})


def _fields(name: str, place: Place, root: Descriptor, document: Manifest | Index, *, attested: bool) -> Fields:
    from knarr.gotemplate.render import Fields
    from knarr.spec.manifest import Index

    if isinstance(document, Index):
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": document.media_type,
            "digest": str(root.digest),
            "size": root.size,
            "manifests": [entry.to_json() for entry in document.manifests],
        }
        if document.annotations:
            manifest["annotations"] = dict(document.annotations)
    else:
        manifest = root.to_json()
    images = _images(place, root, document)
    provenance: dict[str, Any] = {}
    sbom: dict[str, Any] = {}
    if attested:
        for platform, digest in ((platform, digest) for platform, (digest, _) in images.items()):
            provenance[platform], sbom[platform] = statements(place, document, digest)
    configs = {platform: config for platform, (_, config) in images.items()}
    # As buildx: by platform when there are several, bare for one.
    several = len(images) > 1

    def shape(values: dict[str, Any]) -> Any:
        filled = {key: value for key, value in values.items() if value}
        return filled if several else next(iter(filled.values()), {})

    return Fields(Name=name, Manifest=manifest, Image=shape(configs), Provenance=shape(provenance), SBOM=shape(sbom))


def _images(place: Place, root: Descriptor, document: Manifest | Index) -> dict[str, tuple[str, Any]]:
    """Platform → digest of its manifest, and its config."""
    from knarr.image.select import images_of
    from knarr.image.successors import MAX_CONFIG_BYTES, read_document, read_small
    from knarr.spec.manifest import Index, Manifest
    from knarr.spec.platform import Platform

    found: dict[str, tuple[str, Any]] = {}
    entries = images_of(document) if isinstance(document, Index) else (root,)
    for entry in entries:
        manifest = document if entry is root else read_document(place, entry)
        if not isinstance(manifest, Manifest):
            continue
        config = json.loads(read_small(place, manifest.config, limit=MAX_CONFIG_BYTES) or b"{}")
        if not isinstance(config, dict):
            continue
        platform = entry.platform or (Platform.from_json(config) if config.get("os") else None)
        found[str(platform) if platform else str(entry.digest)] = (str(entry.digest), config)
    return found


def statements(place: Place, document: Manifest | Index, digest: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The provenance and the SBOM of one image, from attestations in the index or among its referrers."""
    provenance: dict[str, Any] = {}
    sbom: dict[str, Any] = {}
    for layer in _statement_layers(place, document, digest):
        kind = next((layer.annotations[key] for key in _PREDICATES if key in layer.annotations), "")
        if kind.startswith(_SLSA):
            provenance.setdefault("SLSA", _predicate(place, layer))
        elif kind == _SPDX and "SPDX" not in sbom:
            sbom["SPDX"] = _predicate(place, layer)
        elif kind == _SPDX:
            sbom.setdefault("AdditionalSPDXs", []).append(_predicate(place, layer))
    return provenance, sbom


def _statement_layers(place: Place, document: Manifest | Index, digest: str) -> Sequence[Descriptor]:
    from knarr.image.combine import attestations_of
    from knarr.image.reshape import ATTESTATION_TYPE
    from knarr.image.successors import read_document
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest
    from knarr.spec.manifest import Index, Manifest
    from knarr.spec.referrers import fallback_tag

    entries = list(attestations_of(document).get(digest, ())) if isinstance(document, Index) else []
    if not entries:
        about = Descriptor("", Digest.parse(digest), 0)
        entries = [one for kind in (ATTESTATION_TYPE, _BUNDLE) for one in place.predecessors(about, kind)]
    if not entries:
        with suppress(NotFound):
            entries = [place.resolve(f"{fallback_tag(Digest.parse(digest))}.att")]
    found: list[Descriptor] = []
    for entry in entries:
        manifest = read_document(place, entry)
        if isinstance(manifest, Manifest):
            # Of a bundle the manifest says what it is about, of the others each layer.
            found += [
                layer.with_annotations({**manifest.annotations, **layer.annotations}) for layer in manifest.layers
            ]
    return found


def _predicate(place: Place, layer: Descriptor) -> Any:
    from knarr.image.successors import read_small

    raw = read_small(place, layer, limit=_MAX_STATEMENT_BYTES)
    try:
        data = json.loads(raw)
        data = data.get("dsseEnvelope", data)
        if "payload" in data:  # what is signed is read here as it stands; `knarr verify` judges signatures
            data = json.loads(base64.b64decode(data["payload"]))
        return data["predicate"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ContentError(f"attestation {layer.digest} is not an in-toto statement") from error
