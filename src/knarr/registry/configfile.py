"""The registry's configuration file: TOML, every key known, every mistake told with its place.

    listen = "0.0.0.0:5000"

    [tls]
    certificate = "server.crt"      # paths are relative to the file
    key = "server.key"

    [auth]
    htpasswd = "htpasswd"

    [[auth.rule]]
    who = ["ci"]
    repositories = ["team/**"]
    may = ["pull", "push"]

Durations are numbers of seconds, or text such as "90m", "24h", "30d".
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from knarr.errors import UsageError
from knarr.record import replace
from knarr.registry.certificates import TlsFiles
from knarr.registry.events import ACTIONS as EVENTS
from knarr.registry.passwords import Robot
from knarr.registry.rights import ACTIONS
from knarr.registry.routes import is_name
from knarr.registry.rules import Rule
from knarr.registry.settings import SPARSE, Auth, Keep, Limits, Retention, ServerSettings
from knarr.registry.upstreams import Upstream
from knarr.registry.webhooks import Webhook

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")

Read = Callable[["_Table", str, Any], Any]


def load(file: Path, base: ServerSettings) -> ServerSettings:
    """The settings of `file`, over `base`.

    Raises:
        UsageError: it cannot be read, is no TOML, or says something that cannot be meant.
    """
    try:
        data = tomllib.loads(file.read_text())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error
    return settings(file, data, base)


def settings(file: Path, data: Mapping[str, Any], base: ServerSettings, *, table: str = "") -> ServerSettings:
    """The settings in `data`, which is the table `table` of `file`, over `base`.

    Raises:
        UsageError: it says something that cannot be meant.
    """
    top = _Table(file, table, data)
    listen = top.take("listen", _text, "")
    host, port = listening(listen) if listen else (base.host, base.port)
    tls = top.table("tls")
    found = replace(
        base,
        host=host,
        port=port,
        tls=_tls(tls) if tls.data else base.tls,
        auth=_auth(top.table("auth"), base.auth),
        limits=_limits(top.table("limits"), base.limits),
        retention=_retention(top.table("retention"), base.retention),
        sparse=top.take("sparse", _one_of(*SPARSE), base.sparse),
        delete=top.take("delete", _flag, base.delete),
        metrics=top.take("metrics", _flag, base.metrics),
        log=top.take("log", _flag, base.log),
        upstreams=tuple(_upstream(each) for each in top.tables("upstream")) or base.upstreams,
        webhooks=tuple(_webhook(each) for each in top.tables("webhook")) or base.webhooks,
    )
    top.end()
    return found


def listening(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `:PORT` (all addresses) or `PORT` (loopback).

    Raises:
        UsageError
    """
    host, colon, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{text!r} is no address to listen on", hint="write HOST:PORT, for example 0.0.0.0:5000")
    host = host.removeprefix("[").removesuffix("]")
    return host or ("0.0.0.0" if colon else "127.0.0.1"), int(port)


def _tls(table: _Table) -> TlsFiles:
    files = TlsFiles(
        certificate=table.take("certificate", _path, None),
        key=table.take("key", _path, None),
        client_ca=table.take("client_ca", _path, None),
        client_required=table.take("client_required", _flag, False),
    )
    table.end()
    if files.certificate is None or files.key is None:
        raise table.wrong("tls", "certificate and key are needed, both")
    return files


def _auth(table: _Table, base: Auth) -> Auth:
    auth = replace(
        base,
        htpasswd=table.take("htpasswd", _path, base.htpasswd),
        anonymous_read=table.take("anonymous_read", _flag, base.anonymous_read),
        tokens=table.take("tokens", _flag, base.tokens),
        token_s=int(table.take("token_lifetime", duration, base.token_s)),
        service=table.take("service", _text, base.service),
        realm=table.take("realm", _text, base.realm),
        rules=tuple(_rule(each) for each in table.tables("rule")) or base.rules,
        robots=tuple(_robot(each) for each in table.tables("robot")) or base.robots,
    )
    table.end()
    return auth


def _rule(table: _Table) -> Rule:
    rule = Rule(
        who=table.take("who", _texts, ()),
        repositories=table.take("repositories", _texts, ("**",)),
        may=table.take("may", _texts, ("pull",)),
    )
    table.end()
    if not rule.who:
        raise table.wrong("who", 'names of users, or "*", or "anonymous"')
    for action in rule.may:
        if action not in ACTIONS:
            raise table.wrong("may", f"{action!r} is not one of {', '.join(ACTIONS)}")
    return rule


def _robot(table: _Table) -> Robot:
    expires = table.take("expires", _moment, 0.0)
    robot = Robot(table.take("name", _text, ""), table.take("secret_sha256", _text, "").lower(), expires)
    table.end()
    if not robot.name or not re.fullmatch("[0-9a-f]{64}", robot.secret_sha256):
        raise table.wrong("robot", "a name and secret_sha256 are needed: `knarr registry robot NAME` makes them")
    return robot


