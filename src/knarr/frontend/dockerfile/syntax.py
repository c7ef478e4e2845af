"""Which frontend a Dockerfile asks for: `# syntax=` in the file, or the build argument BUILDKIT_SYNTAX before it.

The names of the standard Dockerfile frontend mean the one that is built in, so that
no image is pulled for it. Another frontend would read the file by other rules: it is
refused by name, never replaced silently.
"""

from __future__ import annotations

from knarr.errors import Excerpt, KnarrError, Span, Unsupported
from knarr.frontend.dockerfile.directives import detect_syntax
from knarr.frontend.request import FrontendRequest
from knarr.spec.reference import Reference

BUILT_IN = "dockerfile.v0"
_STANDARD = ("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream")


def require_standard(request: FrontendRequest) -> None:
    """Make sure that the built-in frontend is the one that is asked for.

    Raises:
        Unsupported: it is another one.
    """
    forced = request.build_args.get("BUILDKIT_SYNTAX", "")
    wanted = (forced or detect_syntax(request.dockerfile)).split()
    if not wanted or is_standard(wanted[0]):
        return
    hint = f"--build-arg BUILDKIT_SYNTAX={BUILT_IN} reads the file with the Dockerfile frontend that is built in"
    if forced:
        raise Unsupported(f"BUILDKIT_SYNTAX={forced}: frontend images are not supported yet", hint=hint)
    lines = request.dockerfile.decode(errors="replace").splitlines()
    number = next((at for at, line in enumerate(lines, 1) if wanted[0] in line), 1)
    raise Unsupported(
        f"syntax={wanted[0]}: frontend images are not supported yet",
        hint=hint,
        span=Span(request.filename, number, number),
        excerpt=Excerpt(tuple(lines)),
    )


def is_standard(name: str) -> bool:
    """Whether `name` is the standard Dockerfile frontend, whatever its version."""
    if name == BUILT_IN:
        return True
    try:
        reference = Reference.parse(name)
    except KnarrError:
        return False
    return f"{reference.registry}/{reference.repository}" in _STANDARD
