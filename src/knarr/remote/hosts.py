"""From a registry's name to the endpoints to ask, in order, each with its trust.

What users have written for other tools is read where it lies, at each use:

1. `hosts.toml` of containerd: its mirrors, then its `server`. The first
   directory that has one for this registry decides.
2. Else the mirrors of `buildkitd.toml`, then the registry itself.
   Where that file says nothing of it: what podman's `registries.conf` says.
3. For every endpoint: certificates from docker's pattern (`*.crt`, `x.cert` +
   `x.key`) in the directory of that host below *all* of the configured
   directories, and from `buildkitd.toml`. A CA placed for one tool serves all.

The directory of `host:5000` is `host_5000_` or `host:5000`; `_default` stands in
when no directory has either. Spec: containerd 2, docs/hosts.md; docker,
"certificates"; buildkitd.toml.md.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.record import record, replace
from knarr.remote import url
from knarr.remote.settings import RegistrySettings
from knarr.remote.trust import Trust
from knarr.remote.url import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from knarr.remote.buildkitd import Table
    from knarr.remote.registriesconf import Place, Rule

PULL, RESOLVE, PUSH, REFERRERS = "pull", "resolve", "push", "referrers"
ALL = frozenset((PULL, RESOLVE, PUSH, REFERRERS))
_HOLDS_S = 0.5  # between looks at the files: each takes 43 `stat`, as much as half of all else that a request costs
HUB = {"docker.io": "registry-1.docker.io"}


@record
class Endpoint:
    """One place that answers for a registry."""

    origin: Origin
    prefix: str  # "/v2", a mirror's path with "/v2" behind it, or "/v2" and what stands before repositories there
    capabilities: frozenset[str] = ALL
    trust: Trust = Trust()
    headers: tuple[tuple[str, str], ...] = ()
    namespace: str = ""  # when it is not the registry's own host: the registry it answers for, sent as `ns`
    accounts: tuple[str, ...] = ()  # names under which a login for it may be kept, best first
    dial_timeout_s: float = 0.0  # 0: the settings' own
    plain_fallback: bool = False  # an insecure host without TLS is asked in plain HTTP
    cut: str = ""  # what repositories begin with here and not there


class Hosts:
    """Endpoints by registry name; remembered until one of the files behind them changes."""

    def __init__(self, settings: RegistrySettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[int, ...], tuple[Endpoint, ...]]] = {}

    def endpoints(self, registry: str, repository: str = "") -> tuple[Endpoint, ...]:
        """The endpoints of `registry` (`host[:port]`), best first; the last one is the registry itself.

        registries.conf may have others for some of its repositories.

        Raises:
            UsageError: a configuration file that cannot be read or understood.
        """
        key = f"{registry}/{repository}" if self._settings.registries_conf else registry
        known, now = self._known.get(key), self._clock()
        if known is not None and now < known[0]:
            return known[2]
        stamp = self._stamp(registry)
        found = known[2] if known is not None and known[1] == stamp else self._find(registry, key)
        self._known[key] = (now + _HOLDS_S, stamp, found)
        return found

    def look_again(self) -> None:
        """Have the files looked at for the next request, however lately that was done."""
        self._known = {name: (0.0, stamp, found) for name, (_, stamp, found) in self._known.items()}

    def trust(self, netloc: str) -> Trust:
        """What is configured for `netloc` (`host[:port]`) by certificate files, `buildkitd.toml` and the settings."""
        from knarr.remote import certsd

        looked = tuple(f"{root}/{netloc}" for root in self._settings.hosts_dirs)
        found = Trust(self._settings.extra_ca, (), netloc not in self._settings.insecure, looked)
        for directory in self._directories(netloc):
            found |= certsd.read(directory)
        for table in self._buildkitd(netloc):
            found |= table.trust
        return found

    def _find(self, registry: str, name: str) -> tuple[Endpoint, ...]:
        own = self._plain(registry, ALL)
        for directory in self._directories(registry):
            path = f"{directory}/hosts.toml"
            if os.path.exists(path):
                from knarr.remote import hoststoml

                return self._completed(hoststoml.read(path, own.origin), registry)
        mirrors: list[Endpoint] = []
        tables = self._buildkitd(registry)
        rule = None if tables else self._rule(name)
        if rule is not None:
            return self._ruled(rule, registry)
        for table in tables:
            mirrors += [self._plain(mirror, frozenset((PULL, RESOLVE))) for mirror in table.mirrors]
        return self._completed((*mirrors, own), registry)

    def _rule(self, name: str) -> Rule | None:
        files = [path for path in _files(self._settings.registries_conf) if _has_tables(path)]
        if not files:
            return None
        from knarr.remote import registriesconf

        return registriesconf.match(files, name)

    def _ruled(self, rule: Rule, registry: str) -> tuple[Endpoint, ...]:
        """As podman: mirrors only give, and each place has the logins and certificates of its own host."""
        from knarr.remote.registriesconf import BY_DIGEST, BY_TAG

        if rule.blocked:
            raise UsageError(f"{rule.prefix} is blocked", hint=f"see blocked in {rule.file}")
        gives = {BY_DIGEST: frozenset((PULL,)), BY_TAG: frozenset((RESOLVE,))}
        found = [
            self._moved(rule, mirror, gives.get(mirror.pulls, frozenset((PULL, RESOLVE)))) for mirror in rule.mirrors
        ]
        return (
            *found,
            self._moved(rule, rule.place if rule.place.location else replace(rule.place, location=registry), ALL),
        )

    def _moved(self, rule: Rule, place: Place, capabilities: frozenset[str]) -> Endpoint:
        netloc, _, path = place.location.partition("/")
        plain = self._plain(netloc, capabilities)
        made = self._complete(plain, netloc)
        return replace(
            made,
            prefix=f"/v2/{path}" if path else "/v2",
            cut=rule.prefix.partition("/")[2],
            plain_fallback=plain.plain_fallback or (place.insecure and plain.origin.scheme == "https"),
            trust=replace(made.trust, verify=made.trust.verify and not place.insecure),
        )

    def _plain(self, place: str, capabilities: frozenset[str]) -> Endpoint:
        """The endpoint for `host[:port][/path]`, https unless something says otherwise."""
        netloc, _, path = place.partition("/")
        http = netloc in self._settings.plain_http or any(table.http for table in self._buildkitd(netloc))
        host, port = url.split_host(HUB.get(netloc, netloc))
        if not http and url.is_loopback(host) and port not in (0, 443):
            # As containerd: a registry on this machine speaks TLS only where it was set up.
            http = not self.trust(netloc).configured
        scheme = "http" if http else "https"
        origin = Origin(scheme, host, port or url.DEFAULT_PORT[scheme])
        insecure = netloc in self._settings.insecure and not http
        return Endpoint(origin, f"/{path.strip('/')}/v2" if path else "/v2", capabilities, plain_fallback=insecure)

    def _completed(self, found: tuple[Endpoint, ...], registry: str) -> tuple[Endpoint, ...]:
        """With trust, and with accounts: a login for the registry also goes to its `server`, never to a mirror.

        Docker Hub has only its own server; another one written for it is a mirror.
        """
        made = [self._complete(endpoint, registry) for endpoint in found]
        server = made[-1]
        if server.namespace and registry not in HUB:
            made[-1] = replace(server, accounts=(*server.accounts, registry))
        return tuple(made)

    def _complete(self, endpoint: Endpoint, registry: str) -> Endpoint:
        """With the trust of its host, and as a stand-in when that is not the registry's own."""
        netloc = endpoint.origin.netloc
        names = {registry, netloc} if netloc == HUB.get(registry, registry) else {netloc}
        trust = endpoint.trust
        for name in sorted(names):
            trust |= self.trust(name)
        mirror = HUB.get(registry, registry) not in (netloc, f"{endpoint.origin.host}:{endpoint.origin.port}")
        account = registry if not mirror else netloc
        return replace(endpoint, trust=trust, namespace=registry if mirror else "", accounts=(account,))

    def _directories(self, netloc: str) -> list[str]:
        """The existing directories for `netloc`, in the order of the settings."""
        roots = self._settings.hosts_dirs
        for names in (_names(netloc), ("_default",)):
            found = [f"{root}/{name}" for root in roots for name in names if os.path.isdir(f"{root}/{name}")]
            if found:
                return found
        return []

    def _buildkitd(self, netloc: str) -> list[Table]:
        paths = [path for path in self._settings.buildkitd_toml if os.path.exists(path)]
        if not paths:
            return []
        from knarr.remote import buildkitd

        return [table for path in paths if (table := buildkitd.read(path).get(netloc)) is not None]

    def _stamp(self, registry: str) -> tuple[int, ...]:
        """Changes whenever a file that `_find` would read is added, removed or rewritten."""
        paths = list(self._settings.buildkitd_toml)
        paths += (*self._settings.registries_conf, *_files(self._settings.registries_conf))
        for root in self._settings.hosts_dirs:
            paths.append(root)
            for name in (*_names(registry), "_default"):
                paths += (f"{root}/{name}", f"{root}/{name}/hosts.toml")
        return tuple(_mtime(path) for path in paths)


def _names(netloc: str) -> tuple[str, ...]:
    host, colon, port = netloc.rpartition(":")
    if colon and port.isdigit():
        return (f"{host}_{port}_", netloc)
    return (netloc,)


def _files(paths: tuple[str, ...]) -> Iterator[str]:
    """`paths`, and of those that are directories of settings (`*.d`) their files."""
    for path in paths:
        if not path.endswith(".d"):
            yield path
        elif os.path.isdir(path):
            yield from (f"{path}/{name}" for name in sorted(os.listdir(path)) if name.endswith(".conf"))


def _has_tables(path: str) -> bool:
    """Whether a registries.conf says anything: what distributions ship is comments and aliases."""
    try:
        with open(path, "rb") as file:
            return any(line.lstrip().startswith(b"[[registry") for line in file)
    except OSError:
        return False


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
