"""`knarr serve --kubernetes`: manifests that run it in a cluster, on standard output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.serve.kubernetes import Plan

FLAGS = (
    Flag("image", Kind.TEXT, "IMAGE", "the image to run: one that has `knarr`, crun and qemu"),
    Flag("hostname", Kind.TEXT, "HOST[:PORT]", "what references call the registry (default: NAME.NAMESPACE.svc)"),
    Flag("name", Kind.TEXT, "NAME", "of the objects (default: knarr)"),
    Flag("namespace", Kind.TEXT, "NAME", "where they go (default: knarr)", short="n"),
    Flag("storage", Kind.TEXT, "SIZE", "for the cache and the images (default: 50Gi)"),
    Flag("storage-class", Kind.TEXT, "NAME", "of the volume (default: the cluster's)"),
    Flag("cpu", Kind.TEXT, "AMOUNT", "to ask for (default: 1)"),
    Flag("memory", Kind.TEXT, "SIZE", "to ask for (default: 2Gi)"),
    Flag("rootless", Kind.SWITCH, "", "a user namespace for the pod instead of a privileged one (Kubernetes 1.33)"),
    Flag("tls-secret", Kind.TEXT, "NAME", "secret with tls.crt, tls.key and ca.crt, as cert-manager makes them"),
    Flag("tls-cert", Kind.TEXT, "FILE", "make that secret: the certificate of registry and daemon"),
    Flag("tls-key", Kind.TEXT, "FILE", "its key"),
    Flag("tls-ca", Kind.TEXT, "FILE", "the CA whose certificates may build"),
    Flag("htpasswd-secret", Kind.TEXT, "NAME", "secret with the registry's accounts, under the key htpasswd"),
    Flag("htpasswd", Kind.TEXT, "FILE", "make that secret"),
    Flag("pull-secret", Kind.TEXT, "NAME", "secret with the login for the image's registry"),
    Flag("allow-namespace", Kind.LIST, "NAME", "let pods of this namespace come, besides those of its own"),
    Flag("allow-cidr", Kind.LIST, "CIDR", "let this network reach the registry, such as that of the nodes"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?(:\d{1,5})?")
_AMOUNT = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")
_CIDR = re.compile(r"[0-9a-fA-F.:]+/\d{1,3}")


def help_text() -> str:
    """What `knarr serve --kubernetes --help` prints."""
    return (
        "Usage: knarr serve --kubernetes --image IMAGE [OPTIONS] | kubectl apply -f -\n\n"
        "Print manifests that run `knarr serve` in a cluster: a StatefulSet with its volume, secrets, configuration,\n"
        "Service and NetworkPolicy. The daemon takes clients with certificates only; `knarr pki` makes them.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr serve --kubernetes ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr serve --kubernetes")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr serve --kubernetes")
    plan = plan_of(given)
    from knarr.serve.kubernetes import manifests, text

    print(text(manifests(plan)), end="")
    return 0


def plan_of(given: Parsed) -> Plan:
    """What the flags ask for.

    Raises:
        UsageError: something is missing, or cannot be meant.
    """
    from knarr.serve.kubernetes import Plan

    if not given.text("image"):
        raise UsageError("--image is needed", hint="name an image that has `knarr`, crun and qemu")
    name, namespace = _checked(given, "name", _NAME, "knarr"), _checked(given, "namespace", _NAME, "knarr")
    return Plan(
        image=given.text("image"),
        hostname=_checked(given, "hostname", _HOST, f"{name}.{namespace}.svc"),
        name=name,
        namespace=namespace,
        storage=_checked(given, "storage", _AMOUNT, "50Gi"),
        storage_class=given.text("storage-class"),
        cpu=_checked(given, "cpu", _AMOUNT, "1"),
        memory=_checked(given, "memory", _AMOUNT, "2Gi"),
        rootless=given.switch("rootless"),
        tls_secret=given.text("tls-secret"),
        certificates=_certificates(given),
        htpasswd_secret=given.text("htpasswd-secret"),
        htpasswd=_read(given.text("htpasswd")) if given.text("htpasswd") else b"",
        pull_secret=given.text("pull-secret"),
        namespaces=given.list("allow-namespace"),
        networks=tuple(_matching("allow-cidr", cidr, _CIDR) for cidr in given.list("allow-cidr")),
    )


def _checked(given: Parsed, flag: str, form: re.Pattern[str], default: str) -> str:
    return _matching(flag, given.text(flag, default), form)


def _matching(flag: str, text: str, form: re.Pattern[str]) -> str:
    if form.fullmatch(text) is None:
        raise UsageError(f"--{flag} {text}: Kubernetes takes no such value")
    return text


def _certificates(given: Parsed) -> dict[str, bytes]:
    files = {"tls.crt": given.text("tls-cert"), "tls.key": given.text("tls-key"), "ca.crt": given.text("tls-ca")}
    if not any(files.values()):
        if given.text("tls-secret"):
            return {}
        raise UsageError(
            "the daemon needs certificates: who may build may run anything",
            hint="--tls-secret NAME, or --tls-cert, --tls-key and --tls-ca; `knarr pki` makes them",
        )
    if not all(files.values()):
        raise UsageError("--tls-cert, --tls-key and --tls-ca go together")
    return {name: _read(path) for name, path in files.items()}


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
