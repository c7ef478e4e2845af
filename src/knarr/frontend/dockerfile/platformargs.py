"""Arguments a build has without anybody writing them, platforms and proxies, and the global ARGs over them."""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.expand import Expander
from knarr.frontend.dockerfile.instructions import Dockerfile
from knarr.llb.ops import ProxyEnv
from knarr.spec.platform import Platform

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def platform_args(build: Platform, target: Platform, *, stage: str, build_args: Mapping[str, str]) -> dict[str, str]:
    """BUILD… and TARGET…, in BuildKit's order. A `--build-arg` of the same name wins."""
    values = {
        "BUILDPLATFORM": str(build),
        "BUILDOS": build.os,
        "BUILDOSVERSION": build.os_version,
        "BUILDARCH": build.architecture,
        "BUILDVARIANT": build.variant,
        "TARGETPLATFORM": target.in_full,
        "TARGETOS": target.os,
        "TARGETOSVERSION": target.os_version,
        "TARGETARCH": target.architecture,
        "TARGETVARIANT": target.variant,
        "TARGETSTAGE": stage or "default",
    }
    return {key: build_args.get(key, value) for key, value in values.items()}


def global_args(
    dockerfile: Dockerfile, predefined: Mapping[str, str], build_args: Mapping[str, str], expander: Expander
) -> dict[str, str]:
    """The arguments that FROM lines see, and that a stage's bare `ARG NAME` imports.

    Raises:
        DockerfileError: a default that does not expand.
    """
    values = dict(predefined)
    for line in dockerfile.global_args:
        for arg in line.args:
            value = build_args.get(arg.key)
            if value is None and arg.value is not None:
                try:
                    value = expander.word(arg.value, values).text
                except DockerfileError as error:
                    raise error.with_context(span=line.span, excerpt=dockerfile.excerpt) from None
            if value is not None:
                values.pop(arg.key, None)
                values[arg.key] = value
    return values


def proxy_env(build_args: Mapping[str, str]) -> ProxyEnv | None:
    """The proxies given as build arguments, in either case; commands see them, and no cache key does."""
    given = {key.lower(): build_args[key] for key in sorted(build_args) if key.lower() in _PROXIES}
    return ProxyEnv(**given) if given else None
