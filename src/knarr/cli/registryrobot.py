"""`knarr registry robot`: the secret of an account for programs, and the lines that let it in."""

from __future__ import annotations

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import UsageError

FLAGS = (
    Flag("expires", Kind.TEXT, "DATE", "the last day before which the secret counts, such as 2030-01-31"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr registry robot --help` prints."""
    return (
        "Usage: knarr registry robot [OPTIONS] NAME\n\n"
        "Make a secret of 256 random bits and print it with what belongs into the configuration file. The secret\n"
        "itself is kept nowhere. The login is robot$NAME.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr registry robot ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr registry robot")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr registry robot takes one name", hint="knarr registry robot ci")
    import hashlib
    import json
    import re
    import secrets
    from datetime import date

    name, expires = given.words[0], given.text("expires")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise UsageError(f"{name!r} cannot name a robot", hint="use letters, digits and . _ -")
    if expires:
        try:
            date.fromisoformat(expires)
        except ValueError:
            raise UsageError(f"--expires={expires}: not a date", hint="write it as 2030-01-31") from None
    secret = secrets.token_urlsafe(32)
    print(f"login:  robot${name}\nsecret: {secret}\n")
    print(f"[[auth.robot]]\nname = {json.dumps(name)}")
    print(f'secret_sha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"')
    if expires:
        print(f"expires = {expires}")
    print(f'\n[[auth.rule]]\nwho = [{json.dumps("robot$" + name)}]\nrepositories = ["**"]\nmay = ["pull"]')
    return 0
