"""Settings of the registry client: where trust is looked for, how long to wait, how often to try again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from knarr.record import field, record

SYSTEM_DIRS = (
    "/etc/knarr/certs.d",
    "/etc/containerd/certs.d",
    "/etc/docker/certs.d",
    "/etc/containers/certs.d",
)
USER_DIRS = (".config/docker/certs.d", ".config/containers/certs.d")  # rootless docker's and podman's, below HOME
REGISTRIES_CONF = "/etc/containers/registries.conf"
BUILDKITD_TOML = "/etc/buildkit/buildkitd.toml"


@record
class Proxies:
    """Proxies by the scheme of the target; `none` holds NO_PROXY's entries."""

    http: str = ""
    https: str = ""
    none: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """As curl and Go read it: lower case wins, and HTTP_PROXY in capitals counts as well."""

        def value(name: str) -> str:
            return environ.get(name.lower()) or environ.get(name) or ""

        none = tuple(part.strip().lower() for part in value("NO_PROXY").split(",") if part.strip())
        return cls(value("HTTP_PROXY") or value("ALL_PROXY"), value("HTTPS_PROXY") or value("ALL_PROXY"), none)


@record
class RetryBudget:
    """How hard to try when a failure is temporary; counted anew whenever bytes have moved."""

    attempts: int = 5  # 0.25 + 0.5 + 1 + 2 s: outlasts a registry's restart behind a load balancer
    first_wait_s: float = 0.25
    silent_attempts: int = 2  # of a host that says nothing: each costs a whole timeout, a minute for a read
    longest_wait_s: float = 60.0  # a Retry-After beyond this is an answer for a person, not for a loop

    def tries(self, attempts: int, cause: BaseException | None) -> int:
        """How many of `attempts` a failure with this cause is worth."""
        return min(attempts, self.silent_attempts) if isinstance(cause, TimeoutError) else attempts

    def wait(self, attempt: int) -> float:
        """Seconds before try number `attempt` + 1: doubling, at most 8 s, so that many tries stay usable.

        Up to a quarter is taken off by the clock's last digits: threads that were
        refused together do not come back together. (`random` costs 1 ms to import.)
        """
        spread = time.monotonic_ns() // 1000 % 256 / 1024
        return min(self.first_wait_s * (1 << attempt - 1), 8.0) * (1 - spread)


_NO_PROXIES = Proxies()
_USUAL_RETRIES = RetryBudget()


@record
class RegistrySettings:
    """Everything the client is told; it reads no environment of its own."""

    hosts_dirs: tuple[str, ...] = SYSTEM_DIRS  # searched in order; see `hosts`
    buildkitd_toml: tuple[str, ...] = (BUILDKITD_TOML,)
    registries_conf: tuple[str, ...] = ()  # podman's files, and directories of more (*.d); a later one counts more
    plain_http: frozenset[str] = frozenset()  # hosts (host[:port]) that are to be asked without TLS
    insecure: frozenset[str] = frozenset()  # hosts whose certificate is not checked; plain HTTP when they have no TLS
    extra_ca: tuple[str, ...] = ()  # PEM files trusted for every host, on top of what is found
    addresses: Mapping[str, str] = field(default_factory=dict, hash=False)  # host → IP address, instead of DNS
    proxies: Proxies = _NO_PROXIES
    retry: RetryBudget = _USUAL_RETRIES
    dial_timeout_s: float = 30.0  # containerd's dial_timeout
    read_timeout_s: float = 60.0  # between two reads; the slowest answer of a healthy registry is a token's, ~10 s
    commit_timeout_s: float = 600.0  # closing an upload: the registry hashes or moves the whole blob, 10 GiB at 20 MB/s
    mirror_rest_s: float = 60.0  # a mirror that could not be reached is passed over for so long
    idle_per_host: int = 8  # connections kept open: one per blob of a usual parallel copy
    idle_s: float = 30.0  # below the 60 s after which common load balancers drop an idle connection
    whole_bytes: int = 8 << 20  # a blob up to this size travels in one request, held in memory if it cannot be rewound
    chunk_bytes: int = 8 << 20  # of a chunked upload; one per running upload is held in memory
    uploads_dir: str = ""  # where uploads under way are noted, so that another process can go on; empty: nowhere
    store_dir: str = ""  # the content store of this process: a registry that has the same one is lent blobs, not sent
    tags_page: int = 1000  # distribution's largest page
    user_agent: str = "knarr"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> RegistrySettings:
        """The settings that `KNARR_HOSTS_DIR`, `HOME` and the proxy variables ask for."""
        extra = tuple(part for part in environ.get("KNARR_HOSTS_DIR", "").split(":") if part)
        home = environ.get("HOME", "")
        user = tuple(f"{home}/{part}" for part in USER_DIRS) if home else ()
        return cls(
            hosts_dirs=(*extra, *user, *SYSTEM_DIRS),
            registries_conf=_registries_conf(environ),
            proxies=Proxies.from_environment(environ),
        )


def _registries_conf(environ: Mapping[str, str]) -> tuple[str, ...]:
    """As podman looks for them: who has a file of his own does not read the machine's."""
    home = environ.get("HOME", "")
    own = f"{home}/.config/containers/registries.conf" if home else ""
    named = environ.get("CONTAINERS_REGISTRIES_CONF", "")
    if own and not named and os.path.exists(own):
        return (own, f"{own}.d")
    return (named or REGISTRIES_CONF, f"{REGISTRIES_CONF}.d", *((f"{own}.d",) if own else ()))
