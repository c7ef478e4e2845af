"""The frontends by name: `dockerfile.v0`, which is built in, and `gateway.v0`, an image that is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr.attest.provenance import DOCKERFILE
from knarr.attest.wanted import SBOM, wanted
from knarr.errors import Unsupported
from knarr.frontend.gateway import Answer
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.engine.gateway import EngineGateway

IMAGE = "gateway.v0"


def ask(
    gateway: EngineGateway, name: str, options: Mapping[str, str], inputs: Mapping[str, bytes], *, scope: Scope
) -> Answer:
    """The answer of the frontend `name`.

    Raises:
        Unsupported: there is no frontend of this name.
        KnarrError: as the frontend says.
    """
    if name == IMAGE and options.get("source") == DOCKERFILE:
        # A question of its own, as to an image: what is told of the build names the frontend that answers.
        told = {key: value for key, value in options.items() if key != "source"}
        return gateway.ask(DOCKERFILE, told, inputs, scope=scope)
    if name == DOCKERFILE:
        from knarr.engine import dockerfilefrontend

        return dockerfilefrontend.answer(gateway, options, inputs, scope)
    if name == IMAGE:
        from knarr.engine import frontendimage
        from knarr.frontend.scanner import for_others

        return frontendimage.answer(gateway, for_others(options, wanted(options).get(SBOM)), inputs, scope)
    raise Unsupported(f"there is no frontend {name!r}", hint=f"frontends are: {DOCKERFILE}, {IMAGE}")
