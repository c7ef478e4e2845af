"""Which builder a command line means, and the certificates for it: words and environment in, records out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.record import record

if TYPE_CHECKING:
    from knarr.cli.flags import Parsed

_DEFAULT = "default"
_FLAGS = ("tlscacert", "tlscert", "tlskey", "tlsservername", "tlsdir")


@record
class BuilderTls:
    """What the flags `--tls…` say; "" is nothing."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""
    directory: str = ""


def chosen(text: str, environ: Mapping[str, str]) -> str:
    """A name or an address; "" when this process is to build. The flag goes first, `default` is this process."""
    found = text or environ.get("KNARR_BUILDER", "") or environ.get("BUILDKIT_HOST", "") or _current(environ)
    return "" if found == _DEFAULT else found


def _current(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
    if not config or not os.path.exists(os.path.join(config, "knarr", "builders", "current")):
        return ""
    from knarr.client.stored import Builders, directory

    return Builders(directory(environ)).current()


def quiet_grpc() -> None:
    """Keep gRPC from writing to standard error what we say in words of our own; before it is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def read_tls(given: Parsed, builder: str, cwd: str) -> BuilderTls:
    """The flags `--tls…`, with paths that are relative to `cwd`.

    Raises:
        UsageError: they are given, and there is no address that they are for.
    """
    texts = {flag: given.text(flag) for flag in _FLAGS}
    if not any(texts.values()):
        return BuilderTls()
    if not builder.startswith("tcp://"):
        hint = "certificates are for --builder tcp://HOST:PORT; a named builder has its own (knarr builder create)"
        raise UsageError(f"--{next(flag for flag in _FLAGS if texts[flag])} without an address over TCP", hint=hint)
    paths = {flag: os.path.join(cwd, os.path.expanduser(text)) if text else "" for flag, text in texts.items()}
    return BuilderTls(paths["tlscacert"], paths["tlscert"], paths["tlskey"], texts["tlsservername"], paths["tlsdir"])
