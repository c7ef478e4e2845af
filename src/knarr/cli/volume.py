"""`knarr volume`: directories that outlive containers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.cli.subcommands import Subcommands
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.containers.store import Containers
    from knarr.containers.volumes import Volumes

_HELP = Flag("help", Kind.SWITCH, "", "show this text", short="h")
_FLAGS = {
    "ls": (
        Flag("quiet", Kind.SWITCH, "", "print only names", short="q"),
        Flag("filter", Kind.LIST, "dangling=BOOL", "only those that no container has, or only others", short="f"),
        _HELP,
    ),
    "create": (_HELP,),
    "inspect": (_HELP,),
    "rm": (Flag("force", Kind.SWITCH, "", "one that is not there is no failure", short="f"), _HELP),
    "prune": (
        Flag("all", Kind.SWITCH, "", "those with a name of somebody's choice, too", short="a"),
        Flag("force", Kind.SWITCH, "", "accepted for docker's sake: nothing is asked", short="f"),
        _HELP,
    ),
}
_WORDS = {
    "ls": ("", "List the volumes"),
    "create": ("[NAME]", "Make a volume"),
    "inspect": ("NAME...", "Say where volumes are, as JSON"),
    "rm": ("NAME...", "Remove volumes and what is in them"),
    "prune": ("", "Remove the volumes that no container has"),
}
COMMANDS = Subcommands(
    "knarr volume",
    "[OPTIONS]",
    "Directories below KNARR_ROOT that containers are shown, and that outlive them.",
    {name: ("volume", summary) for name, (_, summary) in _WORDS.items()},
    by_name=True,
)


def help_text(name: str = "") -> str:
    """What `knarr volume --help` prints, or `knarr volume NAME --help`."""
    if not name:
        return COMMANDS.help_text()
    words, summary = _WORDS[name]
    return (
        f"{f'Usage: knarr volume {name} [OPTIONS] {words}'.rstrip()}\n\n{summary}.\n\nOptions:\n{usage(_FLAGS[name])}"
    )


def run(*told: Any) -> int:
    """Carry out `knarr volume ARGUMENTS`; with a name first, that one of its commands."""
    if len(told) == 1:
        return COMMANDS.run(told[0])
    from knarr.cli.containerplace import opened
    from knarr.containers.volumes import Volumes

    name, argv = told
    given = parse(_FLAGS[name], argv, command=f"knarr volume {name}")
    if given.switch("help"):
        print(help_text(name))
        return 0
    containers = opened()
    volumes = Volumes(containers.root)
    if name == "ls":
        no_words(given, "knarr volume ls")
        return _list(volumes, containers, given.list("filter"), quiet=given.switch("quiet"))
    if name == "create":
        return _create(volumes, given.words)
    if name == "prune":
        no_words(given, "knarr volume prune")
        return _prune(volumes, containers, with_named=given.switch("all"))
    if not given.words:
        raise UsageError(f"knarr volume {name} needs a volume", hint=f"see `knarr volume {name} --help`")
    if name == "inspect":
        return _inspect(volumes, given.words)
    return _remove(volumes, containers, given.words, force=given.switch("force"))


def users_of(containers: Containers) -> dict[str, list[str]]:
    """The names of the containers that have each volume."""
    found: dict[str, list[str]] = {}
    for container in containers.all():
        for mount in container.spec.mounts:
            if mount.kind == "volume":
                found.setdefault(mount.source, []).append(container.spec.name)
    return found


def _list(volumes: Volumes, containers: Containers, filters: tuple[str, ...], *, quiet: bool) -> int:
    from knarr.cli.table import rows

    names = volumes.names()
    users = users_of(containers)
    for text in filters:
        if text not in ("dangling=true", "dangling=false"):
            raise UsageError(f"--filter {text}: not known", hint="use dangling=true or dangling=false")
        names = [name for name in names if (name in users) == (text == "dangling=false")]
    if quiet:
        table = names
    else:
        table = rows([["VOLUME", "CONTAINERS"], *([name, ", ".join(users.get(name, [])) or "-"] for name in names)])
    for line in table:
        print(line)
    return 0


def _create(volumes: Volumes, words: tuple[str, ...]) -> int:
    from knarr.containers.volumes import check_name

    if len(words) > 1:
        raise UsageError("knarr volume create makes one volume", hint="see `knarr volume create --help`")
    name = words[0] if words else os.urandom(32).hex()
    check_name(name)
    volumes.make(name)
    print(name)
    return 0


def _inspect(volumes: Volumes, words: tuple[str, ...]) -> int:
    import json

    found = [{"Name": name, "Mountpoint": str(volumes.path(name)), "Driver": "local"} for name in words]
    print(json.dumps(found, indent=4))
    return 0


def _remove(volumes: Volumes, containers: Containers, words: tuple[str, ...], *, force: bool) -> int:
    from knarr.cli.containerplace import each, with_rights
    from knarr.containers.volumes import check_name
    from knarr.errors import NotFound

    users = users_of(containers)

    def remove(name: str) -> str:
        check_name(name)
        if name in users:
            raise UsageError(f"volume {name} is in use by {', '.join(users[name])}", hint="remove the containers first")
        try:
            volumes.path(name)
        except NotFound:
            if not force:
                raise
        with_rights(lambda: volumes.remove(name))
        return name

    return each(words, remove)


def _prune(volumes: Volumes, containers: Containers, *, with_named: bool) -> int:
    from knarr.cli.containerplace import each, with_rights

    users = users_of(containers)
    unused = [name for name in volumes.names() if name not in users and (with_named or _is_made_up(name))]

    def remove(name: str) -> str:
        with_rights(lambda: volumes.remove(name))
        return name

    return each(unused, remove)


def _is_made_up(name: str) -> bool:
    """Whether the name is one that nobody chose."""
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)
