"""A build's options as a frontend is given them: text by name, in BuildKit's words; and back.

    to_options(FrontendRequest(b"…", target="app", build_args={"V": "1"}))
    # {"filename": "Dockerfile", "target": "app", "build-arg:V": "1"}

Spec: BuildKit's frontend/dockerui at v0.33 (config.go, attr.go).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from knarr.errors import UsageError
from knarr.frontend.request import FrontendRequest
from knarr.llb.ops import LinuxResources, ResolveMode, UlimitOpt
from knarr.spec.platform import Platform

_ARG, _LABEL, _CONTEXT, _SESSION = "build-arg:", "label:", "context:", "local-sessionid:"
_MODES: dict[str, ResolveMode] = {"default": "default", "pull": "pull", "local": "local"}
LIMITS = ("memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems", "pidslimit")
_NETWORKS = ("default", "host", "none", "sandbox")


def to_options(request: FrontendRequest) -> dict[str, str]:
    """The options of `request`; what is not said is left out. The Dockerfile itself is no option, its name is."""
    options = {"filename": request.filename.rpartition("/")[2]}
    args = dict(request.build_args)
    if request.source_date_epoch is not None:
        args.setdefault("SOURCE_DATE_EPOCH", str(request.source_date_epoch))
    contexts = dict(request.contexts)
    said = {
        "target": request.target,
        "platform": ",".join(map(str, request.platforms)),
        "image-resolve-mode": {"pull": "pull", "local": "local", "never": "local"}.get(request.resolve_mode, ""),
        "add-hosts": joined(f"{name}={address}" for name, address in request.extra_hosts),
        "force-network-mode": request.network if request.network != "default" else "",
        "shm-size": str(request.shm_size_bytes or ""),
        "ulimit": joined(f"{limit.name}={limit.soft}:{limit.hard}" for limit in request.ulimits),
        "cgroup-parent": request.cgroup_parent,
        "hostname": request.hostname,
        "context": contexts.pop("context", ""),
        "contextsubdir": request.context_directory,
    }
    options.update({name: text for name, text in said.items() if text})
    if request.resources is not None:
        from knarr.frontend.resources import to_options as of_limits

        options.update(of_limits(request.resources))
    options.update({_ARG + name: value for name, value in args.items()})
    options.update({_LABEL + name: value for name, value in request.labels.items()})
    options.update({_CONTEXT + name: where for name, where in contexts.items()})
    if request.no_cache or request.no_cache_filter:
        options["no-cache"] = "" if request.no_cache else ",".join(request.no_cache_filter)
    return options


def from_options(options: Mapping[str, str], dockerfile: bytes, dockerignore: bytes | None = None) -> FrontendRequest:
    """The request that `options` make, for the text of a Dockerfile and of its ignore file.

    Raises:
        UsageError: a value that cannot be meant.
    """
    no_cache = options.get("no-cache")
    contexts = _behind(_CONTEXT, options)
    if options.get("context"):
        contexts["context"] = options["context"]
    elif options.get("contextkey", "context") != "context":
        contexts["context"] = f"local:{options['contextkey']}"
    args = _behind(_ARG, options)
    if options.get("multi-platform"):
        args.setdefault("BUILDKIT_MULTI_PLATFORM", options["multi-platform"])
    return FrontendRequest(
        dockerfile,
        options.get("filename") or "Dockerfile",
        dockerignore,
        target=options.get("target", ""),
        platforms=tuple(dict.fromkeys(Platform.parse(text) for text in options.get("platform", "").split(",") if text)),
        build_args=args,
        labels=_behind(_LABEL, options),
        contexts=contexts,
        context_directory=options.get("contextsubdir", ""),
        no_cache=no_cache == "",
        no_cache_filter=tuple(no_cache.split(",")) if no_cache else (),
        resolve_mode=_MODES[_one_of(options, "image-resolve-mode", tuple(_MODES))],
        extra_hosts=tuple(_host(text) for text in _split(options.get("add-hosts", ""))),
        network=_one_of(options, "force-network-mode", _NETWORKS),
        shm_size_bytes=_number("shm-size", options.get("shm-size") or "0"),
        ulimits=tuple(_ulimit(text) for text in _split(options.get("ulimit", ""))),
        cgroup_parent=options.get("cgroup-parent", ""),
        hostname=options.get("hostname", ""),
        resources=_resources(options),
        sessions=_behind(_SESSION, options),
    )


def capabilities(text: str) -> set[str]:
    """The capabilities of a frontend in a list; what stands behind a `+` is a hint."""
    return {name for part in text.split(",") if (name := part.partition("+")[0])}


def cache_imports(options: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The shared caches that `options` name: (type, attributes).

    Raises:
        UsageError: the option is not what it should be.
    """
    found = [("registry", {"ref": ref}) for ref in options.get("cache-from", "").split(",") if ref]
    try:
        for entry in json.loads(options.get("cache-imports") or "[]") or ():
            attrs = entry.get("Attrs") or entry.get("attrs") or {}
            found.append((str(entry.get("Type") or entry.get("type")), {k: str(v) for k, v in attrs.items()}))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"cache-imports: not a list of caches: {error}") from error
    return [entry for n, entry in enumerate(found) if entry not in found[:n]]


def _resources(options: Mapping[str, str]) -> LinuxResources | None:
    if not any(options.get(name) for name in LIMITS):
        return None
    from knarr.frontend.resources import from_options as limits

    return limits(options)


def _behind(prefix: str, options: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}


def _one_of(options: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    value = options.get(name) or known[0]
    if value not in known:
        raise UsageError(f"{name}={value}: not known", hint=f"use one of: {', '.join(known)}")
    return value


def _host(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not separator or not name or not address:
        raise UsageError(f"add-hosts: {text!r} is not NAME=ADDRESS")
    return name.lower(), address


def _ulimit(text: str) -> UlimitOpt:
    name, _, numbers = text.partition("=")
    soft, colon, hard = numbers.partition(":")
    return UlimitOpt(name, _number("ulimit", soft), _number("ulimit", hard if colon else soft))


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is not a whole number") from None


def joined(fields: Iterable[str]) -> str:
    """The fields as one line of comma-separated values."""
    found = list(fields)
    if not any(mark in text for text in found for mark in '",\r\n'):
        return ",".join(found)
    import csv
    import io

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(found)
    return line.getvalue()


def _split(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",") if text else []
    import csv

    return next(csv.reader([text]), [])
