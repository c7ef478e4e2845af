"""The flags of `knarr run` and `knarr create`, and what each of them asks for. They are docker's and nerdctl's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr.cli.attached import keys_of
from knarr.cli.buildvalues import add_hosts, size_bytes, ulimits
from knarr.cli.flags import Flag, Kind, Parsed
from knarr.cli.runmounts import mounts_of
from knarr.containers import names
from knarr.containers.callers import number_of
from knarr.containers.create import GATEWAY, Asked
from knarr.containers.spec import Limit, Port
from knarr.errors import UsageError
from knarr.runtime import capabilities
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.containers.create import Pull

FLAGS = (
    Flag("detach", Kind.SWITCH, "", "run in the background, and print the container's ID", short="d"),
    Flag("interactive", Kind.SWITCH, "", "standard input is the container's", short="i"),
    Flag("tty", Kind.SWITCH, "", "the container has a terminal", short="t"),
    Flag("rm", Kind.SWITCH, "", "remove the container when it has ended, and its anonymous volumes"),
    Flag("name", Kind.TEXT, "NAME", "what the container is called (default: two words)"),
    Flag("env", Kind.LIST, "NAME=VALUE", "set a variable; NAME alone takes the value it has here", short="e"),
    Flag("env-file", Kind.LIST, "FILE", "variables from a file, one a line"),
    Flag("volume", Kind.LIST, "SOURCE:TARGET[:ro]", "show a directory of this machine, or a volume by name", short="v"),
    Flag("mount", Kind.LIST, "type=TYPE,…", "the same at length: bind, volume or tmpfs"),
    Flag("tmpfs", Kind.LIST, "TARGET[:OPTIONS]", "show an empty memory file system"),
    Flag("user", Kind.TEXT, "USER[:GROUP]", "run as this user of the image, or this number", short="u"),
    Flag("workdir", Kind.TEXT, "DIR", "where the command begins", short="w"),
    Flag("entrypoint", Kind.TEXT, "COMMAND", "instead of the image's entrypoint"),
    Flag(
        "network", Kind.TEXT, "NAME", "bridge, host, none or a CNI network's name (default: bridge as root, else host)"
    ),
    Flag("net", Kind.TEXT, "NAME", "the same"),
    Flag("publish", Kind.LIST, "[[IP:]PORT:]PORT[/udp]", "lead a port of this machine to the container", short="p"),
    Flag("publish-all", Kind.SWITCH, "", "lead a free port of this machine to each one the image exposes", short="P"),
    Flag("add-host", Kind.LIST, "NAME:ADDRESS", "a line of /etc/hosts; host-gateway is this machine"),
    Flag("dns", Kind.LIST, "ADDRESS", "a name server instead of this machine's"),
    Flag("dns-search", Kind.LIST, "DOMAIN", "where short names are looked for"),
    Flag("dns-option", Kind.LIST, "OPTION", "an option of the resolver"),
    Flag("hostname", Kind.TEXT, "NAME", "what the container takes itself for", short="h"),
    Flag("platform", Kind.TEXT, "PLATFORM", "the image for this platform, by emulation if need be"),
    Flag("pull", Kind.TEXT, "WHEN", "missing (the default), always or never"),
    Flag("read-only", Kind.SWITCH, "", "the image's files cannot be changed"),
    Flag("cap-add", Kind.LIST, "NAME", "a capability more; ALL for all"),
    Flag("cap-drop", Kind.LIST, "NAME", "a capability less; ALL for all"),
    Flag("privileged", Kind.SWITCH, "", "every right this process has, and the machine's devices"),
    Flag("security-opt", Kind.LIST, "OPTION", "no-new-privileges, seccomp=unconfined"),
    Flag("shm-size", Kind.TEXT, "BYTES", "size of /dev/shm, as 128m (default: 64m)"),
    Flag("ulimit", Kind.LIST, "NAME=SOFT[:HARD]", "a limit of the process, as nofile=1024"),
    Flag("memory", Kind.TEXT, "SIZE", "memory at most, such as 2g", short="m"),
    Flag("memory-swap", Kind.TEXT, "SIZE", "memory and swap together; -1: as much swap as there is"),
    Flag("cpus", Kind.TEXT, "N", "processors at most, such as 1.5"),
    Flag("cpu-shares", Kind.TEXT, "N", "weight against others when processors are scarce (default: 1024)", short="c"),
    Flag("cpu-period", Kind.TEXT, "N", "length in microseconds of the period that --cpu-quota is about"),
    Flag("cpu-quota", Kind.TEXT, "N", "processor time in each period, in microseconds"),
    Flag("cpuset-cpus", Kind.TEXT, "LIST", "only these processors, as 0-2,4"),
    Flag("cpuset-mems", Kind.TEXT, "LIST", "only these memory nodes"),
    Flag("pids-limit", Kind.TEXT, "N", "processes and threads at most; -1: as many as the machine allows"),
    Flag("init", Kind.SWITCH, "", "a small init (tini) is the first process: it passes signals on, and reaps"),
    Flag("stop-signal", Kind.TEXT, "SIGNAL", "what `knarr stop` sends (default: the image's, or TERM)"),
    Flag(
        "stop-timeout", Kind.TEXT, "SECONDS", "how long `knarr stop` waits before it kills (default: 10; -1: for ever)"
    ),
    Flag("label", Kind.LIST, "NAME=VALUE", "note something about the container", short="l"),
    Flag("label-file", Kind.LIST, "FILE", "labels from a file, one a line"),
    Flag("cidfile", Kind.TEXT, "FILE", "write the container's ID to a new file"),
    Flag("detach-keys", Kind.TEXT, "KEYS", "what leaves a terminal, the container going on (default: ctrl-p,ctrl-q)"),
    Flag(
        "verify", Kind.TEXT, "FILE", "refuse images that this trust policy does not let pass (default: $KNARR_VERIFY)"
    ),
    Flag("quiet", Kind.SWITCH, "", "no progress while the image is fetched", short="q"),
    Flag("restart", Kind.REFUSED, "", "a supervisor such as systemd restarts what has ended", off=("no", "")),
    Flag("gpus", Kind.REFUSED, "", "devices of steps are described by CDI; containers have none yet"),
    Flag("device", Kind.REFUSED, "", "use --privileged, which shows the usual devices"),
    Flag("pid", Kind.REFUSED, "", "a container has process numbers of its own"),
    Flag("ipc", Kind.REFUSED, "", "a container has memory of its own", off=("private",)),
    Flag("volumes-from", Kind.REFUSED, "", "name the volumes: --volume NAME:PATH"),
    Flag("link", Kind.REFUSED, "", "use --add-host, or names of a CNI network"),
    Flag("userns", Kind.REFUSED, "", "run knarr as a plain user: everything then is in its user namespace"),
    Flag("help", Kind.SWITCH, "", "show this text"),
)


def asked(given: Parsed, words: list[str], environ: Mapping[str, str]) -> Asked:
    """What the flags and the words (image, command) ask for.

    Raises:
        UsageError: one of them cannot be meant.
    """
    name = given.text("name")
    if name:
        names.check(name)
    for word in given.list("security-opt"):
        if word not in ("no-new-privileges", "no-new-privileges=true", "no-new-privileges=false", "seccomp=unconfined"):
            raise UsageError(f"--security-opt {word}: not known", hint="no-new-privileges or seccomp=unconfined")
    keys_of(given.text("detach-keys"))
    if given.text("stop-signal"):
        number_of(given.text("stop-signal"))
    return Asked(
        image=words[0],
        args=tuple(words[1:]),
        name=name,
        entrypoint=given.text("entrypoint") if "entrypoint" in given.values else None,
        env=environment(given, environ),
        cwd=absolute("workdir", given.text("workdir")),
        user=given.text("user"),
        hostname=given.text("hostname"),
        labels=dict(pair.partition("=")[::2] for pair in (*_files(given, "label-file"), *given.list("label"))),
        platform=Platform.parse(given.text("platform")) if given.text("platform") else None,
        terminal=given.switch("tty"),
        stdin=given.switch("interactive"),
        detached=given.switch("detach"),
        remove=given.switch("rm"),
        readonly=given.switch("read-only"),
        privileged=given.switch("privileged"),
        init=given.switch("init"),
        mounts=mounts_of(given),
        network=given.text("network") or given.text("net"),
        ports=tuple(port for text in given.list("publish") for port in ports_of(text)),
        all_ports=given.switch("publish-all"),
        extra_hosts=_hosts(given.list("add-host")),
        dns=tuple(map(_address, given.list("dns"))),
        dns_search=given.list("dns-search"),
        dns_options=given.list("dns-option"),
        cap_add=tuple(_capability("cap-add", word) for word in given.list("cap-add")),
        cap_drop=tuple(_capability("cap-drop", word) for word in given.list("cap-drop")),
        security=given.list("security-opt"),
        shm_size_bytes=_bytes(given),
        limits=tuple(Limit(one.name, one.soft, one.hard) for one in ulimits(given.list("ulimit"))),
        resources=_resources(given),
        stop_signal=given.text("stop-signal"),
        stop_timeout_s=seconds("stop-timeout", given.text("stop-timeout", "10")),
        detach_keys=given.text("detach-keys") or "ctrl-p,ctrl-q",
    )


def pull_of(given: Parsed) -> Pull:
    """When the image is asked for at its registry.

    Raises:
        UsageError: that is not known.
    """
    text = given.text("pull", "missing")
    for known in ("missing", "always", "never"):
        if text == known:
            return known
    raise UsageError(f"--pull {text}: not known", hint="use missing, always or never")


def environment(given: Parsed, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of `--env-file` and `--env`, in that order.

    Raises:
        UsageError: one has no name, or a file cannot be read.
    """
    found = []
    for text in (*_files(given, "env-file"), *given.list("env")):
        name, equals, _ = text.partition("=")
        if not name:
            raise UsageError(f"--env {text!r}: there is no name", hint="write --env NAME=VALUE")
        found.append(text if equals or name not in environ else f"{name}={environ[name]}")
    return tuple(found)