def _limits(table: _Table, base: Limits) -> Limits:
    limits = replace(
        base,
        manifest_bytes=min(table.take("manifest_bytes", _number, base.manifest_bytes), base.manifest_bytes),
        page=table.take("page", _number, base.page),
        connections=table.take("connections", _number, base.connections),
        idle_s=table.take("idle", duration, base.idle_s),
        upload_idle_s=table.take("upload_idle", duration, base.upload_idle_s),
    )
    table.end()
    return limits


def _retention(table: _Table, base: Retention) -> Retention:
    retention = replace(
        base,
        grace_s=table.take("grace", duration, base.grace_s),
        undo_s=table.take("undo", duration, base.undo_s),
        untagged_s=table.take("untagged", duration, base.untagged_s),
        interval_s=table.take("interval", duration, base.interval_s),
        keep=tuple(_keep(each) for each in table.tables("keep")) or base.keep,
    )
    table.end()
    return retention


def _keep(table: _Table) -> Keep:
    keep = Keep(
        repositories=table.take("repositories", _texts, ("**",)),
        tags=table.take("tags", _texts, ("*",)),
        newest=table.take("newest", _number, 0),
        set_s=table.take("set_within", duration, 0.0),
        pulled_s=table.take("pulled_within", duration, 0.0),
    )
    table.end()
    return keep


def _upstream(table: _Table) -> Upstream:
    upstream = Upstream(
        host=table.take("host", _text, ""),
        prefix=table.take("prefix", _text, ""),
        repositories=table.take("repositories", _texts, ("**",)),
        fresh_s=table.take("fresh", duration, Upstream("").fresh_s),
    )
    table.end()
    if not upstream.host:
        raise table.wrong("host", "which registry, as references call it, such as docker.io")
    if not is_name(upstream.place):
        raise table.wrong("prefix", f"{upstream.place!r} cannot begin a repository's name: choose one that can")
    return upstream


def _webhook(table: _Table) -> Webhook:
    headers = table.table("headers")
    hook = Webhook(
        url=table.take("url", _text, ""),
        secret=table.take("secret", _text, ""),
        headers=tuple((key, headers.take(key, _text, "")) for key in headers.data),
        actions=table.take("actions", _texts, Webhook("").actions),
        repositories=table.take("repositories", _texts, ("**",)),
    )
    table.end()
    if not hook.url.startswith(("http://", "https://")):
        raise table.wrong("url", "must be an http or https URL")
    for action in hook.actions:
        if action not in EVENTS:
            raise table.wrong("actions", f"{action!r} is not one of {', '.join(EVENTS)}")
    return hook


class _Table:
    """One table of the file. Keys are taken out of it; what is left at the end is not known."""

    def __init__(self, file: Path, name: str, data: Mapping[str, Any]) -> None:
        self.file, self.name, self.data = file, name, dict(data)
        self._left = dict(data)

    def take(self, key: str, read: Read, default: Any) -> Any:
        if key not in self._left:
            return default
        return read(self, key, self._left.pop(key))

    def table(self, key: str) -> _Table:
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"is a table: [{self._path(key)}]")
        return _Table(self.file, self._path(key), value)

    def tables(self, key: str) -> list[_Table]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"is a list of tables: [[{self._path(key)}]]")
        return [_Table(self.file, self._path(key), item) for item in value]

    def end(self) -> None:
        for key in self._left:
            raise UsageError(
                f"{self.file}: {self._path(key)} is not known", hint="docs/guide/registry-server.md lists the keys"
            )

    def wrong(self, key: str, message: str) -> UsageError:
        return UsageError(f"{self.file}: {self._path(key)}: {message}")

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name and key != self.name else key


def _text(table: _Table, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise table.wrong(key, "must be text")
    return value


def _texts(table: _Table, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise table.wrong(key, "must be a list of texts")
    return tuple(value)


def _flag(table: _Table, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise table.wrong(key, "must be true or false")
    return value


def _number(table: _Table, key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise table.wrong(key, "must be a number, 0 or more")
    return value


def _path(table: _Table, key: str, value: Any) -> Path:
    return table.file.parent / _text(table, key, value)


def _moment(table: _Table, key: str, value: Any) -> float:
    from datetime import UTC, date, datetime, time

    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).timestamp()
    raise table.wrong(key, "must be a date, such as 2030-01-31")


def duration(table: _Table, key: str, value: Any) -> float:
    """Seconds, from a number or a text such as "24h"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    found = seconds(value) if isinstance(value, str) else None
    if found is None:
        raise table.wrong(key, 'must be a duration, such as "90m", "24h" or "30d"')
    return found


def seconds(text: str) -> float | None:
    """The seconds in a duration such as `90m`; None: it is none."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else None


def _one_of(*known: str) -> Read:
    def read(table: _Table, key: str, value: Any) -> str:
        if value not in known:
            raise table.wrong(key, f"must be one of {', '.join(known)}")
        return str(value)

    return read
