"""`knarr pki server`, `client` and `sign`: make certificates."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.pkicommon import DIR, HELP, KEY, ORGANIZATION, directory, file, subject
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.pki.authority import Authority
    from knarr.pki.files import Request
    from knarr.pki.names import Names
    from knarr.pki.settings import Use, Wanted

_DEFAULT = "90d"
_COMMON = (
    DIR,
    Flag("lifetime", Kind.TEXT, "TIME", f"how long it holds, like 90d or 2160h (default: {_DEFAULT})"),
    ORGANIZATION,
    Flag("config", Kind.TEXT, "FILE", "take use and lifetime from a profile in a configuration of cfssl"),
    Flag("profile", Kind.TEXT, "NAME", "which profile of --config"),
)
_OUT = Flag("out", Kind.TEXT, "DIR", "where to write cert.pem, key.pem and ca.pem (default: issued/NAME)", short="O")
_CSR = Flag("csr", Kind.TEXT, "FILE", "take names, key and subject from a CSR document of cfssl")
_PEER = Flag("peer", Kind.SWITCH, "", "let it be shown to servers as well, as members of a cluster do")
_SIGN = (
    Flag("client", Kind.SWITCH, "", "for a client (default: for a server)"),
    _PEER,
    Flag("name", Kind.LIST, "NAME", "names in place of those in the request"),
    Flag(
        "out", Kind.TEXT, "FILE", "where to write the certificate with its chain (default: standard output)", short="O"
    ),
)
FLAGS = {
    "server": (*_COMMON, KEY, _PEER, _OUT, _CSR, HELP),
    "client": (*_COMMON, KEY, _OUT, _CSR, HELP),
    "sign": (*_COMMON, *_SIGN, HELP),
}
_TEXTS = {
    "server": (
        "NAME...",
        "Make a certificate for a server. NAMEs are all by which it is called: hosts, *.domains, IP addresses.\n"
        "cert.pem has the chain that a server shows; a registry that reads it anew needs no restart.",
    ),
    "client": ("NAME", "Make a certificate by which a client logs in: `knarr registry` calls it cert:NAME."),
    "sign": (
        "REQUEST",
        "Sign a request in PEM (`-`: standard input) whose key somebody else has. It must show that he has it.",
    ),
}


def help_text(word: str) -> str:
    """What `knarr pki server|client|sign --help` prints."""
    words, text = _TEXTS[word]
    return f"Usage: knarr pki {word} [OPTIONS] {words}\n\n{text}\n\nOptions:\n{usage(FLAGS[word])}"


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki server|client|sign ARGUMENTS`."""
    command = f"knarr pki {word}"
    given = parse(FLAGS[word], argv, command=command)
    if given.switch("help"):
        print(help_text(word))
        return 0
    from knarr.pki.authority import Authority

    authority = Authority(directory(given, os.environ))
    if word == "sign":
        return _sign(given, authority)
    return _make(word, given, authority)


def _make(word: str, given: Parsed, authority: Authority) -> int:
    from knarr.pki import cfssl, issue
    from knarr.pki.authority import label_of
    from knarr.pki.names import Names
    from knarr.pki.settings import Use, checked_key_kind

    texts = given.words
    kind, who = given.text("key") or "ecdsa-p256", None
    if given.text("csr"):
        request = cfssl.request(file(given.text("csr")), where=given.text("csr"))
        texts = (*texts, *request.names)
        kind, who = given.text("key") or request.key_kind, request.subject
    if not texts and not (who and who.common_name):
        raise UsageError(f"knarr pki {word} needs a name", hint=f"see `knarr pki {word} --help`")
    if word == "client":  # a client is called by a name that need not be a host's
        names, first = Names(), texts[0] if texts else who.common_name if who else ""
        if len(texts) > 1:
            raise UsageError("a client has one name", hint="make a certificate for each")
    else:
        names = Names.parse(texts)
        first = names.first
    use = Use.PEER if word == "server" and given.switch("peer") else Use(word)
    wanted = _wanted(given, who or subject(given, names.common_name or first), use)
    label = label_of(first)
    place = Path(given.text("out")) if given.text("out") else authority.directory / "issued" / label
    key = issue.make_key(checked_key_kind(kind))
    authority.issue(wanted, names, now_s=time.time(), key=key, label=label, place=place)
    print(place / "cert.pem")
    return 0


def _sign(given: Parsed, authority: Authority) -> int:
    if len(given.words) != 1:
        raise UsageError("knarr pki sign needs a signing request", hint="name its file, or - for standard input")
    from knarr.pki import files
    from knarr.pki.issue import subject_of
    from knarr.pki.settings import Use

    path = given.words[0]
    request = files.request(file(path), where=path)
    names = _names(given, request)
    use = Use.PEER if given.switch("peer") else Use.CLIENT if given.switch("client") else Use.SERVER
    wanted = _wanted(given, subject_of(request.subject), use)
    made = authority.issue(wanted, names, now_s=time.time(), request=request)
    text = files.pem(*made.chain)
    if given.text("out"):
        files.write(Path(given.text("out")), text)
    else:
        sys.stdout.write(text.decode())
    return 0


def _names(given: Parsed, request: Request) -> Names:
    from knarr.pki.names import Names, of_certificate

    return Names.parse(given.list("name")) if given.list("name") else of_certificate(request)


def _wanted(given: Parsed, who: object, use: Use) -> Wanted:
    from knarr.pki import cfssl
    from knarr.pki.settings import Wanted, parse_lifetime

    lifetime_s = parse_lifetime(given.text("lifetime") or _DEFAULT)
    if given.text("config"):
        found = cfssl.profiles(file(given.text("config")), where=given.text("config"))
        name = given.text("profile")
        if name not in found:
            known = ", ".join(filter(None, found)) or "none"
            raise UsageError(f"{given.text('config')} has no profile {name!r}", hint=f"it has {known}")
        use = found[name].use
        if not given.text("lifetime"):
            lifetime_s = found[name].lifetime_s
    elif given.text("profile"):
        raise UsageError("--profile needs --config", hint="name the configuration that has the profile")
    return Wanted(who, use, lifetime_s)  # type: ignore[arg-type]  # a Subject, which is not imported before it is needed
