"""What `knarr kubernetes job` and `pod` are told: one command, its mounts, and how much the cluster grants it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.serve.pods import Run

PROFILES = "privileged, userns (a user namespace for the pod, Kubernetes 1.33), baseline or restricted"
FLAGS = (
    Flag("image", Kind.TEXT, "IMAGE", "the image to run, such as the one that `knarr node build` makes"),
    Flag("profile", Kind.TEXT, "NAME", f"what the cluster grants: {PROFILES} (the default)"),
    Flag("name", Kind.TEXT, "NAME", "of the object (default: knarr)"),
    Flag("namespace", Kind.TEXT, "NAME", "where it goes (default: default)", short="n"),
    Flag("registry-secret", Kind.TEXT, "NAME", "secret with logins, of type kubernetes.io/dockerconfigjson"),
    Flag("ca", Kind.TEXT, "NAME", "config map whose ca.crt is an authority to believe"),
    Flag("state-claim", Kind.TEXT, "NAME", "volume claim that keeps the cache (default: gone with the pod)"),
    Flag("context-claim", Kind.TEXT, "NAME", "volume claim with the build context, at /workspace"),
    Flag("secret", Kind.LIST, "NAME", "secret whose keys are files below /etc/knarr/secrets/NAME"),
    Flag("pull-secret", Kind.TEXT, "NAME", "secret with the login for the image's registry"),
    Flag("env", Kind.LIST, "NAME=VALUE", "a variable of the environment", short="e"),
    Flag("cpu", Kind.TEXT, "AMOUNT", "to ask for (default: 1)"),
    Flag("memory", Kind.TEXT, "SIZE", "to ask for (default: 2Gi)"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
# Names of objects: RFC 1123 labels, and subdomains where Kubernetes takes them. Spec: "Object Names and IDs".
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_AMOUNT = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*=[^\0]*", re.DOTALL)


def run_of(given: Parsed, usual: tuple[str, ...]) -> Run:
    """The command and its surroundings; `usual` is the command where none is given.

    Raises:
        UsageError: something is missing, or Kubernetes would not take it.
    """
    from knarr.serve.pods import SECURITY, Run

    if not given.text("image"):
        raise UsageError("--image is needed", hint="name an image that has knarr; `knarr node build` makes one")
    words = given.words or usual
    if not words:
        raise UsageError("a knarr command is needed", hint="… -- build --push -t REGISTRY/NAME:TAG https://…")
    profile = given.text("profile", "restricted")
    if profile not in SECURITY:
        raise UsageError(f"--profile {profile}: not known", hint=f"use {PROFILES}")
    for each in given.list("env"):
        _matching("env", each, _VARIABLE)
    return Run(
        given.text("image"),
        profile,
        tuple(words[1:] if words[0] == "knarr" else words),
        name=_checked(given, "name", _LABEL, "knarr"),
        namespace=_checked(given, "namespace", _LABEL, "default"),
        logins=_checked(given, "registry-secret", _SUBDOMAIN),
        ca=_checked(given, "ca", _SUBDOMAIN),
        state=_checked(given, "state-claim", _SUBDOMAIN),
        context=_checked(given, "context-claim", _SUBDOMAIN),
        secrets=tuple(_matching("secret", each, _SUBDOMAIN) for each in given.list("secret")),
        pull_secret=_checked(given, "pull-secret", _SUBDOMAIN),
        cpu=_checked(given, "cpu", _AMOUNT, "1"),
        memory=_checked(given, "memory", _AMOUNT, "2Gi"),
        environment=dict(each.partition("=")[::2] for each in given.list("env")),
    )


def _checked(given: Parsed, flag: str, form: re.Pattern[str], default: str = "") -> str:
    text = given.text(flag, default)
    return _matching(flag, text, form) if text else ""


def _matching(flag: str, text: str, form: re.Pattern[str]) -> str:
    if form.fullmatch(text) is None:
        raise UsageError(f"--{flag} {text}: Kubernetes takes no such value")
    return text


def number_of(given: Parsed, flag: str, default: int, least: int) -> int:
    """A whole number that a flag says.

    Raises:
        UsageError: it is none, or too small.
    """
    text = given.text(flag, str(default))
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise UsageError(f"--{flag} {text}: not a whole number of at least {least}")
    return int(text)
