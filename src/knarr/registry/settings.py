"""What a registry server is told: limits, places, and who may do what. Read from TOML by `configfile`."""

from __future__ import annotations

from pathlib import Path

from knarr.record import field, record
from knarr.registry.certificates import TlsFiles
from knarr.registry.passwords import Robot
from knarr.registry.rules import Rule
from knarr.registry.upstreams import Upstream
from knarr.registry.webhooks import Webhook
from knarr.spec.manifest import MAX_MANIFEST_BYTES

HOUR_S = 3600.0
SPARSE = ("all", "indexes", "none")


@record
class Limits:
    """How much of anything one client may ask for."""

    manifest_bytes: int = MAX_MANIFEST_BYTES
    page: int = 1000  # names in one answer of a listing, whatever `n` says
    referrers_bytes: int = 4 << 20  # of one answer: what clients read as a manifest
    tags_per_put: int = 64  # by ?tag=; the specification asks for at least 10
    connections: int = 4096
    idle_s: float = 60.0  # between two pieces of a body, or before a request's header is whole
    upload_idle_s: float = 168 * HOUR_S  # an upload nobody has added to for so long is dropped


@record
class Keep:
    """One retention rule: in `repositories`, tags that match `tags` are kept if any of the limits says so."""

    repositories: tuple[str, ...] = ("**",)
    tags: tuple[str, ...] = ("*",)
    newest: int = 0  # as many of the last set
    set_s: float = 0.0  # set in the last so many seconds
    pulled_s: float = 0.0  # pulled in the last so many seconds


@record
class Retention:
    """What the collector may take: see `gc`. By default only what no manifest needs."""

    grace_s: float = HOUR_S  # what was pushed or looked for so lately is spared
    undo_s: float = 24 * HOUR_S  # what was removed can be had back for so long
    untagged_s: float | None = None  # manifests that no tag leads to go after so long; None: never
    interval_s: float = 0.0  # between two collections by the server itself; 0: none
    keep: tuple[Keep, ...] = ()  # without any, every tag is kept


@record
class Auth:
    """How callers are known. With neither htpasswd, robots nor client certificates, everybody may do everything."""

    htpasswd: Path | None = None
    robots: tuple[Robot, ...] = ()
    rules: tuple[Rule, ...] = ()
    anonymous_read: bool = False
    tokens: bool = True  # a token service, beside Basic authentication
    token_s: int = 300
    service: str = "knarr registry"
    realm: str = ""  # the URL of the token service as clients see it; "": /token on the host they ask


@record
class ServerSettings:
    """One server."""

    host: str = "127.0.0.1"
    port: int = 5000
    tls: TlsFiles | None = None
    auth: Auth = field(default_factory=Auth)
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    sparse: str = "all"  # what a manifest may name that is not here: all, indexes (only manifests of an index), none
    delete: bool = True
    metrics: bool = False
    webhooks: tuple[Webhook, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    log: bool = False  # a line of JSON on standard output for each request
