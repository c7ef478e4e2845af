"""`knarr manifest`: the manifest or the index behind a name, or the digest of it."""

from __future__ import annotations

import json
import sys

from knarr.cli.flags import Flag, Kind, parse, usage

FLAGS = (
    Flag("platform", Kind.TEXT, "PLATFORM", "of an index, the manifest for this platform"),
    Flag("raw", Kind.SWITCH, "", "the exact bytes"),
    Flag("config", Kind.SWITCH, "", "the exact bytes of the config (of this machine's platform, if there are several)"),
    Flag("digest", Kind.SWITCH, "", "only the digest, without reading the manifest where that is not needed"),
    Flag("format", Kind.TEXT, "TEMPLATE", "a Go template over the document; .Digest, .Size and .MediaType are added"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr manifest --help` prints."""
    return (
        "Usage: knarr manifest [OPTIONS] NAME\n\n"
        "Show the manifest or the index behind a name in a registry, a layout (oci:DIR:TAG) or an archive.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr manifest ARGUMENTS`.

    Raises:
        KnarrError: there is no such image, or the template is wrong.
    """
    from knarr.cli.places import named_image
    from knarr.image.select import manifest_for
    from knarr.image.successors import MAX_CONFIG_BYTES, read_small
    from knarr.spec.manifest import MAX_MANIFEST_BYTES
    from knarr.spec.platform import Platform, host_platform

    given = parse(FLAGS, argv, command="knarr manifest")
    if given.switch("help"):
        print(help_text())
        return 0
    platform = Platform.parse(given.text("platform")) if given.text("platform") else None
    with named_image(given, "knarr manifest") as (_, place, found, _scope):
        if given.switch("config"):
            _, manifest = manifest_for(place, found, platform or host_platform())
            sys.stdout.buffer.write(read_small(place, manifest.config, limit=MAX_CONFIG_BYTES))
            return 0
        if platform is not None:
            found, _ = manifest_for(place, found, platform)
        if given.switch("digest"):
            print(found.digest)
            return 0
        raw = read_small(place, found, limit=MAX_MANIFEST_BYTES)
    if given.switch("raw"):
        sys.stdout.buffer.write(raw)
        return 0
    data = json.loads(raw)
    form = given.text("format")
    if form in ("", "json"):
        print(json.dumps(data, indent=None if form else 2, ensure_ascii=False))
        return 0
    from knarr.gotemplate.render import render

    own = {"Digest": str(found.digest), "Size": found.size, "MediaType": found.media_type}
    print(render(form, {**own, **data}))
    return 0
