"""The session of a build whose caller is a client: its files, secrets, logins and agents, asked for when needed.

with RemoteSession(sessions, id, kept, scope) as session:
    engine.solve(request, session, sink, scope=scope)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from knarr.buildkit import upload
from knarr.buildkit.filesend import send_tree, sent_file
from knarr.buildkit.filesync import receive
from knarr.buildkit.lentstore import RemoteStore
from knarr.buildkit.service import Caller
from knarr.buildkit.sshforward import open_agent
from knarr.buildkit.tokens import AUTH, ClientTokens
from knarr.errors import KnarrError, NotFound
from knarr.pb import auth_pb2, secrets_pb2
from knarr.scope import Flights
from knarr.session.session import BlobPlace, Credentials, IssuedToken, LentContent, Secret, Sent, SshAgent, Wanted
from knarr.streams import Readable, Writable, copy

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

    from knarr.buildkit.sessions import Client, Sessions
    from knarr.scope import Scope
    from knarr.session.kept import Kept

SECRETS = secrets_pb2.DESCRIPTOR.services_by_name["Secrets"]
_HUB = {"docker.io": "registry-1.docker.io"}  # as clients call it
_WAIT_S = 5.0  # a client opens its session and asks for its build at the same time
_ANSWER_S = 60.0  # BuildKit's: a helper of the client's may ask a person


class RemoteSession:
    """Implements `session.Session`. What it received stays in place until it is left."""

    sends = True

    def __init__(
        self, sessions: Sessions, id: str, kept: Kept, scope: Scope, lenders: Mapping[str, str] | None = None
    ) -> None:
        """`lenders` are other sessions that lend directories, by the names of those."""
        self._sessions = sessions
        self._id = id
        self._kept = kept
        self._scope = scope
        self._lenders = dict(lenders or {})
        self._flights = Flights()
        self._received: dict[Wanted, Path] = {}
        self._uploaded: dict[tuple[str, str], BinaryIO] = {}
        self._logins: dict[str, Credentials] = {}
        self._lock = threading.Lock()
        self._leases = ExitStack()
        self._tokens = ClientTokens(self.client, sessions.wallet, scope)

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._leases.__exit__(None, None, None)

    def files(self, wanted: Wanted, *, sent: Sent | None = None) -> Path:
        """A directory with the wanted files, as the client sends them; asked for once.

        Raises:
            KnarrError: there is no client, or it does not lend them.
        """

        def fetch() -> Path:
            with self._lock:
                known = self._received.get(wanted)
            return known or self._fetch(wanted, sent)

        return self._flights.once(wanted, fetch)

    def _fetch(self, wanted: Wanted, sent: Sent | None) -> Path:
        client = self._lender(wanted)
        key = ":".join((wanted.name, wanted.hint, client.shared_key, "metadata" if wanted.described else ""))
        with ExitStack() as stack:
            root = stack.enter_context(self._kept.lease(key, f"local source for {wanted.name}"))
            receive(client, wanted, root, scope=self._scope, sent=sent)
            with self._lock:
                self._received[wanted] = root
                self._leases.push(stack.pop_all())
        return root

    def _lender(self, wanted: Wanted) -> Client:
        other = self._lenders.get(wanted.name, wanted.session)
        if other and other != self._id:
            named = self._sessions.get(other, wait_s=_WAIT_S)
            if named is not None:
                return named
        return self.client()

    def client(self) -> Client:
        """The client of the build.

        Raises:
            KnarrError: it has no session, or none any more.
        """
        found = self._sessions.get(self._id, wait_s=_WAIT_S) if self._id else None
        if found is None:
            self._scope.check()
            raise KnarrError(f"no active session for {self._id or 'this build'}", hint="the client has left")
        return found

    def _caller(self, service: ServiceDescriptor, method: str) -> Caller | None:
        """Calls to a service of the client; None where it does not offer the method."""
        if not self._id:
            return None
        client = self.client()
        return client.caller(service) if client.offers(service, method) else None

    def secret(self, id: str) -> Secret | None:
        """The client's secret, or None when it has none by this id."""
        caller = self._caller(SECRETS, "GetSecret")
        if caller is None:
            return None
        try:
            answer = caller.unary("GetSecret", secrets_pb2.GetSecretRequest(ID=id), timeout_s=_ANSWER_S)
        except NotFound:
            return None
        return Secret(answer.data)

    def ssh(self, id: str) -> SshAgent | None:
        """The client's agent, or None when it lends none by this id."""
        return open_agent(self.client(), id) if self._id else None

    @contextmanager
    def upload(self, host: str, path: str) -> Iterator[Readable]:
        """A stream that the client holds ready. The client gives it once, so it is kept until the build has ended."""

        def fetch() -> BinaryIO:
            with self._lock:
                known = self._uploaded.get((host, path))
            return known or self._pull(host, path)

        yield _Again(self._flights.once((host, path), fetch))

    def _pull(self, host: str, path: str) -> BinaryIO:
        with ExitStack() as stack:
            file = stack.enter_context(self._kept.scratch())
            with upload.opened(self.client(), host, path, scope=self._scope) as stream:
                copy(stream, file, check=self._scope.check)
            file.flush()
            with self._lock:
                self._uploaded[host, path] = file
                self._leases.push(stack.pop_all())
        return file

    def content(self, id: str) -> LentContent | None:
        """The OCI layout that the client lends under `id`."""
        return self.store(f"oci:{id}")

    def store(self, name: str) -> BlobPlace:
        """A content store of the client's."""
        return RemoteStore(self.client(), name, self._scope)

    def take_file(self, number: int, about: Mapping[str, str]) -> AbstractContextManager[Writable]:
        """A place to write an archive to, which the client puts where its user wants it."""
        return sent_file(self.client(), number, about, scope=self._scope)

    def take_tree(
        self,
        number: int,
        roots: Mapping[str, Path],
        *,
        epoch_ns: int | None,
        replaces: bool,
        more: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Give directories, each below its name, to the client."""
        send_tree(self.client(), number, roots, scope=self._scope, epoch_ns=epoch_ns, replaces=replaces, more=more)

    def issues(self, host: str) -> bool:
        """Whether the client fetches tokens for this registry itself."""
        return bool(self._id) and self._tokens.issues(_HUB.get(host, host))

    def issue(self, host: str, realm: str, service: str, scopes: Sequence[str]) -> IssuedToken:
        """A token that the client fetches."""
        return self._tokens.issue(_HUB.get(host, host), realm, service, scopes)

    def credentials(self, host: str) -> Credentials:
        """The client's login for a registry host; one for a single repository is not known to clients."""
        if "/" in host:
            return Credentials()
        with self._lock:
            known = self._logins.get(host)
        if known is None:
            known = self._ask_login(_HUB.get(host, host))
            with self._lock:
                self._logins[host] = known
        return known

    def _ask_login(self, host: str) -> Credentials:
        caller = self._caller(AUTH, "Credentials")
        if caller is None:
            return Credentials()
        answer = caller.unary("Credentials", auth_pb2.CredentialsRequest(Host=host), timeout_s=_ANSWER_S)
        if answer.Username:
            return Credentials(answer.Username, answer.Secret)
        return Credentials(identity_token=answer.Secret)


class _Again:
    """A file from its beginning, whoever else reads it."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        size = os.fstat(self._descriptor).st_size - self._at if size < 0 else size
        data = os.pread(self._descriptor, size, self._at)
        self._at += len(data)
        return data
