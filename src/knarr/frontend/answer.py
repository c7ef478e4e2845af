"""A frontend's answer as it travels, by results and BuildKit's metadata keys, and as records: each into the other.

Spec: BuildKit's exporter/containerimage/exptypes at v0.33.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from knarr.errors import ContentError, KnarrError
from knarr.frontend.gateway import ONLY, Answer, Ref
from knarr.frontend.request import FrontendResult, PlatformResult
from knarr.llb import definition
from knarr.spec.config import ImageConfig, RunConfig, decode_config, encode_config
from knarr.spec.platform import Platform, host_platform

CONFIG = "containerimage.config"
BASE_CONFIG = "containerimage.base.config"
PLATFORMS = "refs.platforms"
EPOCH = "source.date.epoch"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def to_answer(result: FrontendResult) -> Answer:
    """`result` as another frontend would have given it."""
    refs: dict[str, Ref] = {}
    metadata: dict[str, bytes] = {}
    attestations = {str(found.platform): found.attestations for found in result.results if found.attestations}
    listed = []
    for found in result.results:
        id = found.platform.in_full
        listed.append({"ID": id, "Platform": found.platform.to_json()})
        refs[id if result.multi_platform else ONLY] = Ref(found.graph, definition.encode(found.graph))
        suffix = f"/{id}" if result.multi_platform else ""
        metadata[CONFIG + suffix] = encode_config(found.config)
        if found.base_config is not None:
            metadata[BASE_CONFIG + suffix] = encode_config(found.base_config)
        if found.epoch is not None:
            metadata[EPOCH + suffix] = b"%d" % found.epoch
    metadata[PLATFORMS] = json.dumps({"Platforms": listed}).encode()
    return Answer(refs, metadata, attestations)


def from_answer(answer: Answer) -> FrontendResult:
    """The results of `answer` with the image config of each.

    Raises:
        ContentError: it is not what an image could be made of.
    """
    listed = _platforms(answer.metadata)
    if set(answer.refs) == {ONLY}:
        if len(listed) > 1:
            raise ContentError(f"one result for {len(listed)} platforms")
        platform = listed[0][1] if listed else None
        return FrontendResult((_platform_result(ONLY, platform, answer),))
    if not listed:
        raise ContentError("several results, and nothing says for which platforms they are")
    known = dict(listed)
    lost = [id for id in answer.refs if id not in known] + [id for id in known if id not in answer.refs]
    if lost:
        raise ContentError(f"results and platforms do not agree on {lost[0] or 'a result without a name'}")
    results = tuple(_platform_result(id, platform, answer) for id, platform in listed)
    return FrontendResult(results, multi_platform=True)


def _platform_result(id: str, platform: Platform | None, answer: Answer) -> PlatformResult:
    config = _config(answer.metadata, CONFIG, id, platform)
    if config is None:
        config = _empty(platform or host_platform())
    base = _config(answer.metadata, BASE_CONFIG, id, platform)
    platform = platform or config.platform
    said = answer.attestations.get(id) or answer.attestations.get(str(platform), ())
    return PlatformResult(platform, answer.refs[id].graph, config, base, _epoch(answer.metadata, id), said)


def _epoch(metadata: Mapping[str, bytes], id: str) -> int | None:
    raw = metadata.get(f"{EPOCH}/{id}", metadata.get(EPOCH, b""))
    if raw and not raw.lstrip(b"-").isdigit():
        raise ContentError(f"{EPOCH} is not a number of seconds since 1970: {raw[:40]!r}")
    return int(raw) if raw else None


def _config(metadata: Mapping[str, bytes], key: str, id: str, platform: Platform | None) -> ImageConfig | None:
    raw = metadata.get(f"{key}/{id}") if id else None
    raw = metadata.get(key) if raw is None else raw
    if not raw:
        return None
    if raw.strip() == b"null":
        raise ContentError("invalid null image config for export")
    return decode_config(_completed(raw, platform or host_platform()))


def _completed(raw: bytes, platform: Platform) -> bytes:
    """A config that says for which platform it is: a frontend may leave that to us."""
    data = _document(raw, CONFIG)
    if data.get("os") and data.get("architecture"):
        return raw
    if data.get("os") or data.get("architecture"):
        raise ContentError("invalid image config: os and architecture must be specified together")
    return json.dumps({**platform.to_json(), **{key: value for key, value in data.items() if value}}).encode()


def _empty(platform: Platform) -> ImageConfig:
    """The config of an image of which its frontend says nothing."""
    return ImageConfig(platform, RunConfig(env=(_PATH,), working_dir="/"))


def _platforms(metadata: Mapping[str, bytes]) -> list[tuple[str, Platform]]:
    """The ids of the results, and the platform of each, in order."""
    raw = metadata.get(PLATFORMS)
    if not raw:
        return []
    if raw.strip() == b"null":
        raise ContentError("invalid empty platforms index for exporter")
    try:
        listed = _document(raw, PLATFORMS)["Platforms"] or []
        found = [(str(one["ID"]), Platform.from_json(one["Platform"])) for one in listed]
    except (KeyError, TypeError, AttributeError, KnarrError) as error:
        raise ContentError(f"{PLATFORMS} does not list platforms") from error
    for id, platform in found:
        if not id:
            raise ContentError("invalid empty platform key for exporter")
        if not platform.os or not platform.architecture:
            raise ContentError(f"invalid platform value for {id}: it has no os, or no architecture")
    found = list(dict.fromkeys(found))  # asked for twice, it is there once
    if len({id for id, _ in found}) != len(found):
        raise ContentError(f"{PLATFORMS} lists a platform twice")
    return found


def _document(raw: bytes, key: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{key} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ContentError(f"{key} is not an object")
    return data
