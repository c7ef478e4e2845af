"""The parts of an engine, each made when it is first asked for: a warm build never meets most of them."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from knarr import disk, linux
from knarr.config import Settings
from knarr.errors import KnarrError
from knarr.scope import Scope
from knarr.session.session import Credentials, IssuesTokens

if TYPE_CHECKING:
    from knarr.cache.store import CacheStore
    from knarr.containerd.nearby import Nearby
    from knarr.content.store import Store
    from knarr.llb.ops import ResolveMode
    from knarr.network.steps import Networks
    from knarr.network.usermode import UserMode
    from knarr.ops.images import Approval, Images
    from knarr.remote.repository import Registry
    from knarr.remote.settings import RegistrySettings
    from knarr.runtime.runner import Runtime
    from knarr.snapshot.snapshotter import Snapshotter

T = TypeVar("T")
RegistryClient = Callable[..., "Registry"]  # with the arguments of remote.repository.Registry


class Parts:
    """One engine's parts on one state directory. Safe from several threads."""

    def __init__(
        self,
        settings: Settings,
        credentials: Callable[[str], Credentials],
        registry_settings: Callable[[], RegistrySettings] | None = None,
        *,
        scope: Scope | None = None,
        registry_client: RegistryClient | None = None,
        issuer: IssuesTokens | None = None,
    ) -> None:
        """`scope` cancels what a registry is asked for; `registry_client` makes another client than the usual one.

        `issuer` fetches tokens for registries, with logins that stay with it.
        """
        self.settings = settings
        self._registry_client = registry_client
        self._registry_settings = registry_settings
        self._credentials = credentials
        self._issuer = issuer
        self._scope = scope
        self._lock = threading.RLock()
        self._made: dict[str, object] = {}

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]  # type: ignore[return-value]  # made by `make` of the same name

    def prepare(self) -> None:
        """Make the state directory.

        Raises:
            KnarrError: it cannot be made or written.
        """
        root = self.settings.root
        try:
            for name in ("run", "flights"):
                os.makedirs(root / name, mode=0o711, exist_ok=True)
            if not os.access(root / "run", os.W_OK):
                raise PermissionError(errno.EACCES, "cannot be written", os.fspath(root))
        except OSError as error:
            if disk.lacks_room(error):
                raise disk.no_room(root) from error
            raise KnarrError(
                f"{error.filename or root}: {error.strerror}", hint="set KNARR_ROOT to a directory you can write"
            ) from error

    @property
    def store(self) -> Store:
        def make() -> Store:
            from knarr.content.store import Store

            return Store(self.settings.content)

        return self._once("store", make)

    @property
    def cache(self) -> CacheStore:
        def make() -> CacheStore:
            from knarr.cache.store import CacheStore

            return CacheStore(self.settings.cache_db)

        return self._once("cache", make)

    @property
    def snapshotter(self) -> Snapshotter:
        def make() -> Snapshotter:
            start, _, kind = self.settings.snapshotter.partition(":")
            if start == "containerd":
                from knarr.containerd.snapshotter import ContainerdSnapshotter

                where = self.settings.containerd_usual
                return ContainerdSnapshotter(
                    self.settings.snapshots, where.address, where.namespace, kind or "overlayfs"
                )
            from knarr.snapshot.choose import choose

            return choose(self.settings.snapshots, self.settings.snapshotter or "auto")

        return self._once("snapshotter", make)

    def registry(self) -> Registry:
        def made() -> Registry:
            from knarr.record import replace
            from knarr.remote.repository import Registry
            from knarr.remote.settings import RegistrySettings

            chosen = self._registry_settings() if self._registry_settings else RegistrySettings()
            extra = tuple(map(str, self.settings.hosts_dirs))
            if chosen.hosts_dirs[: len(extra)] != extra:
                chosen = replace(chosen, hosts_dirs=(*extra, *chosen.hosts_dirs))
            if not chosen.uploads_dir:
                chosen = replace(chosen, uploads_dir=str(self.settings.root / "uploads"))
            if not chosen.store_dir:
                chosen = replace(chosen, store_dir=str(self.settings.content))
            make = self._registry_client or Registry
            client = make(chosen, self._credentials, scope=self._scope)
            client.transport.auth.issuer = self._issuer
            return client

        return self._once("registry", made)

    def images(self, mode: ResolveMode) -> Images:
        """Base images for one build, resolved as `mode` says."""
        from knarr.ops.images import Images
        from knarr.ops.lastknown import LastKnown

        known = LastKnown(self.settings.root)
        return Images(
            self.store,
            self.cache,
            self.registry,
            mode=mode,
            last_known=known,
            neighbour=self._containerd(),
            approval=self._approval() if self.settings.verify else None,
        )

    def _approval(self) -> Approval:
        def make() -> Approval:
            from knarr.engine.approval import PolicyApproval

            return PolicyApproval.read(self.settings.verify, self.registry)

        return self._once("approval", make)

    def _containerd(self) -> Nearby | None:
        where = self.settings.containerd
        if where is None:
            return None

        def make() -> Nearby:
            from knarr.containerd.nearby import Nearby

            return Nearby(where)

        return self._once("containerd", make)

    def runtime(self) -> Runtime:
        def make() -> Runtime:
            if not linux.may_mount():
                from knarr.runtime.unmounted import Unmounted
                from knarr.snapshot import tree

                return Unmounted(self.settings.run, tree.clone)
            from knarr.runtime.runner import Runtime

            return Runtime(self.settings.run, self.settings.oci_runtime, networks=self._networks)

        return self._once("runtime", make)

    def _networks(self) -> Networks | UserMode | None:
        wanted = self.settings.network
        usable = os.path.exists(wanted.cni_config) and not linux.is_root_by_namespace()
        if wanted.mode == "host" or (wanted.mode == "auto" and not usable):
            return None  # the usual case, for which nothing is loaded
        from knarr.network.choose import networks

        return networks(wanted, self.settings.root)

    def close(self) -> None:
        """Close connections; the parts open them again when they are used again."""
        with self._lock:
            for part in self._made.values():
                close = getattr(part, "close", None)
                if close is not None:
                    close()
