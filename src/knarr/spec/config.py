"""The image config: what a container of the image runs, and the history of its layers.

Unknown members survive a round trip. Spec: image-spec v1.1, config.md; Docker's
additions (Healthcheck, OnBuild, Shell, ArgsEscaped) as BuildKit writes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from knarr.errors import ContentError
from knarr.record import field, record
from knarr.spec import gojson
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform


@record
class Healthcheck:
    """How to probe a container; durations in nanoseconds, 0 inherits the engine's default."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@record
class RunConfig:
    """The `config` object: defaults for a container."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    env: tuple[str, ...] = ()  # "KEY=value", in order
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    on_build: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    stop_signal: str = ""
    shell: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@record
class History:
    """One line of `history`; `empty_layer` lines have no layer of their own."""

    created: str | None = None  # RFC 3339
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@record
class ImageConfig:
    """A whole image config document."""

    platform: Platform
    config: RunConfig = RunConfig()
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[History, ...] = ()
    created: str | None = None
    author: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


_TOP = frozenset(
    ("architecture", "os", "os.version", "os.features", "variant", "config", "rootfs", "history", "created", "author")
)
_RUN = frozenset(
    (
        "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Healthcheck", "ArgsEscaped", "Volumes", "WorkingDir",
        "OnBuild", "Labels", "StopSignal", "Shell",
    )
)  # fmt: skip


def decode_config(raw: bytes) -> ImageConfig:
    """Read an image config.

    Raises:
        ContentError: not JSON or not an object with an operating system and an architecture.
    """
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"an image config is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ContentError("an image config must be a JSON object")
    run = data.get("config") or {}
    rootfs = data.get("rootfs") or {}
    try:
        return ImageConfig(
            Platform.from_json(data),
            _decode_run(run),
            tuple(Digest.parse(d) for d in rootfs.get("diff_ids") or ()),
            tuple(_decode_history(h) for h in data.get("history") or ()),
            data.get("created"),
            str(data.get("author") or ""),
            {k: v for k, v in data.items() if k not in _TOP},
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ContentError(f"an image config has a member of the wrong type: {error}") from error


def _decode_run(run: Mapping[str, Any]) -> RunConfig:
    health = run.get("Healthcheck")
    return RunConfig(
        user=run.get("User") or "",
        exposed_ports=tuple(run.get("ExposedPorts") or ()),
        env=tuple(run.get("Env") or ()),
        entrypoint=_words(run.get("Entrypoint")),
        cmd=_words(run.get("Cmd")),
        healthcheck=_decode_health(health) if health else None,
        args_escaped=bool(run.get("ArgsEscaped")),
        volumes=tuple(run.get("Volumes") or ()),
        working_dir=run.get("WorkingDir") or "",
        on_build=tuple(run.get("OnBuild") or ()),
        labels=dict(run.get("Labels") or {}),
        stop_signal=run.get("StopSignal") or "",
        shell=_words(run.get("Shell")),
        extra={k: v for k, v in run.items() if k not in _RUN},
    )


def _words(value: Any) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def _decode_health(data: Mapping[str, Any]) -> Healthcheck:
    return Healthcheck(
        tuple(data.get("Test") or ()),
        data.get("Interval") or 0,
        data.get("Timeout") or 0,
        data.get("StartPeriod") or 0,
        data.get("StartInterval") or 0,
        data.get("Retries") or 0,
    )


def _decode_history(data: Mapping[str, Any]) -> History:
    return History(
        data.get("created"),
        data.get("created_by") or "",
        data.get("author") or "",
        data.get("comment") or "",
        bool(data.get("empty_layer")),
    )


def encode_config(image: ImageConfig) -> bytes:
    """The bytes of the document as BuildKit writes them: compact, top-level members sorted.

    What an image without layers lacks (layers, history, a time) is null, as Go writes it.
    """
    data: dict[str, Any] = {
        **image.platform.to_json(),
        **image.extra,
        "config": _encode_run(image.config),
        "rootfs": {"type": "layers", "diff_ids": [str(d) for d in image.diff_ids] or None},
        "created": image.created,
        "history": [_encode_history(h) for h in image.history] or None,
    }
    if image.author:
        data["author"] = image.author
    return gojson.dump(dict(sorted(data.items())))


def _encode_run(run: RunConfig) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if run.user:
        data["User"] = run.user
    if run.exposed_ports:
        data["ExposedPorts"] = {port: {} for port in sorted(run.exposed_ports)}
    if run.env:
        data["Env"] = list(run.env)
    if run.entrypoint is not None:
        data["Entrypoint"] = list(run.entrypoint)
    if run.cmd is not None:
        data["Cmd"] = list(run.cmd)
    if run.volumes:
        data["Volumes"] = {path: {} for path in sorted(run.volumes)}
    if run.working_dir:
        data["WorkingDir"] = run.working_dir
    if run.labels:
        data["Labels"] = dict(sorted(run.labels.items()))
    if run.stop_signal:
        data["StopSignal"] = run.stop_signal
    if run.args_escaped:
        data["ArgsEscaped"] = True
    if run.healthcheck is not None:
        data["Healthcheck"] = _encode_health(run.healthcheck)
    if run.on_build:
        data["OnBuild"] = list(run.on_build)
    if run.shell is not None:
        data["Shell"] = list(run.shell)
    data.update(run.extra)
    return data


def _encode_health(health: Healthcheck) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if health.test:
        data["Test"] = list(health.test)
    pairs = (
        ("Interval", health.interval_ns),
        ("Timeout", health.timeout_ns),
        ("StartPeriod", health.start_period_ns),
        ("StartInterval", health.start_interval_ns),
        ("Retries", health.retries),
    )
    data.update({key: value for key, value in pairs if value})
    return data


def _encode_history(line: History) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if line.created is not None:
        data["created"] = line.created
    if line.created_by:
        data["created_by"] = line.created_by
    if line.author:
        data["author"] = line.author
    if line.comment:
        data["comment"] = line.comment
    if line.empty_layer:
        data["empty_layer"] = True
    return data


def chain_id(parent: str, diff_id: Digest) -> str:
    """The chainID of a layer on top of `parent` (empty text: none).

    Spec: image-spec v1.1, config.md, "Layer ChainID".
    """
    import hashlib  # 2 ms: a warm build asks for no chain

    if not parent:
        return str(diff_id)
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()


def chain_ids(diff_ids: Iterable[Digest]) -> list[str]:
    """The chainID of every layer, from the lowest up."""
    chain, found = "", []
    for diff_id in diff_ids:
        chain = chain_id(chain, diff_id)
        found.append(chain)
    return found
