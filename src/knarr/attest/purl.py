"""Package URLs of images, as BuildKit writes them: `pkg:docker/registry.example/app@1?platform=linux%2Famd64`.

Spec: purl-spec 1.0; BuildKit's util/purl and packageurl-go, whose escaping this is.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

from knarr.errors import ContentError, UsageError
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import DEFAULT_REGISTRY, Reference

DOCKER, OCI = "docker", "oci"
_PATH_SEGMENT = "$&+:=@"  # what Go's url.PathEscape leaves beside letters, digits and -_.~


def of_image(
    reference: Reference,
    platform: Platform | None = None,
    *,
    kind: str = DOCKER,
    qualifiers: Sequence[tuple[str, str]] = (),
) -> str:
    """The package URL of an image; `kind` is `oci` for one that comes from a layout."""
    *space, name = reference.repository.split("/")
    if reference.registry != DEFAULT_REGISTRY:
        space.insert(0, reference.registry)
    elif space == ["library"]:
        space = []
    version = reference.tag or ("" if reference.digest else "latest")
    said = [("digest", str(reference.digest))] if reference.digest else []
    if platform is not None:
        said.append(("platform", str(platform)))
    said += qualifiers
    path = "/".join(quote(part, safe="") for part in (*space, name))
    text = f"pkg:{kind}/{path}" + (f"@{quote(version, safe=_PATH_SEGMENT)}" if version else "")
    return text + ("?" + "&".join(f"{key}={quote(value, safe=_PATH_SEGMENT)}" for key, value in said) if said else "")


def image_of(text: str) -> tuple[Reference, Platform | None]:
    """The image that a package URL names, and its platform if it names one.

    Raises:
        ContentError: it names none.
    """
    rest, _, query = text.partition("?")
    path = rest.removeprefix(f"pkg:{DOCKER}/")
    if path == rest:
        raise ContentError(f"{text!r} is not the package URL of an image")
    said = dict(part.partition("=")[::2] for part in query.split("&") if part)
    name, _, version = path.partition("@")
    try:
        reference = Reference.parse(unquote(name))
        tag = unquote(version)
        if tag:
            reference = Reference.parse(f"{reference}{'@' if tag.startswith('sha256:') else ':'}{tag}")
        if "digest" in said:
            reference = reference.at(Digest.parse(unquote(said["digest"])))
        platform = Platform.parse(unquote(said["platform"])) if said.get("platform") else None
    except (UsageError, ContentError) as error:
        raise ContentError(f"{text!r} is not the package URL of an image: {error.message}") from error
    return reference, platform
