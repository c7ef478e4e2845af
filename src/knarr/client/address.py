"""Where a builder listens, from text to record. Nothing is opened.

    read_address("tcp://builder.corp.example:1234").target     # "builder.corp.example:1234"
    read_address("ssh://ci@build-1").command                   # ("ssh", "-l", "ci", …, "build-1", "--", …)

Spec: BuildKit's client/connhelper at v0.33, whose forms these are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, parse_qs, urlsplit

from knarr.errors import UsageError
from knarr.record import record

# What becomes a word of a command line: nothing that could be taken for a flag of it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:/-]*")
_POD = re.compile(r"[a-z0-9][-a-z0-9.]*")
_DIAL = ("buildctl", "dial-stdio")


@record
class Address:
    """`target` is a path or HOST:PORT; or `command` is what connects its standard input and output with the builder."""

    text: str
    kind: str
    target: str = ""
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


def is_address(text: str) -> bool:
    """Whether `text` is an address and not the name of a builder."""
    return "://" in text


def read_address(text: str) -> Address:
    """The address a user wrote.

    Raises:
        UsageError: nothing that can be reached.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise UsageError(f"builder {text}: {error}", hint=_forms()) from error
    if url.password:
        raise UsageError(
            f"builder {url.scheme}://…@{url.hostname}: a password has no place in an address", hint="use keys"
        )
    if url.scheme == "unix":
        return Address(text, "unix", _socket(text))
    if url.scheme == "tcp":
        if not url.hostname or not port or url.path not in ("", "/"):
            raise UsageError(f"builder {text}: not tcp://HOST:PORT", hint="buildkitd has no port of its own: name it")
        return Address(text, "tcp", url.netloc)
    reader = _COMMANDS.get(url.scheme)
    if reader is None:
        raise UsageError(f"builder {text}: this kind of address is not known", hint=_forms())
    return Address(text, url.scheme, command=reader(url, _query(text, url)))


def _forms() -> str:
    return f"addresses begin with: {', '.join(f'{kind}://' for kind in ('unix', 'tcp', *_COMMANDS))}"


def _socket(text: str) -> str:
    path = text.removeprefix("unix://")
    if not path.startswith("/"):
        raise UsageError(f"builder {text}: the path of a socket begins with a slash", hint="write unix:///run/…")
    return path


def _query(text: str, url: SplitResult) -> Mapping[str, str]:
    known = _QUERIES[url.scheme]
    given = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
    unknown = [key for key in given if key not in known]
    if unknown or url.fragment:
        hint = f"known are: {', '.join(known)}" if known else f"{url.scheme}:// has none"
        raise UsageError(f"builder {text}: there is no option {(unknown or ['#'])[0]!r}", hint=hint)
    return {key: _word(value, text) for key, value in given.items() if value}


def _word(value: str, text: str, pattern: re.Pattern[str] = _NAME) -> str:
    if not pattern.fullmatch(value):
        raise UsageError(
            f"builder {text}: {value!r} is no name" if value else f"builder {text}: there is no name in it"
        )
    return value


def _ssh(url: SplitResult, options: Mapping[str, str]) -> tuple[str, ...]:
    """The far side has buildctl, or else knarr itself, to connect us with the daemon's socket."""
    words = ["ssh", "-T"]
    if url.username:
        words += ["-l", _word(url.username, url.geturl())]
    if url.port:
        words += ["-p", str(url.port)]
    where = f" --addr {shlex.quote(f'unix://{url.path}')}" if url.path not in ("", "/") else ""
    ours = f"knarr builder dial-stdio{where}"
    theirs = f"buildctl{where} dial-stdio"
    dial = f"if command -v buildctl >/dev/null 2>&1; then exec {theirs}; else exec {ours}; fi"
    return (*words, "--", _word(url.hostname or "", url.geturl()), dial)


def _container(program: str) -> Callable[[SplitResult, Mapping[str, str]], tuple[str, ...]]:
    def read(url: SplitResult, options: Mapping[str, str]) -> tuple[str, ...]:
        name = _word(url.netloc, url.geturl())
        before = (f"--context={options['context']}",) if "context" in options else ()
        within = ("--namespace", options["namespace"]) if "namespace" in options else ()
        return (program, *before, "exec", *within, "-i", name, *_DIAL)

    return read


def _pod(url: SplitResult, options: Mapping[str, str]) -> tuple[str, ...]:
    text = url.geturl()
    first, second = url.netloc, url.path.strip("/")
    namespace, pod = (first, second) if second else (options.get("namespace", ""), first)
    flags = [f"--context={options['context']}"] if "context" in options else []
    if namespace:
        flags.append(f"--namespace={_word(namespace, text, _POD)}")
    container = [f"--container={_word(options['container'], text, _POD)}"] if "container" in options else []
    return ("kubectl", *flags, "exec", *container, "-i", _word(pod, text, _POD), "--", *_DIAL)


_COMMANDS: Mapping[str, Callable[[SplitResult, Mapping[str, str]], tuple[str, ...]]] = {
    "ssh": _ssh,
    "docker-container": _container("docker"),
    "podman-container": _container("podman"),
    "nerdctl-container": _container("nerdctl"),
    "kube-pod": _pod,
}
_QUERIES: Mapping[str, tuple[str, ...]] = {
    "ssh": (),
    "docker-container": ("context",),
    "podman-container": (),
    "nerdctl-container": ("namespace",),
    "kube-pod": ("context", "namespace", "container"),
}
