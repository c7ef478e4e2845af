"""`knarr builder ls` and `inspect`: which builders there are, and what they say of themselves."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from knarr.cli.builderchoice import chosen
from knarr.cli.buildercommon import BUILDER, FORMAT, HELP, meant, reached, stored
from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import KnarrError, UsageError
from knarr.record import record
from knarr.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.client.stored import Node, StoredBuilder
    from knarr.spec.platform import Platform

FLAGS = {
    "ls": (FORMAT, HELP),
    "inspect": (
        Flag("bootstrap", Kind.SWITCH, "", "wait, up to a minute, until it answers"),
        BUILDER,
        FORMAT,
        HELP,
    ),
}
_USAGE = {
    "ls": "[OPTIONS]\n\nList the builders; `*` is the one in use.",
    "inspect": "[OPTIONS] [BUILDER]\n\nShow a builder's nodes: whether they answer, their version, platforms, labels.",
}
_BOOTSTRAP_S = 60.0
_AGAIN_S = 0.5
_DEFAULT = "default"


@record
class Found:
    """What a node says of itself, or why it does not."""

    node: Node
    version: str = ""
    kind: str = ""
    platforms: tuple[Platform, ...] = ()
    workers: tuple[tuple[str, dict[str, str]], ...] = ()
    failure: KnarrError | None = None

    @property
    def status(self) -> str:
        return "running" if self.failure is None else "no answer"


def help_text(word: str) -> str:
    """What `knarr builder WORD --help` prints."""
    return f"Usage: knarr builder {word} {_USAGE[word]}\n\nOptions:\n{usage(FLAGS[word])}"


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr builder WORD ARGUMENTS`."""
    given = parse(FLAGS[word], argv, command=f"knarr builder {word}")
    if given.switch("help"):
        print(help_text(word))
        return 0
    if given.text("format", "table") not in ("table", "json"):
        raise UsageError(f"--format {given.text('format')}: not known", hint="use table or json")
    return _ls(given) if word == "ls" else _inspect(given)


def _ls(given: Parsed) -> int:
    no_words(given, "knarr builder ls")
    builders = stored()
    known = [builders.get(name) for name in builders.names()]
    found = dict(zip((builder.name for builder in known), _asked(known), strict=True))
    in_use = chosen("", os.environ) or _DEFAULT
    if given.text("format") == "json":
        import json

        documents = [_document(builder, found[builder.name], in_use=builder.name == in_use) for builder in known]
        print(json.dumps(documents, indent=2))
        return 0
    from knarr.cli.table import rows

    table = [("NAME/NODE", "ADDRESS", "STATUS", "VERSION", "PLATFORMS")]
    table.append((_starred(_DEFAULT, in_use), "(this process)", "", "", ""))
    for builder in known:
        table.append((_starred(builder.name, in_use), "", "", "", ""))
        table += [_row(one) for one in found[builder.name]]
    for line in rows(table):
        print(line)
    if in_use != _DEFAULT and in_use not in found:
        print(f"\nin use: {in_use}")
    return 0


def _starred(name: str, in_use: str) -> str:
    return f"{name}*" if name == in_use else name


def _row(one: Found) -> tuple[str, str, str, str, str]:
    platforms = ", ".join(map(str, one.node.platforms or one.platforms))
    return (f"  {one.node.name}", one.node.address, one.status, f"{one.kind} {one.version}".strip(), platforms)


def _asked(builders: Sequence[StoredBuilder]) -> list[list[Found]]:
    """What the nodes of each builder say, all asked at once."""
    with Scope() as scope:
        outcomes = [[scope.start(ask, node) for node in builder.nodes] for builder in builders]
        return [[outcome.result() for outcome in nodes] for nodes in outcomes]


def ask(node: Node) -> Found:
    """What one node says."""
    try:
        with reached(node) as builder:
            workers = tuple((worker.ID, dict(worker.Labels)) for worker in builder.workers)
            kind = "knarr" if builder.is_knarr else "BuildKit"
            return Found(node, builder.version, kind, builder.platforms, workers)
    except KnarrError as error:
        return Found(node, failure=error)


def _inspect(given: Parsed) -> int:
    builder = meant(given, "knarr builder inspect")
    deadline = time.monotonic() + (_BOOTSTRAP_S if given.switch("bootstrap") else 0)
    found = _asked([builder])[0]
    while any(one.failure for one in found) and time.monotonic() < deadline:
        time.sleep(_AGAIN_S)
        found = _asked([builder])[0]
    if given.text("format") == "json":
        import json

        print(json.dumps(_document(builder, found, in_use=builder.name == chosen("", os.environ)), indent=2))
    else:
        print(f"Name:       {builder.name}")
        for one in found:
            print("\n".join(_lines(one)))
    failure = next((one.failure for one in found if one.failure is not None), None)
    if failure is not None:
        raise failure
    return 0


def _lines(one: Found) -> list[str]:
    """A node as a person reads it."""
    shown = [("Node", one.node.name), ("Address", one.node.address), ("Status", one.status)]
    if one.version:
        shown.append(("Version", f"{one.kind} {one.version}"))
    if one.node.platforms:
        shown.append(("Builds", ", ".join(map(str, one.node.platforms))))
    if one.platforms:
        shown.append(("Platforms", ", ".join(map(str, one.platforms))))
    for id, labels in one.workers:
        shown.append(("Worker", id))
        shown += [("", f"{key}: {value}") for key, value in sorted(labels.items())]
    return ["", *(f"{f'{key}:' if key else '':<12}{value}" for key, value in shown)]


def _document(builder: StoredBuilder, found: Sequence[Found], *, in_use: bool) -> dict[str, Any]:
    nodes = [
        {
            "name": one.node.name,
            "address": one.node.address,
            "status": one.status,
            "error": one.failure.message if one.failure else "",
            "version": one.version,
            "kind": one.kind,
            "builds": [str(platform) for platform in one.node.platforms],
            "platforms": [str(platform) for platform in one.platforms],
            "workers": [{"id": id, "labels": labels} for id, labels in one.workers],
        }
        for one in found
    ]
    return {"name": builder.name, "current": in_use, "nodes": nodes}
