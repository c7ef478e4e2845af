"""`knarr catalog`: the repositories of a registry."""

from __future__ import annotations

import json
from contextlib import ExitStack

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import UsageError

FLAGS = (
    Flag("filter", Kind.LIST, "PATTERN", "only repositories like this: a wildcard, or with re: a regular expression"),
    Flag("format", Kind.TEXT, "TEMPLATE", "a Go template over .Name, or json"),
    Flag("full", Kind.SWITCH, "", "with the registry before each name"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr catalog --help` prints."""
    return (
        "Usage: knarr catalog [OPTIONS] REGISTRY[/PREFIX]\n\n"
        "List the repositories of a registry, as far as the login may see them; with PREFIX those below it.\n"
        "Not every registry tells: public ones usually do not.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr catalog ARGUMENTS`.

    Raises:
        RegistryError: the registry does not tell.
    """
    from knarr.cli.copy import trusting
    from knarr.cli.login import host_of
    from knarr.cli.tags import matches
    from knarr.cli.transfer import quiet_transfer

    given = parse(FLAGS, argv, command="knarr catalog")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr catalog needs one registry", hint="see `knarr catalog --help`")
    host, slash, prefix = given.words[0].removeprefix("docker://").partition("/")
    host = host_of(host)
    start = f"{prefix.rstrip('/')}/" if slash and prefix.rstrip("/") else ""
    form = given.text("format")
    found: list[str] = []
    with quiet_transfer() as world, ExitStack() as stack:
        for name in trusting(world, given, stack).catalog(host):
            if name.startswith(start) and matches(name, given.list("filter")):
                shown = f"{host}/{name}" if given.switch("full") else name
                found.append(shown)
                if form != "json":
                    print(_line(shown, form), flush=True)
    if form == "json":
        print(json.dumps({"registry": host, "repositories": found}))
    return 0


def _line(name: str, form: str) -> str:
    if not form:
        return name
    from knarr.gotemplate.render import Fields, render

    return render(form, Fields(Name=name))
