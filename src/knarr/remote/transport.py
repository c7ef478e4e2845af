"""One request to an endpoint: with login, redirects, retries and a clear error in the end.

Every body can be sent again (bytes, or a slice of something that can be rewound:
`wire.Body`), so a 401, a broken connection and a busy registry are all met here
and callers see an answer they asked for or one error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from knarr.errors import RegistryError, SizeMismatch
from knarr.record import record, replace
from knarr.remote import failure, url
from knarr.remote.auth import Asked, Authorizer, Replied, Scopes, account_of
from knarr.remote.hosts import Endpoint, Hosts
from knarr.remote.pool import Line, Pool
from knarr.remote.settings import RegistrySettings
from knarr.remote.trust import NotTls, Trust
from knarr.remote.url import Origin, Url
from knarr.remote.wire import Answer, Body, Connection, Cut, Malformed
from knarr.scope import Scope
from knarr.session.session import Credentials

_MAX_REDIRECTS = 5
_MAX_TOKEN_BYTES = 1 << 20
_REDIRECTS = frozenset((301, 302, 303, 307, 308))


@record
class Request:
    """What to ask an endpoint. `what` names it for people: "push of blob sha256:… to host/app"."""

    method: str
    target: str | Url  # a path below the endpoint's prefix, or a URL it gave us
    what: str
    repository: str = ""
    scopes: Scopes = frozenset()
    expect: frozenset[int] = frozenset((200,))
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Body | None = None
    timeout_s: float = 0.0  # 0: the settings' read timeout
    attempts: int = 0  # 0: the settings' budget


@record
class Quota:
    """What a registry says is left of its rate limit; -1: it does not say."""

    limit: int
    remaining: int


class Transport:
    """The one way out to registries; may be used from any thread."""

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: Callable[[str], Credentials],
        *,
        scope: Scope | None = None,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        self.settings = settings
        self.scope = scope or Scope()
        self.hosts = Hosts(settings)
        self.pool = Pool(settings)
        self.auth = Authorizer(credentials, self._ask_token)
        self._warn = warn
        self.quotas: dict[str, Quota] = {}  # by host, as of its last answer
        self._warned: set[tuple[str, str]] = set()
        self._without_tls: set[Origin] = set()
        self._lock = threading.Lock()

    def within(self, scope: Scope) -> Transport:
        """The same connections, tokens and trust for requests that `scope` cancels."""
        from copy import copy

        view = copy(self)
        view.scope = scope
        return view

    def send(self, endpoint: Endpoint, request: Request) -> Answer:
        """The answer, whose status is one of `request.expect`; the caller closes it.

        Raises:
            RegistryError: after all tries; `temporary` if another day may help.
            Cancelled
        """
        budget = self.settings.retry
        attempts = request.attempts or budget.attempts
        attempt = 0
        while True:
            self.scope.check()
            attempt += 1
            asked_s = 0.0
            try:
                answer = self._authorized(self.effective(endpoint), request)
            except NotTls:
                if not self._give_up_tls(endpoint):
                    raise
                attempt -= 1
                continue
            except RegistryError as error:
                problem = error
            else:
                self._note(endpoint, answer)
                if answer.status in request.expect:
                    return answer
                problem, asked_s = self._problem(endpoint, request, answer)
            self.hosts.look_again()  # what is to be mended may be mended while we wait, or before the next request
            worth = budget.tries(attempts, problem.__cause__)
            if not problem.temporary or attempt >= worth or asked_s > budget.longest_wait_s:
                raise problem
            self.scope.sleep(max(asked_s, budget.wait(attempt)))

    def send_unauthorized(self, endpoint: Endpoint, request: Request) -> Answer:
        """The answer to a request without a login, as it is; the caller closes it.

        Raises:
            RegistryError: there was none.
        """
        try:
            return self._follow(self.effective(endpoint), request, "")
        except NotTls:
            if not self._give_up_tls(endpoint):
                raise
            return self._follow(self.effective(endpoint), request, "")

    def read(self, answer: Answer, limit: int) -> bytes:
        """The whole body of an answer with at most `limit` bytes, and the connection given back.

        Raises:
            SizeMismatch: it is longer.
            OSError, Malformed: it broke off.
        """
        with self.scope.on_cancel(answer.abort), answer:
            parts: list[bytes] = []
            left = limit + 1
            while left > 0 and (data := answer.read(left)):
                parts.append(data)
                left -= len(data)
            self.scope.check()
        if left <= 0:
            raise SizeMismatch(f"the registry sent a document of more than {limit} bytes")
        return b"".join(parts)

    def fetch(self, endpoint: Endpoint, request: Request, limit: int) -> tuple[Answer, bytes]:
        """`send` and `read` in one, tried again as a whole when the body breaks off."""
        attempt = 0
        while True:
            attempt += 1
            answer = self.send(endpoint, request)
            try:
                return answer, self.read(answer, limit)
            except (OSError, Malformed) as error:
                self.scope.check()
                timeout_s = request.timeout_s or self.settings.read_timeout_s
                problem = failure.from_os_error(error, endpoint.origin, request.what, timeout_s=timeout_s)
                budget = self.settings.retry
                if not problem.temporary or attempt >= budget.tries(request.attempts or budget.attempts, error):
                    raise problem from error
            self.scope.sleep(self.settings.retry.wait(attempt))

    def effective(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint`, in plain HTTP once an insecure host turned out to have no TLS."""
        if endpoint.origin not in self._without_tls:
            return endpoint
        origin = endpoint.origin
        return replace(endpoint, origin=Origin("http", origin.host, 80 if origin.port == 443 else origin.port))

    def locate(self, endpoint: Endpoint, target: str | Url) -> Url:
        """The URL of a path below an endpoint; mirrors are told whom they stand in for."""
        if isinstance(target, Url):
            return target
        if endpoint.cut:
            target = target.removeprefix(f"/{endpoint.cut}")
        path = endpoint.prefix + target
        if endpoint.namespace:
            path = url.with_query(path, f"ns={endpoint.namespace}")
        return Url(self.effective(endpoint).origin, path)

    def joined(self, endpoint: Endpoint, base: Url, location: str) -> Url:
        """Where a Location leads. A registry behind a proxy that ends TLS often names itself with http: mended."""
        target = url.join(base, location)
        own = self.effective(endpoint).origin
        if target.origin.host == own.host and target.origin.scheme == "http" and own.scheme == "https":
            return Url(own, target.target)
        return target

    def _authorized(self, endpoint: Endpoint, request: Request) -> Answer:
        login = self.auth.header(endpoint, request.repository, request.scopes)
        answer = self._follow(endpoint, request, login)
        if answer.status != 401:
            return answer
        challenges = answer.headers.all("www-authenticate")
        try:
            again = self.auth.refused(endpoint, request.repository, request.scopes, challenges, login)
        except BaseException:
            answer.close()
            raise
        if not again:
            return answer
        answer.close()
        return self._follow(endpoint, request, again)

    def _follow(self, endpoint: Endpoint, request: Request, login: str) -> Answer:
        target = self.locate(endpoint, request.target)
        for _ in range(_MAX_REDIRECTS + 1):
            own = target.origin == endpoint.origin
            extra = (*endpoint.headers, *((("Authorization", login),) if login else ())) if own else ()
            answer = self._exchange(endpoint, target, replace(request, headers=(*request.headers, *extra)))
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not location or answer.status in request.expect:
                return answer
            answer.close()
            if answer.status == 303 or (answer.status < 303 and request.method not in ("GET", "HEAD")):
                request = replace(request, method="GET", body=None)
            target = self._redirected(endpoint, target, location)
        raise RegistryError(f"{request.what}: {endpoint.origin.netloc} redirects in circles")

    def _redirected(self, endpoint: Endpoint, base: Url, location: str) -> Url:
        target = self.joined(endpoint, base, location)
        if target.origin.scheme == "http" and base.origin.scheme == "https":
            raise RegistryError(
                f"{endpoint.origin.netloc} redirects to {target.redacted}, without TLS",
                hint="have the registry's redirect to its storage changed to https, or switched off",
            )
        return target

    def _exchange(self, endpoint: Endpoint, target: Url, request: Request) -> Answer:
        """One request, one answer, on a kept connection if there is one."""
        line = self.line(endpoint, target.origin)
        try:
            connection = self.pool.take(line)
            kept = connection.used
            try:
                return self._over(line, connection, target, request)
            except ConnectionError as error:
                # With a body, part of it may have been taken; an upload asks before it sends again.
                if not kept or request.body is not None or (isinstance(error, Cut) and error.started):
                    raise
            # It lay idle and the far end had closed it: no failure of the registry, and not counted as one.
            return self._over(line, self.pool.fresh(line), target, request)
        except (OSError, Malformed) as error:
            self.scope.check()  # a connection that was broken by cancellation is no failure
            if isinstance(error, ConnectionRefusedError) and endpoint.plain_fallback and line.trust:
                raise NotTls(f"{target.origin.netloc} does not answer") from error
            timeout_s = self._timeout(request)
            raise failure.from_os_error(error, target.origin, request.what, timeout_s=timeout_s) from error

    def _over(self, line: Line, connection: Connection, target: Url, request: Request) -> Answer:
        fields = [("Host", target.origin.netloc), ("User-Agent", self.settings.user_agent), *request.headers]
        try:
            with self.scope.on_cancel(connection.abort):
                answer = connection.exchange(
                    request.method, target.target, fields, request.body, timeout_s=self._timeout(request)
                )
        except BaseException:
            connection.close()
            raise
        answer.abort = connection.abort
        answer.on_close = lambda: self.pool.give_back(line, connection) if answer.reusable else connection.close()
        return answer

    def line(self, endpoint: Endpoint, origin: Origin) -> Line:
        """How to connect to `origin`, which is the endpoint or a place it sent us to.

        Our client certificate is for the endpoint alone, and so is a switched-off
        check; its CA also counts for its storage and its token server, which a
        private domain signs alike.
        """
        timeout_s = endpoint.dial_timeout_s or self.settings.dial_timeout_s
        if origin.scheme == "http":
            return Line(origin, None, timeout_s)
        if origin == endpoint.origin:
            return Line(origin, endpoint.trust, timeout_s)
        return Line(origin, self.hosts.trust(origin.netloc) | Trust(endpoint.trust.ca), timeout_s)

    def _timeout(self, request: Request) -> float:
        return request.timeout_s or self.settings.read_timeout_s

    def _give_up_tls(self, endpoint: Endpoint) -> bool:
        """Whether plain HTTP is to be tried now: only for a host that the user called insecure.

        Requests that ran beside each other may all find out; in plain HTTP none does again.
        """
        if not endpoint.plain_fallback:
            return False
        self._without_tls.add(endpoint.origin)
        return True

    def _problem(self, endpoint: Endpoint, request: Request, answer: Answer) -> tuple[RegistryError, float]:
        """The error for an unwanted answer, and how long the registry asks to wait."""
        host = endpoint.origin.netloc
        with self.scope.on_cancel(answer.abort), answer:
            problem = failure.from_answer(answer, host, request.what)
        self.scope.check()
        asked_s = _retry_after(answer)
        if answer.status in (401, 403):
            known = self.auth.login(endpoint, request.repository)
            who = f" ({known.username} is not allowed to, or the password is wrong)" if known.username else ""
            problem.with_context(hint=f"log in with: knarr login {account_of(endpoint)}{who}")
        elif answer.status == 429 and asked_s > self.settings.retry.longest_wait_s:
            problem.hint = f"the registry asks to wait {asked_s:.0f} s; a login often raises the limit"
        return problem, asked_s

    def _note(self, endpoint: Endpoint, answer: Answer) -> None:
        """Remember the quota, and hand on each warning once. Spec: distribution-spec v1.1, "Warnings"."""
        host = endpoint.origin.netloc
        remaining = answer.headers.get("ratelimit-remaining")
        if remaining:
            self.quotas[host] = Quota(_leading_int(answer.headers.get("ratelimit-limit")), _leading_int(remaining))
        for text in answer.headers.all("warning"):
            code, _, rest = text.partition(" ")
            message = rest.partition('"')[2].rpartition('"')[0]
            with self._lock:
                fresh = code == "299" and bool(message) and (host, message) not in self._warned
                self._warned.add((host, message))
            if fresh and self._warn is not None:
                self._warn(f"{host}: {message[:4096]}")

    def _ask_token(self, endpoint: Endpoint, asked: Asked) -> Replied:
        headers = [("Accept", "application/json")]
        if asked.login:
            headers.append(("Authorization", asked.login))
        if asked.form is not None:
            headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        what = f"login at {asked.target.redacted}"
        request = Request(asked.method, asked.target, what, headers=tuple(headers), body=asked.form)
        answer = self._exchange(endpoint, asked.target, request)
        if answer.status != 200:
            with answer:
                return Replied(answer.status, {}, failure.read_errors(answer)[1])
        import json

        try:
            document = json.loads(self.read(answer, _MAX_TOKEN_BYTES))
        except (OSError, Malformed) as error:
            raise failure.from_os_error(error, asked.target.origin, what, timeout_s=self._timeout(request)) from error
        except ValueError:
            document = None
        return Replied(200, document if isinstance(document, dict) else {}, "")


def _retry_after(answer: Answer) -> float:
    """Seconds that a Retry-After asks for: a number, or a date."""
    text = answer.headers.get("retry-after")
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _leading_int(text: str) -> int:
    """The number in `100;w=21600`."""
    number = text.partition(";")[0].strip()
    return int(number) if number.isascii() and number.isdigit() else -1
