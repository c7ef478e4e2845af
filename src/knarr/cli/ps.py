"""`knarr ps`: the containers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.cli.table import rows
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.containers.store import Container, Containers

FLAGS = (
    Flag("all", Kind.SWITCH, "", "those that do not run, too", short="a"),
    Flag("quiet", Kind.SWITCH, "", "print only IDs", short="q"),
    Flag("no-trunc", Kind.SWITCH, "", "show everything in full"),
    Flag(
        "filter",
        Kind.LIST,
        "KEY=VALUE",
        "id, name, status, exited, label, ancestor, volume, network, before, since",
        short="f",
    ),
    Flag("format", Kind.TEXT, "FORM", "table (the default), json (one object a line), or a Go template"),
    Flag("last", Kind.TEXT, "N", "the N that were created last, whether they run or not", short="n"),
    Flag("latest", Kind.SWITCH, "", "the one that was created last", short="l"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_HEADS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_USUAL = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def help_text() -> str:
    """What `knarr ps --help` prints."""
    return f"Usage: knarr ps [OPTIONS]\n\nList the containers that run.\n\nOptions:\n{usage(FLAGS)}"


def run(argv: list[str]) -> int:
    """Carry out `knarr ps ARGUMENTS`."""
    from knarr.cli.containerplace import opened

    given = parse(FLAGS, argv, command="knarr ps")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr ps")
    found = _chosen(opened(), given)
    for text in _texts(found, given):
        print(text)
    return 0


def _chosen(containers: Containers, given: Parsed) -> list[Container]:
    tests = [_test(text, containers) for text in given.list("filter")]
    by_key: dict[str, list[Callable[[Container], bool]]] = {}
    for key, test in tests:
        by_key.setdefault(key, []).append(test)
    count = 1 if given.switch("latest") else _count(given.text("last"))
    shows_all = given.switch("all") or count is not None or "status" in by_key or "exited" in by_key
    found = [
        container
        for container in containers.all()
        if (shows_all or container.is_running)
        and all(any(test(container) for test in group) for group in by_key.values())
    ]
    return found if count is None else found[:count]


def _count(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--last {text}: not a number")
    return int(text)


def _test(text: str, containers: Containers) -> tuple[str, Callable[[Container], bool]]:
    """One filter: its key, and what it lets pass. Those of one key are alternatives, except labels."""
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise UsageError(f"--filter {text}: not KEY=VALUE", hint="for example --filter status=exited")
    if key == "label":
        name, has_value, wanted = value.partition("=")
        return f"label {name}", lambda c: c.spec.labels.get(name) == wanted if has_value else name in c.spec.labels
    if key == "exited":
        return key, lambda c: c.state.status == "exited" and str(c.state.exit_status) == value
    if key in ("before", "since"):
        other = containers.find(value).spec.created_ns
        return key, lambda c: c.spec.created_ns < other if key == "before" else c.spec.created_ns > other
    known: dict[str, Callable[[Container], bool]] = {
        "id": lambda c: c.id.startswith(value),
        "name": lambda c: value in c.spec.name,
        "status": lambda c: _status_word(c) == value,
        "ancestor": lambda c: _is_of(c, value),
        "volume": lambda c: any(value in (mount.source, mount.target) for mount in c.spec.mounts),
        "network": lambda c: c.spec.network == value,
    }
    if key not in known:
        names = ", ".join([*known, "exited", "label", "before", "since"])
        raise UsageError(f"--filter {text}: not known", hint=f"use one of: {names}")
    if key == "status" and value not in ("created", "running", "exited"):
        raise UsageError(f"--filter {text}: no such status", hint="use created, running or exited")
    return key, known[key]


def _is_of(container: Container, image: str) -> bool:
    from knarr.errors import KnarrError
    from knarr.spec.reference import Reference

    if image == container.spec.image or container.spec.digest.removeprefix("sha256:").startswith(image):
        return True
    try:
        return Reference.parse(image).tagged() == Reference.parse(container.spec.image).tagged()
    except KnarrError:
        return False


def _status_word(container: Container) -> str:
    return "running" if container.is_running else container.state.status


def _texts(found: list[Container], given: Parsed) -> list[str]:
    whole = given.switch("no-trunc")
    if given.switch("quiet") and not given.text("format"):
        return [container.id if whole else container.spec.short_id for container in found]
    form = given.text("format", "table")
    lines = [line_of(container, whole=whole) for container in found]
    if form == "json":
        import json

        return [json.dumps(line) for line in lines]
    if form == "table":
        return rows([[_HEADS[key] for key in _USUAL], *([line[key] for key in _USUAL] for line in lines)])
    from knarr.gotemplate.render import Fields, render

    template = form.removeprefix("table ")
    template = template.replace("\\t", "\t").replace("\\n", "\n")
    texts = [render(template, Fields(line)) for line in lines]
    if template == form.replace("\\t", "\t").replace("\\n", "\n"):
        return texts
    return rows([text.split("\t") for text in (render(template, _HEADS), *texts)])


def line_of(container: Container, *, whole: bool) -> dict[str, Any]:
    """One container as `ps` shows it; the words are docker's."""
    import shlex

    from knarr.cli.table import shortened
    from knarr.containers.log import stamp

    spec, state = container.spec, container.state
    command = shlex.join(spec.args)
    ports = state.ports if container.is_running else ()
    mounts = [mount.source for mount in spec.mounts if mount.kind != "tmpfs"]
    return {
        "ID": container.id if whole else spec.short_id,
        "Image": spec.image,
        "Command": f'"{command if whole else shortened(command, 20)}"',
        "CreatedAt": stamp(spec.created_ns),
        "RunningFor": f"{age(spec.created_ns)} ago",
        "Status": _told(container),
        "State": _status_word(container),
        "Ports": ", ".join(ports),
        "Names": spec.name,
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(spec.labels.items())),
        "Mounts": ",".join(source if whole else shortened(source, 15) for source in mounts),
        "Networks": spec.network,
        "Platform": spec.platform,
    }


def _told(container: Container) -> str:
    state = container.state
    if container.is_running:
        return f"Up {age(state.started_ns)}"
    if state.status == "exited":
        return f"Exited ({state.exit_status}) {age(state.finished_ns)} ago"
    return "Created"


def age(ns: int) -> str:
    """How long ago a time was, in one unit, as docker says it."""
    seconds = max(0.0, time.time() - ns / 10**9)
    if seconds < 1:
        return "Less than a second"
    units = (("year", 31_557_600), ("month", 2_629_800), ("week", 604_800), ("day", 86_400), ("hour", 3600))
    for unit, length in (*units, ("minute", 60), ("second", 1)):
        if seconds >= length * (2 if unit in ("week", "month") else 1):
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "Less than a second"