def _files(given: Parsed, flag: str) -> list[str]:
    """The lines of the files; empty ones, and those that begin with #, say nothing."""
    lines = []
    for path in given.list(flag):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError as error:
            raise UsageError(f"--{flag} {path}: {error.strerror}") from error
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
            line = line.lstrip()
            if not line or line.startswith("#"):
                continue
            name = line.partition("=")[0]
            if any(c.isspace() for c in name) or "\0" in line:
                raise UsageError(f"{path}:{number}: {name!r} is no name of a variable", hint="write NAME=VALUE")
            lines.append(line)
    return lines


def absolute(flag: str, path: str) -> str:
    """`path`, which must be absolute if it is given.

    Raises:
        UsageError: it is not.
    """
    if path and not path.startswith("/"):
        raise UsageError(f"--{flag} {path}: not an absolute path of the container")
    return path


def ports_of(text: str) -> list[Port]:
    """The ports of one `--publish`: `[[IP:]PORT:]PORT[/PROTOCOL]`, or ranges of equal length.

    Raises:
        UsageError: that is not one.
    """
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    front, _, inner = rest.rpartition(":")
    address, _, outer = front.rpartition(":")
    address = _address(address.removeprefix("[").removesuffix("]")) if address else ""
    try:
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"{protocol or 'nothing'} is no protocol: use tcp or udp")
        inside = _range(inner)
        outside = _range(outer) if outer else [0] * len(inside)
        if len(inside) != len(outside):
            raise ValueError("the two ranges have different lengths")
    except ValueError as error:
        raise UsageError(f"--publish {text}: {error}", hint="for example --publish 8080:80") from None
    return [Port(there, here, address, protocol) for there, here in zip(inside, outside, strict=True)]


