"""`knarr daemon`: serve BuildKit's API, with buildkitd's flags and its configuration file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.config import StepNetwork
    from knarr.daemon.server import Daemon
    from knarr.daemon.settings import DaemonSettings

FLAGS = (
    Flag("addr", Kind.LIST, "ADDRESS", "listen there: unix:///PATH, tcp://HOST:PORT, fd:// (sockets of systemd's)"),
    Flag("allow-insecure-entitlement", Kind.LIST, "NAME", "let builds ask for network.host or security.insecure"),
    Flag("cdi-disabled", Kind.SWITCH, "", "give no devices to steps (CDI)"),
    Flag("config", Kind.TEXT, "FILE", "buildkitd.toml to read (default: /etc/buildkit/buildkitd.toml)"),
    Flag("containerd-worker", Kind.TEXT, "BOOL", "true: build on containerd's snapshots, leave images there, too"),
    Flag("containerd-worker-addr", Kind.TEXT, "SOCKET", "its socket (default: /run/containerd/containerd.sock)"),
    Flag("containerd-worker-namespace", Kind.TEXT, "NAME", "the namespace there (default: buildkit)"),
    Flag("containerd-worker-snapshotter", Kind.TEXT, "NAME", "its snapshotter (default: overlayfs)"),
    Flag("debug", Kind.SWITCH, "", "write more to the log"),
    Flag("debugaddr", Kind.TEXT, "HOST:PORT", "answer there over HTTP: /metrics (Prometheus), /healthz, /readyz"),
    Flag("drain-timeout", Kind.TEXT, "SECONDS", "how long builds may go on after SIGTERM (default: 10)"),
    Flag("group", Kind.TEXT, "GROUP", "group (name or number) that may use the unix sockets"),
    Flag("oci-cni-binary-dir", Kind.TEXT, "DIRECTORY", "where CNI plugins lie (default: the usual places)"),
    Flag("oci-cni-config-path", Kind.TEXT, "FILE", "CNI configuration (default: /etc/buildkit/cni.json)"),
    Flag("oci-cni-pool-size", Kind.TEXT, "N", "networks a build keeps for its next steps (default: the processors)"),
    Flag("oci-worker-binary", Kind.TEXT, "PROGRAM", "runtime for RUN steps: runc, crun, or the path of one"),
    Flag("oci-worker-gc", Kind.SWITCH, "", "remove what was not used for long, by the policy (default: true)"),
    Flag("oci-worker-labels", Kind.LIST, "KEY=VALUE", "label of the worker"),
    Flag("oci-worker-net", Kind.TEXT, "MODE", "network of RUN steps: auto (default), host, cni, bridge or user"),
    Flag("oci-worker-platform", Kind.LIST, "PLATFORM", "platforms to announce, instead of those found here"),
    Flag("oci-worker-snapshotter", Kind.TEXT, "NAME", "overlayfs, native or auto"),
    Flag("otel-socket-path", Kind.TEXT, "SOCKET", "take spans of steps there (OTLP), and tell steps of it"),
    Flag("root", Kind.TEXT, "DIRECTORY", "state directory (default: KNARR_ROOT, or /var/lib/knarr)"),
    Flag("tlscacert", Kind.TEXT, "FILE", "CA that signed the certificates of clients, which must show one then"),
    Flag("tlscert", Kind.TEXT, "FILE", "the daemon's certificate"),
    Flag("tlskey", Kind.TEXT, "FILE", "its key"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
    Flag("version", Kind.SWITCH, "", "show the version", short="v"),
)
# Flags of buildkitd's that ask for nothing a daemon of ours could do otherwise.
_WITHOUT_EFFECT = (
    *("log-format", "log-level", "cdi-spec-dir", "oci-worker-apparmor-profile"),
    *("oci-worker-proxy-snapshotter-path", "oci-max-parallelism", "oci-worker-gc-keepstorage", "oci-worker"),
    *("containerd-worker-labels", "containerd-worker-net"),
    *("containerd-cni-config-path", "containerd-cni-binary-dir", "containerd-cni-pool-size"),
    *("containerd-worker-apparmor-profile", "containerd-max-parallelism"),
    "containerd-worker-gc-keepstorage",
)
_SWITCHES_WITHOUT_EFFECT = (
    *("save-cache-debug", "containerd-worker-selinux", "containerd-worker-rootless"),
    *("containerd-worker-gc", "oci-worker-selinux", "oci-worker-rootless", "rootless", "proxy-network"),
    "oci-worker-no-process-sandbox",
)
ALL = (
    *FLAGS,
    *(Flag(name, Kind.LIST) for name in _WITHOUT_EFFECT),
    *(Flag(name, Kind.SWITCH) for name in _SWITCHES_WITHOUT_EFFECT),
)
_OFF = ("false", "auto", "")
_ON = ("true", "1")


def help_text() -> str:
    """What `knarr daemon --help` prints."""
    return (
        "Usage: knarr daemon [OPTIONS]\n\n"
        "Serve BuildKit's API: buildctl and docker buildx build with knarr unchanged. Other flags of\n"
        "buildkitd's are accepted and have no effect.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr daemon ARGUMENTS`: serves until it is told to stop."""
    given = parse(ALL, argv, command="knarr daemon")
    if given.switch("help"):
        print(help_text())
        return 0
    if given.switch("version"):
        from knarr.cli.version import run as show

        return show([])
    no_words(given, "knarr daemon")
    settings = settings_of(given)
    log_to_stderr(settings)
    from knarr.daemon.server import Daemon, log
    from knarr.snapshot.namespace import take_rights

    take_rights(os.environ)
    with Daemon(settings, signals=True) as daemon:
        introduce(daemon)
        daemon.wait()
        log.info("stopping server")
    return 0


