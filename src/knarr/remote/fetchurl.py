"""Any file behind an http or https URL, as a stream: with a registry client's proxies and trust, without its rules.

Redirects are followed to any host; a login goes only to the host of the URL
itself. What breaks off is gone on with by Range, if the server has said which
version of the file it sends (a strong ETag or Last-Modified): a part of one
version is never joined to a part of another.

    with Download(transport, Asked("https://example.com/a.tar", "ADD")) as download:
        for data in chunks(download): ...

Spec: RFC 9110 (redirects: 15.4, validators: 8.8, If-Range: 13.1.5), RFC 9112 (absolute-form: 3.2.2).
"""

from __future__ import annotations

from base64 import b64encode
from types import TracebackType

from knarr.errors import RegistryError
from knarr.record import record, replace
from knarr.remote import failure, url
from knarr.remote.dial import dial, proxy_for
from knarr.remote.download import ResumingReader
from knarr.remote.settings import Proxies
from knarr.remote.transport import Transport
from knarr.remote.url import Origin, Url
from knarr.remote.wire import Answer, Connection, Headers, Malformed

_MAX_REDIRECTS = 10  # as Go's client and browsers nearly do
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_TEMPORARY = frozenset((408, 425, 429, 500, 502, 503, 504))
_SAFE = "%/:=&?~#+!$,;'@()*[]"  # what a URL may have beside letters and digits
_STRONG_AFTER_S = 60  # RFC 9110, 8.8.2.2: a Last-Modified so long before Date tells versions apart

HeaderPairs = tuple[tuple[str, str], ...]


@record
class Asked:
    """What to fetch. `what` names it in messages; `login` is the value of Authorization, for the URL's host alone."""

    url: str
    what: str
    headers: HeaderPairs = ()
    login: str = ""


class Restart(Exception):
    """It broke off and cannot be gone on with: begin anew, and forget what was read."""


class Download:
    """The content behind a URL, as a `Readable`. `condition` are headers such as If-None-Match.

    Raises (also from `read`):
        RegistryError: no, or no answer, after all tries.
        Restart: from `read` only.
        Cancelled
    """

    def __init__(self, transport: Transport, asked: Asked, condition: HeaderPairs = ()) -> None:
        self._transport = transport
        self._asked = asked
        self._condition = condition
        self._first: Answer | None = None
        self._reader = ResumingReader(transport, asked.what, self._open)

    def __enter__(self) -> Download:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._reader.close()

    @property
    def status(self) -> int:
        """200, another 2xx, or 304 when `condition` held."""
        return self._begun.status

    @property
    def headers(self) -> Headers:
        return self._begun.headers

    @property
    def size(self) -> int:
        """Bytes to come, or -1."""
        return self._begun.length

    def read(self, size: int = -1, /) -> bytes:
        return self._reader.read(size)

    def abort(self) -> None:
        """Make a read that blocks fail now; from any thread."""
        self._reader.abort()

    @property
    def _begun(self) -> Answer:
        assert self._first is not None
        return self._first

    def _open(self, offset: int) -> tuple[Origin, Answer]:
        if self._first is None:
            origin, self._first = open_url(self._transport, self._asked, self._condition)
            return origin, self._first
        validator = strong_validator(self.headers)
        if not validator or not offset:
            raise Restart
        more = (("Range", f"bytes={offset}-"), ("If-Range", validator))
        origin, answer = open_url(self._transport, self._asked, more)
        if answer.status != 206:
            answer.close()
            raise Restart
        return origin, answer


def strong_validator(headers: Headers) -> str:
    """What names exactly this version of a file: its ETag, else its Last-Modified, or nothing."""
    etag = headers.get("etag")
    if etag:
        return "" if etag.startswith("W/") else etag
    modified, sent = headers.get("last-modified"), headers.get("date")
    return modified if is_settled(modified, sent) else ""


def is_settled(modified: str, sent: str) -> bool:
    """Whether a file of time `modified`, sent at `sent` (HTTP dates), cannot have changed twice in that second."""
    before, after = seconds_of(modified), seconds_of(sent)
    return before is not None and after is not None and after - before >= _STRONG_AFTER_S


def seconds_of(date: str) -> int | None:
    """An HTTP date in seconds since 1970, or None when it is none."""
    if not date:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None