def _range(text: str) -> list[int]:
    first, dash, last = text.partition("-")
    numbers = [_port(first), _port(last if dash else first)]
    if numbers[1] < numbers[0]:
        raise ValueError(f"{text} is no range")
    return list(range(numbers[0], numbers[1] + 1))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is no port")
    return int(text)


def _address(text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(f"{text!r} is not an IP address") from None


def _capability(flag: str, word: str) -> str:
    name = word.upper()
    if name == "ALL":
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in capabilities.known():
        from difflib import get_close_matches

        near = get_close_matches(name, sorted(capabilities.known()), n=1)
        raise UsageError(f"--{flag} {word}: not a capability", hint=f"did you mean {near[0]}?" if near else "")
    return name


def _bytes(given: Parsed) -> int:
    return size_bytes("--shm-size", given.text("shm-size")) if given.text("shm-size") else 64 << 20


def _hosts(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Names and addresses; where this machine is met depends on the network, which is not known here."""
    found: list[tuple[str, str]] = []
    for text in texts:
        name, _, address = text.replace("=", ":", 1).partition(":")
        found += [(name, GATEWAY)] if name and address == GATEWAY else add_hosts([text])
    return tuple(found)


def _resources(given: Parsed) -> dict[str, int | str]:
    """The limits that are set, by the names of `LinuxResources`."""
    from knarr.cli.buildlimits import read_limits
    from knarr.llb.ops import LinuxResources

    pids = given.text("pids-limit")
    more = [f"cpus={given.text('cpus')}"] if given.text("cpus") not in ("", "0") else []
    more += [f"pids={pids}"] if pids not in ("", "-1", "0") else []
    found = read_limits(Parsed({**given.values, "resource": more}))
    return {name: value for name in LinuxResources.__annotations__ if (value := getattr(found, name))}


def seconds(flag: str, text: str) -> float:
    """A number of seconds; -1 is for ever.

    Raises:
        UsageError: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not -1 <= found < 10**9:
        raise UsageError(f"--{flag} {text}: not a number of seconds")
    return found


def cidfile(path: str) -> int:
    """A new file for the container's ID.

    Raises:
        UsageError: it is there already, or cannot be made.
    """
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise UsageError(f"--cidfile {path}: it is there already", hint="remove it, if its container is gone") from None
    except OSError as error:
        raise UsageError(f"--cidfile {path}: {error.strerror}") from error