def buildkitd() -> int:
    """The program `knarr-buildkitd`: `knarr daemon` under a name that a link called buildkitd may lead to."""
    from knarr.cli import main

    return main(["daemon", *sys.argv[1:]])


def log_to_stderr(settings: DaemonSettings) -> None:
    """Begin the log with what was asked for in vain."""
    import logging

    logging.basicConfig(
        level=logging.DEBUG if settings.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    for warning in settings.warnings:
        logging.getLogger("knarr.daemon").warning("%s", warning)


def introduce(daemon: Daemon) -> None:
    """Tell where it serves."""
    from knarr.daemon.server import log

    log.info("running server on %s, state in %s", ", ".join(daemon.addresses), daemon.settings.root)
    if daemon.debug_address:
        log.info("metrics at http://%s/metrics", daemon.debug_address)


def settings_of(given: Parsed, *, apart: str = "") -> DaemonSettings:
    """The settings: flags over the file (without its table `apart`) over the defaults.

    Raises:
        UsageError: a value that cannot be meant.
    """
    from knarr.config import state_root
    from knarr.daemon.settings import DaemonSettings
    from knarr.remote.settings import BUILDKITD_TOML

    settings = DaemonSettings(Path(state_root(os.environ)), warnings=tuple(_in_vain(given)))
    path = given.text("config")
    if path or os.path.exists(BUILDKITD_TOML):
        from knarr.daemon.configfile import read

        settings = read(path or BUILDKITD_TOML, settings, apart=apart)
    return _with_flags(settings, given)


def _with_flags(settings: DaemonSettings, given: Parsed) -> DaemonSettings:
    from knarr.daemon.settings import Tls
    from knarr.record import replace

    tls = Tls(given.text("tlscert"), given.text("tlskey"), given.text("tlscacert"))
    settings = replace(settings, **_containerd(given, settings))
    return replace(
        settings,
        root=Path(os.path.abspath(given.text("root"))) if given.text("root") else settings.root,
        addresses=given.list("addr") or settings.addresses,
        group=given.text("group") or settings.group,
        tls=tls if tls != Tls() else settings.tls,
        debug=given.switch("debug") or settings.debug,
        debug_address=given.text("debugaddr") or settings.debug_address,
        trace_socket=given.text("otel-socket-path") or settings.trace_socket,
        entitlements=given.list("allow-insecure-entitlement") or settings.entitlements,
        gives_devices=settings.gives_devices and not given.switch("cdi-disabled"),
        labels={**settings.labels, **_labels(given.list("oci-worker-labels"))},
        platforms=given.list("oci-worker-platform") or settings.platforms,
        snapshotter=_snapshotter(given.text("oci-worker-snapshotter")) or settings.snapshotter,
        oci_runtime=given.text("oci-worker-binary") or settings.oci_runtime,
        network=_network(settings.network, given),
        collects=given.text("oci-worker-gc", str(settings.collects).lower()) == "true",
        drain_s=_seconds(given.text("drain-timeout"), settings.drain_s),
    )


def _containerd(given: Parsed, settings: DaemonSettings) -> dict[str, Any]:
    """What `--containerd-worker` and the flags beside it change. By itself (auto) no containerd is looked for."""
    from knarr.config import Containerd
    from knarr.daemon.settings import CONTAINERD_NAMESPACE

    wanted = given.text("containerd-worker", "true" if settings.containerd is not None else "auto")
    if wanted not in _ON:
        return {"containerd": None, "snapshotter": settings.snapshotter if settings.containerd is None else ""}
    known = settings.containerd or Containerd()
    where = Containerd(
        given.text("containerd-worker-addr").removeprefix("unix://") or known.address,
        given.text("containerd-worker-namespace") or known.namespace or CONTAINERD_NAMESPACE,
    )
    named = given.text("containerd-worker-snapshotter")
    if not named and settings.containerd is not None:
        return {"containerd": where}
    return {"containerd": where, "snapshotter": f"containerd:{named or 'overlayfs'}"}


def _network(base: StepNetwork, given: Parsed) -> StepNetwork:
    from knarr.config import NETWORKS
    from knarr.record import replace

    mode, pool = given.text("oci-worker-net") or base.mode, given.text("oci-cni-pool-size")
    if mode not in NETWORKS:
        raise UsageError(f"--oci-worker-net={mode}: not known", hint=f"use one of: {', '.join(NETWORKS)}")
    if pool and not pool.isdecimal():
        raise UsageError(f"--oci-cni-pool-size={pool}: not a number")
    directory = given.text("oci-cni-binary-dir")
    return replace(
        base,
        mode=mode,
        cni_config=given.text("oci-cni-config-path") or base.cni_config,
        plugin_dirs=(directory,) if directory else base.plugin_dirs,
        pool=int(pool) if pool else base.pool,
    )


def _in_vain(given: Parsed) -> list[str]:
    """What was asked for that this daemon does not do.

    Raises:
        UsageError: nothing is left that could build.
    """
    if given.text("oci-worker") in ("false", "0") and given.text("containerd-worker") not in _ON:
        raise UsageError("--oci-worker=false leaves no worker", hint="leave it out, or add --containerd-worker=true")
    names = (*_WITHOUT_EFFECT, *_SWITCHES_WITHOUT_EFFECT)
    used = [name for name in names if given.text(name) not in _OFF and name not in ("oci-worker", "log-level")]
    return [f"--{name} has no effect here" for name in used]


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [part.partition("=") for text in texts for part in text.split(",") if part]
    for key, equals, value in pairs:
        if not key or not equals:
            raise UsageError(f"--oci-worker-labels {key}{equals}{value}: not KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _snapshotter(name: str) -> str:
    if name in ("", "auto"):
        return ""
    if name not in ("overlayfs", "fuse-overlayfs", "native"):
        raise UsageError(f"--oci-worker-snapshotter {name}: not known", hint="use overlayfs or native")
    return name


def _seconds(text: str, default: float) -> float:
    if not text:
        return default
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        raise UsageError(f"--drain-timeout {text}: not a number of seconds") from None
    return max(0.0, seconds)
