"""`knarr pki`: a certificate authority for a private domain, and trust in it everywhere."""

from __future__ import annotations

from knarr.cli.subcommands import Subcommands

_COMMANDS = Subcommands(
    "knarr pki",
    "[OPTIONS]",
    (
        "Make private certificates a non-event: an authority in a directory, certificates for servers and\n"
        "clients, and the files by which docker, podman, containerd, BuildKit, k3s and the system believe them."
    ),
    {
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
    },
    more=(
        "The authority lies in --dir, else KNARR_PKI, else /etc/knarr/pki (who is not root: ~/.config/knarr/pki).\n"
        "`knarr pki COMMAND --help` tells about one of them."
    ),
    by_name=True,
)


def help_text() -> str:
    """What `knarr pki --help` prints, the commands' own texts below it."""
    return _COMMANDS.help_text()


def run(argv: list[str]) -> int:
    """Carry out `knarr pki ARGUMENTS`.

    Raises:
        KnarrError: see `Subcommands.run`.
    """
    return _COMMANDS.run(argv)
