"""Which frontend a Dockerfile asks for: `# syntax=` in the file, or the build argument BUILDKIT_SYNTAX before it.

The names of the standard Dockerfile frontend mean the one that is built in, so that
no image is pulled for it and an offline machine builds the usual file. The build
argument forces either: `dockerfile.v0` is the one that is built in, whatever the file
says, and `docker-image://NAME` is that image, also where its name is a standard one.
"""

from __future__ import annotations

from knarr.errors import Excerpt, KnarrError, Span, Unsupported
from knarr.frontend.dockerfile.directives import detect_syntax
from knarr.frontend.request import FrontendRequest
from knarr.record import record
from knarr.spec.reference import Reference

BUILT_IN = "dockerfile.v0"
_IMAGE = "docker-image://"
_STANDARD = ("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream")


@record
class Syntax:
    """The image of a frontend, and the whole of what named it, which it is told."""

    image: str
    command_line: str
    span: Span | None = None  # None: a build argument named it
    excerpt: Excerpt | None = None


def wanted(request: FrontendRequest) -> Syntax | None:
    """The frontend image that is asked for; None for the frontend that is built in."""
    forced = request.build_args.get("BUILDKIT_SYNTAX", "")
    said = forced or detect_syntax(request.dockerfile)
    name = said.partition(" ")[0]
    if forced and name.startswith(_IMAGE):
        return Syntax(name.removeprefix(_IMAGE), said.removeprefix(_IMAGE))
    if not name or is_standard(name):
        return None
    if forced:
        return Syntax(name, said)
    lines = request.dockerfile.decode(errors="replace").splitlines()
    number = next((at for at, line in enumerate(lines, 1) if name in line), 1)
    return Syntax(name, said, Span(request.filename, number, number), Excerpt(tuple(lines)))


def require_standard(request: FrontendRequest) -> None:
    """Make sure that the built-in frontend is the one that is asked for, where no image can be run.

    Raises:
        Unsupported: it is another one.
    """
    other = wanted(request)
    if other is not None:
        raise Unsupported(
            f"syntax={other.image}: only the frontend that is built in can write the graph",
            hint=f"--build-arg BUILDKIT_SYNTAX={BUILT_IN} reads the file with the Dockerfile frontend that is built in",
            span=other.span,
            excerpt=other.excerpt,
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
