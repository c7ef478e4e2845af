"""Who we are to a registry: Basic, or Bearer tokens per repository and action.

A registry is first asked without a word; its challenge tells the way, which is
then remembered for the host. Tokens are kept with the rights they were asked
for, one that can do more serves for less, and threads that need the same token
wait for one request. Tokens stay per repository: one token for hundreds of them
outgrows a header. Spec: distribution, docs/spec/auth (token, oauth).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from knarr.errors import RegistryError
from knarr.record import record
from knarr.remote import url
from knarr.remote.hosts import Endpoint
from knarr.scope import Flights
from knarr.session.session import Credentials, IssuesTokens

Scopes = frozenset[str]
"""Rights, each `type:name:action`: `repository:team/app:pull`."""

_SHORTEST_S = 60  # distribution: "for compatibility … the token's life is never below 60 s"
_EARLY_S = 10  # given up before its end: it must last from here to the registry's clock
CLIENT_ID = "knarr"


CATALOG: Scopes = frozenset(("registry:catalog:*",))


def pull(repository: str) -> Scopes:
    return frozenset((f"repository:{repository}:pull",))


def push(repository: str) -> Scopes:
    return frozenset((f"repository:{repository}:pull", f"repository:{repository}:push"))


def delete(repository: str) -> Scopes:
    return frozenset((f"repository:{repository}:delete", *pull(repository)))


@record
class Asked:
    """A token request, as `transport` carries it out: GET with a query, or POST with a form."""

    method: str
    target: url.Url
    form: bytes | None
    login: str  # an Authorization value, or nothing


@record
class Replied:
    """The answer to it."""

    status: int
    document: Mapping[str, object]
    detail: str  # what an error body says


@record
class _Token:
    value: str
    scopes: Scopes
    ends_at: float


@record
class Way:
    """How a host wants to be told who we are: `basic`, or `bearer` with a token of the server `realm`."""

    scheme: str
    realm: str = ""
    service: str = ""
    issued: bool = False  # somebody else logs in there, and gives us the token


class Authorizer:
    """Logins and tokens of one registry client; may be used from any thread."""

    def __init__(
        self,
        credentials: Callable[[str], Credentials],
        ask: Callable[[Endpoint, Asked], Replied],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self.issuer: IssuesTokens | None = None  # who fetches tokens with a login that we do not see
        self._flights = Flights()
        self._ways: dict[url.Origin, Way] = {}
        self._tokens: dict[tuple[Way, Credentials], list[_Token]] = {}
        self._logins: dict[tuple[tuple[str, ...], str], Credentials] = {}

    def header(self, endpoint: Endpoint, repository: str, scopes: Scopes) -> str:
        """The Authorization value for a request, or nothing as long as the host has not asked."""
        way = self._ways.get(endpoint.origin)
        if way is None:
            return ""
        if way.issued:
            return f"Bearer {self._token(endpoint, way, Credentials(), scopes)}"
        login = self.login(endpoint, repository)
        if login.registry_token:
            return f"Bearer {login.registry_token}"
        if way.scheme == "basic":
            return _basic(login)
        return f"Bearer {self._token(endpoint, way, login, scopes)}"

    def refused(self, endpoint: Endpoint, repository: str, scopes: Scopes, challenges: Iterable[str], used: str) -> str:
        """After a 401 to a request that carried `used`: the value to try once more with, or nothing.

        Raises:
            RegistryError: the token server said no, or asks for our login in the clear.
        """
        from knarr.remote.challenge import parse

        found = parse(challenges)
        bearer = next((c for c in found if c.scheme == "bearer" and c.params.get("realm")), None)
        issued = bearer is not None and self.issuer is not None and self.issuer.issues(account_of(endpoint))
        login = Credentials() if issued else self.login(endpoint, repository)
        if login.registry_token:
            self._ways.setdefault(endpoint.origin, Way("bearer"))
            value = f"Bearer {login.registry_token}"
            return value if value != used else ""
        if bearer is not None:
            way = Way("bearer", bearer.params["realm"], bearer.params.get("service", ""), issued)
            self._ways[endpoint.origin] = way
            self._forget(way, login, used.removeprefix("Bearer "))
            wanted = scopes | scopes_of(bearer.params.get("scope", ""))
            return f"Bearer {self._token(endpoint, way, login, wanted)}"
        if any(c.scheme == "basic" for c in found):
            self._ways[endpoint.origin] = Way("basic")
            value = _basic(login)
            return value if value != used else ""
        return ""

    def was_asked(self, endpoint: Endpoint) -> bool:
        """Whether the host has wanted to know who we are."""
        return endpoint.origin in self._ways

    def login(self, endpoint: Endpoint, repository: str) -> Credentials:
        """The login for an endpoint's host, asked for once; empty when there is none."""
        key = (endpoint.accounts, repository)
        known = self._logins.get(key)
        if known is None:
            # Podman keeps logins by repository as well; whoever does not answers with an empty one.
            names = [name for host in endpoint.accounts for name in (f"{host}/{repository}".rstrip("/"), host)]
            found = (self._credentials(name) for name in dict.fromkeys(names))
            known = self._logins[key] = next((login for login in found if not login.empty), Credentials())
        return known

    def _token(self, endpoint: Endpoint, way: Way, login: Credentials, scopes: Scopes) -> str:
        key = (way, login)
        found = self._find(key, scopes)
        if found is None:
            found = self._flights.once((key, scopes), lambda: self._fetch(endpoint, way, login, scopes))
        return found

    def _find(self, key: tuple[Way, Credentials], scopes: Scopes) -> str | None:
        now = self._clock()
        with self._lock:
            alive = [token for token in self._tokens.get(key, ()) if token.ends_at > now]
            self._tokens[key] = alive
        return next((token.value for token in alive if token.scopes >= scopes), None)

    def _forget(self, way: Way, login: Credentials, value: str) -> None:
        with self._lock:
            key = (way, login)
            self._tokens[key] = [token for token in self._tokens.get(key, ()) if token.value != value]

    def _fetch(self, endpoint: Endpoint, way: Way, login: Credentials, scopes: Scopes) -> str:
        known = self._find((way, login), scopes)  # whoever flew before us may have brought it
        if known is not None:
            return known
        if way.issued and self.issuer is not None:
            granted = self.issuer.issue(account_of(endpoint), way.realm, way.service, _grouped(scopes))
            document: Mapping[str, object] = {"token": granted.value, "expires_in": granted.seconds}
        else:
            document = self._document(endpoint, way, login, scopes)
        value = token_in(endpoint, document)
        life = document.get("expires_in")
        seconds = max(life if isinstance(life, int) else 0, _SHORTEST_S)
        with self._lock:
            token = _Token(value, scopes, self._clock() + seconds - _EARLY_S)
            self._tokens.setdefault((way, login), []).append(token)
        return value

    def ask(self, endpoint: Endpoint, way: Way, scopes: Scopes) -> Mapping[str, object]:
        """What the token server of `way` answers to our login, for somebody else to use; nothing of it is kept.

        Raises:
            RegistryError: it said no.
        """
        return self._document(endpoint, way, self.login(endpoint, ""), scopes)

    def _document(self, endpoint: Endpoint, way: Way, login: Credentials, scopes: Scopes) -> Mapping[str, object]:
        reply = None
        for asked in _requests(endpoint, way, login, scopes):
            reply = self._ask(endpoint, asked)
            # A POST that is not known, or not for this kind of login, leaves the GET; a refused GET is the answer.
            if reply.status not in ((404, 405) if asked.method == "GET" else (401, 404, 405)):
                break
        if reply is None or reply.status != 200:
            raise _token_refused(endpoint, way, login, reply)
        return reply.document


