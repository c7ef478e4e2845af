"""What many tags of one repository lead to: HEADs that are sent without waiting for the answers before them.

    found = heads(access, ("1.0", "1.1"))  # {"1.0": "sha256:…", "1.1": ""}

A few connections carry all of them, on one thread. Only plain answers count: a name
that is not in the result must be asked for in the ordinary way (`resolve`), which
knows mirrors, retries, new tokens and what to tell a person.

Spec: RFC 9112, section 9.3.2 (HEAD is safe to pipeline); distribution-spec v1.1,
"Checking if content exists in the registry".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from knarr.errors import ContentError, KnarrError, NotFound
from knarr.remote import auth, resolve
from knarr.remote.access import Access
from knarr.remote.hosts import RESOLVE, Endpoint
from knarr.remote.wire import Connection, Headers, Malformed
from knarr.spec.digest import Digest

_CONNECTIONS = 4  # of one repository
_AHEAD = 32  # questions on one connection before their answers are read: both ways fit into a socket's buffers
_FEW = 4  # questions that are not worth another connection


def heads(access: Access, names: Sequence[str]) -> dict[str, str]:
    """The digest behind each of `names`, empty for one that is not there; names without a plain answer are left out.

    Raises:
        Cancelled
    """
    endpoints = access.endpoints(RESOLVE)
    if len(endpoints) != 1 or not names:
        return {}
    try:
        found = {names[0]: _first(access, names[0])}
        while len(found) < len(names):
            batch = names[len(found) : len(found) + _CONNECTIONS * _AHEAD]
            answers = _asked(access, endpoints[0], batch)
            found.update(answers)
            if len(answers) < len(batch):
                break
    except (KnarrError, OSError):
        access.transport.scope.check()
        return {}
    return found


def _first(access: Access, name: str) -> str:
    """In the ordinary way, which finds out whether the host speaks TLS and which login it wants."""
    try:
        return str(resolve.resolve(access, name).digest)
    except NotFound:
        return ""


def _asked(access: Access, endpoint: Endpoint, names: Sequence[str]) -> dict[str, str]:
    transport = access.transport
    endpoint = transport.effective(endpoint)
    line = transport.line(endpoint, endpoint.origin)
    login = transport.auth.header(endpoint, access.repository, auth.pull(access.repository))
    fields = [("Host", endpoint.origin.netloc), ("User-Agent", transport.settings.user_agent), *resolve.ACCEPT]
    fields += [*endpoint.headers, *((("Authorization", login),) if login else ())]
    count = min(_CONNECTIONS, -(-len(names) // _FEW))
    found: dict[str, str] = {}
    asked: list[tuple[Connection, Sequence[str]]] = []
    whole: list[bool] = []
    try:
        with ExitStack() as stack:
            for mine in (names[number::count] for number in range(count)):
                connection = transport.pool.take(line)
                asked.append((connection, mine))
                stack.enter_context(transport.scope.on_cancel(connection.abort))
                targets = [transport.locate(endpoint, resolve.path(access, name)).target for name in mine]
                connection.send_heads(targets, fields, timeout_s=transport.settings.read_timeout_s)
            whole += [_read(connection, mine, found) for connection, mine in asked]
    finally:
        for number, (connection, _) in enumerate(asked):
            if number < len(whole) and whole[number]:
                transport.pool.give_back(line, connection)
            else:
                connection.close()
    return found


def _read(connection: Connection, names: Sequence[str], found: dict[str, str]) -> bool:
    """Put what the answers say into `found`; whether the connection can be used again."""
    for name in names:
        try:
            status, fields, more = connection.next_head()
        except (OSError, Malformed):
            return False
        if status == 404:
            found[name] = ""
        elif status == 200:
            digest = _digest(fields)
            if digest:
                found[name] = digest
        if not more:
            return False
    return True


def _digest(fields: Headers) -> str:
    try:
        return str(Digest.parse(fields.get("docker-content-digest")))
    except ContentError:
        return ""
