"""What a client wants to have made of a result, and what it is told of it.

An exporter's attributes that are none of its options are what a frontend would
say of the result (`containerimage.config`): BuildKit passes them on so.

Spec: BuildKit's exporter/containerimage/opts.go and exporter/verifier at 73ed682.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.errors import KnarrError, Unsupported, UsageError
from knarr.export.options import is_option, with_containerd
from knarr.frontend.gateway import ONLY, Answer
from knarr.progress import Warned
from knarr.record import replace
from knarr.spec.platform import Platform, host_platform

if TYPE_CHECKING:
    from knarr.config import Containerd
    from knarr.pb.control_pb2 import SolveRequest

_NAME = "image.name"  # what a frontend calls an image that its caller calls `*`
_RETURNED = "frontend."  # what a frontend says under this is for the client
_PLATFORMS = "refs.platforms"


def wanted(request: SolveRequest, answer: Answer) -> tuple[list[Export], Answer]:
    """The outputs that a request asks for, and the answer with what the request says of the result."""
    given = [(exporter.Type, dict(exporter.Attrs)) for exporter in request.Exporters]
    if not given and request.ExporterDeprecated:
        given = [(request.ExporterDeprecated, dict(request.ExporterAttrsDeprecated))]
    said: dict[str, bytes] = {}
    exports = []
    for number, (kind, attrs) in enumerate(given):
        attrs.pop("dest", None)  # a place on the client's machine, never on this one
        said |= {key: value.encode() for key, value in attrs.items() if not is_option(kind, key)}
        attrs = {key: value for key, value in attrs.items() if key not in said}
        exports.append(Export(kind, attrs | dict(_settled(kind, attrs, request, answer)), taker=number))
    return exports, replace(answer, metadata={**answer.metadata, **said})


def with_own_containerd(exports: list[Export], own: Containerd | None) -> list[Export]:
    """The outputs, and images that are kept in the daemon's containerd as well, if it has one.

    Raises:
        Unsupported: one asks for containerd, and the daemon has none.
        UsageError: one asks for another containerd or namespace: the client might not be allowed to.
    """
    for export in exports:
        if export.type != "containerd":
            continue
        if own is None:
            raise Unsupported(
                "type=containerd: this daemon was given no containerd", hint="start it with --containerd-worker=true"
            )
        for key, value in (("address", own.address), ("namespace", own.namespace)):
            if export.attrs.get(key, value) != value:
                raise UsageError(f"type=containerd: {key} is not for clients to choose", hint=f"leave {key}= out")
    return exports if own is None else list(with_containerd(exports))


def _settled(kind: str, attrs: Mapping[str, str], request: SolveRequest, answer: Answer) -> Iterator[tuple[str, str]]:
    """Attributes that the request leaves to others: to the frontend, or to us."""
    epoch = request.FrontendAttrs.get("build-arg:SOURCE_DATE_EPOCH", "")
    if epoch.removeprefix("-").isdigit():  # else the frontend finds out what it means, and tells
        yield "source-date-epoch", attrs.get("source-date-epoch", epoch)
    for key, raw in answer.metadata.items():
        if key.startswith("annotation") and is_option(kind, key):
            yield key, attrs.get(key, raw.decode(errors="replace"))
    if attrs.get("name") == "*":
        yield "name", answer.metadata.get(_NAME, b"").decode(errors="replace")
    if kind == "image" and attrs.get("push") in ("true", "1"):
        # It is in the registry, and no client could ever remove a name of ours.
        yield "store", attrs.get("store", "false")


def response(told: Mapping[str, Any], answer: Answer) -> dict[str, str]:
    """What exporters tell, as text (a document in base64, as clients expect it), and what the frontend does."""
    texts = {
        key: value if isinstance(value, str) else base64.b64encode(json.dumps(value).encode()).decode()
        for key, value in told.items()
    }
    own = {key: raw.decode(errors="replace") for key, raw in answer.metadata.items() if key.startswith(_RETURNED)}
    return {**own, **texts}


def mismatch(request: SolveRequest, answer: Answer, platforms: Sequence[Platform]) -> Warned | None:
    """That a result is not for the platforms that were asked for; `platforms` are the result's."""
    if _PLATFORMS not in answer.metadata and all(ref.graph.root is None for ref in answer.refs.values()):
        return None  # an answer to a question, perhaps
    text = request.FrontendAttrs.get("platform", str(host_platform()))
    try:
        asked = sorted(Platform.parse(word).in_full for word in text.split(","))
    except KnarrError as error:
        return _warned(f"Invalid platform result requested {text!r}: {error.message}")
    if len(set(asked)) < len(asked):
        return _warned(f"Duplicate platform result requested {text!r}")
    found = [platform.in_full for platform in platforms]
    if len(asked) == len(found) == 1:
        if asked[0] in (found[0], replace(platforms[0], os_version="").in_full):
            return None
        return _warned(f'Requested platform "{asked[0]}" does not match result platform "{found[0]}"')
    if len(asked) > 1 and set(answer.refs) == {ONLY}:
        return _warned("Multiple platforms requested but result is not multi-platform")
    if sorted(found) != asked:
        return _warned(f"Requested platforms {','.join(asked)} do not match result platforms {','.join(sorted(found))}")
    return None


def _warned(text: str) -> Warned:
    return Warned("", text)
