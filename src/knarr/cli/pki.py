"""`knarr pki`: a certificate authority for a private domain, and trust in it everywhere."""

from __future__ import annotations

from knarr.errors import UsageError

_HELP = """Usage: knarr pki COMMAND [OPTIONS]

Make private certificates a non-event: an authority in a directory, certificates for servers and
clients, and the files by which docker, podman, containerd, BuildKit, k3s and the system believe them.

Commands:
{commands}

The authority lies in --dir, else KNARR_PKI, else /etc/knarr/pki (who is not root: ~/.config/knarr/pki).
`knarr pki COMMAND --help` tells about one of them."""

COMMANDS = {
    "init": ("pkiinit", "Make an authority"),
    "import": ("pkiimport", "Take over the authority of cfssl, openssl or another program"),
    "server": ("pkiissue", "Make a certificate for a server"),
    "client": ("pkiissue", "Make a certificate for a client"),
    "sign": ("pkiissue", "Sign a request whose key somebody else has"),
    "list": ("pkilist", "List what was issued"),
    "renew": ("pkirenew", "Make certificates anew that end soon"),
    "revoke": ("pkirevoke", "Revoke certificates, and write the revocation list"),
    "serve": ("pkiserve", "Sign requests of other machines over HTTPS"),
    "trust": ("pkitrust", "Let the tools of a machine believe the authority"),
    "doctor": ("pkidoctor", "Say why a registry's certificate is not believed"),
}


def help_text() -> str:
    """What `knarr pki --help` prints, the commands' own texts below it."""
    listed = "\n".join(f"  {name:<7} {summary}" for name, (_, summary) in COMMANDS.items())
    texts = [_module(name).help_text(name) for name in COMMANDS]
    return "\n\n".join([_HELP.format(commands=listed), *texts])


def run(argv: list[str]) -> int:
    """Carry out `knarr pki ARGUMENTS`."""
    word = argv[0] if argv else ""
    if word in ("-h", "--help"):
        print(help_text())
        return 0
    if word not in COMMANDS:
        raise UsageError(f"knarr pki {word}".strip() + ": not known", hint="`knarr pki --help` lists the commands")
    status: int = _module(word).run(word, argv[1:])
    return status


def _module(word: str):  # type: ignore[no-untyped-def]  # a command's module
    return __import__(f"knarr.cli.{COMMANDS[word][0]}", fromlist=["run"])