def token_in(endpoint: Endpoint, document: Mapping[str, object]) -> str:
    """The token in a token server's answer.

    Raises:
        RegistryError: there is none.
    """
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not value:
        raise RegistryError(f"the token server of {endpoint.origin.netloc} sent no token")
    return value


def account_of(endpoint: Endpoint) -> str:
    """The name to log in under, for advice."""
    return endpoint.accounts[-1] if endpoint.accounts else endpoint.origin.netloc


def _requests(endpoint: Endpoint, way: Way, login: Credentials, scopes: Scopes) -> Iterable[Asked]:
    """Requests for a token in the order to try: OAuth with an identity token, GET, OAuth with the password."""
    from urllib.parse import quote, urlencode

    realm = url.parse(way.realm)
    if not login.empty and realm.origin.scheme == "http" and endpoint.origin.scheme == "https":
        raise RegistryError(
            f"{endpoint.origin.netloc} wants the login sent to {realm.redacted}, without TLS",
            hint="have the registry's token realm changed to https",
        )
    grouped = _grouped(scopes)
    service = [("service", way.service)] if way.service else []
    common = [*service, ("client_id", CLIENT_ID), ("scope", " ".join(grouped))]
    if login.identity_token:
        form = [("grant_type", "refresh_token"), ("refresh_token", login.identity_token), *common]
        yield Asked("POST", realm, urlencode(form).encode(), "")
    if not login.identity_token or login.password:
        query = urlencode([*service, *(("scope", scope) for scope in grouped)], quote_via=quote)
        yield Asked("GET", url.Url(realm.origin, url.with_query(realm.target, query)), None, _basic(login))
    if login.password:
        form = [("grant_type", "password"), ("username", login.username), ("password", login.password), *common]
        yield Asked("POST", realm, urlencode(form).encode(), "")


def _token_refused(endpoint: Endpoint, way: Way, login: Credentials, reply: Replied | None) -> RegistryError:
    host = account_of(endpoint)
    status = reply.status if reply else 0
    said = f": {reply.detail}" if reply and reply.detail else ""
    if status in (401, 403):
        whom = f"the login of {login.username or 'the stored identity token'!r}" if not login.empty else "access"
        return RegistryError(
            f"{host} refused {whom} at its token server {url.parse(way.realm).redacted} ({status}){said}",
            status=status,
            codes=("UNAUTHORIZED",),
            hint=f"log in with: knarr login {host}",
        )
    return RegistryError(
        f"the token server of {host}, {url.parse(way.realm).redacted}, answered {status}{said}",
        status=status,
        temporary=status == 429 or status >= 500,
    )


def _basic(login: Credentials) -> str:
    if not (login.username or login.password):
        return ""
    from base64 import b64encode

    return "Basic " + b64encode(f"{login.username}:{login.password}".encode()).decode()


def scopes_of(texts: str) -> Scopes:
    """The rights a challenge names: `repository:a/b:pull,push registry:catalog:*`."""
    found: set[str] = set()
    for text in texts.split():
        name, colon, actions = text.rpartition(":")
        if colon:
            found.update(f"{name}:{action}" for action in actions.split(",") if action)
    return frozenset(found)


def _grouped(scopes: Scopes) -> list[str]:
    """Rights as scope texts: actions of one resource joined."""
    actions: dict[str, list[str]] = {}
    for right in sorted(scopes):
        name, _, action = right.rpartition(":")
        actions.setdefault(name, []).append(action)
    return [f"{name}:{','.join(found)}" for name, found in actions.items()]