def open_url(
    transport: Transport, asked: Asked, more: HeaderPairs = (), *, method: str = "GET"
) -> tuple[Origin, Answer]:
    """Who answers and the answer (2xx or 304), after redirects and retries. The caller closes it.

    Raises:
        RegistryError: another status, or no answer; `status` and `temporary` tell more.
        Cancelled
    """
    budget = transport.settings.retry
    attempt = 0
    while True:
        transport.scope.check()
        attempt += 1
        try:
            origin, answer = _follow(transport, asked, more, method)
        except RegistryError as error:
            problem = error
        else:
            if 200 <= answer.status < 300 or answer.status == 304:
                return origin, answer
            problem = _refused(answer, origin, asked.what)
        if not problem.temporary or attempt >= budget.attempts:
            raise problem
        transport.scope.sleep(budget.wait(attempt))


def parse(text: str) -> Url:
    """The URL `text`, with what may not stand in one escaped, as browsers do.

    Raises:
        RegistryError: not an http or https URL.
    """
    if not text.isascii() or " " in text:
        from urllib.parse import quote

        text = quote(text, safe=_SAFE)
    return url.parse(text)


def _follow(transport: Transport, asked: Asked, more: HeaderPairs, method: str) -> tuple[Origin, Answer]:
    target = parse(asked.url)
    own = target.origin
    for _ in range(_MAX_REDIRECTS + 1):
        login = (("Authorization", asked.login),) if asked.login and target.origin == own else ()
        answer = _exchange(transport, target, (*asked.headers, *more, *login), asked.what, method)
        location = answer.headers.get("location")
        if answer.status not in _REDIRECTS or not location:
            return target.origin, answer
        answer.close()
        target = parse(location) if "://" in location.partition("?")[0] else url.join(target, location)
    raise RegistryError(f"{asked.what}: more than {_MAX_REDIRECTS} redirects, from {own.netloc} to {target.redacted}")


def _exchange(transport: Transport, target: Url, headers: HeaderPairs, what: str, method: str) -> Answer:
    settings = transport.settings
    given = {name.lower() for name, _ in headers}
    usual = (("User-Agent", settings.user_agent), ("Accept-Encoding", "identity"), ("Connection", "close"))
    fields = [("Host", target.origin.netloc), *(pair for pair in usual if pair[0].lower() not in given), *headers]
    try:
        connection, place, login = _connect(transport, target)
        try:
            with transport.scope.on_cancel(connection.abort):
                answer = connection.exchange(method, place, [*fields, *login], timeout_s=settings.read_timeout_s)
        except BaseException:
            connection.close()
            raise
    except (OSError, Malformed) as error:
        transport.scope.check()  # a connection that was broken by cancellation is no failure
        problem = failure.from_os_error(error, target.origin, what, timeout_s=settings.read_timeout_s)
        if "registry" in problem.hint:  # here it is any server
            problem.hint = "check the URL, or fetch the file yourself and COPY it"
        raise problem from error
    answer.abort = connection.abort
    answer.on_close = connection.close
    return answer


def _connect(transport: Transport, target: Url) -> tuple[Connection, str, HeaderPairs]:
    """A connection, what to ask on it, and the proxy's login.

    Plain HTTP goes through a proxy as an ordinary request: many allow CONNECT for TLS alone.
    """
    settings, origin = transport.settings, target.origin
    proxy = proxy_for(origin, settings.proxies) if origin.scheme == "http" else ""
    if not proxy:
        trust = transport.hosts.trust(origin.netloc) if origin.scheme == "https" else None
        return Connection(dial(origin, trust, settings, timeout_s=settings.dial_timeout_s)), target.target, ()
    text = proxy if "://" in proxy else "http://" + proxy
    direct = replace(settings, proxies=Proxies())
    sock = dial(url.parse(text).origin, None, direct, timeout_s=settings.dial_timeout_s)
    login = basic_login(text)
    return Connection(sock), str(target), (("Proxy-Authorization", login),) if login else ()


def basic_login(text: str) -> str:
    """The value of Authorization that the user and password in a URL ask for, or nothing."""
    login, at, _ = text.partition("://")[2].partition("/")[0].rpartition("@")
    if not at:
        return ""
    from urllib.parse import unquote

    user, _, password = login.partition(":")
    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def _refused(answer: Answer, origin: Origin, what: str) -> RegistryError:
    answer.close()
    reason = f" ({answer.reason})" if answer.reason else ""
    return RegistryError(
        f"{what}: {origin.netloc}: invalid response status {answer.status}{reason}",
        status=answer.status,
        temporary=answer.status in _TEMPORARY,
    )
