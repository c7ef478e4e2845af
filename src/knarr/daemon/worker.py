"""What the daemon says of itself: its version, and the one worker it has, which is this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.pb.ops_pb2 import Platform as PlatformMessage
from knarr.pb.worker_pb2 import BuildkitVersion, WorkerRecord
from knarr.pb.worker_pb2 import CDIDevice as DeviceMessage
from knarr.runtime.emulate import Emulator
from knarr.spec.platform import Platform, host_platform

if TYPE_CHECKING:
    from collections.abc import Mapping

# Clients compare it with what they need; it is BuildKit's version whose API is served.
API_VERSION = "v0.33.0"
_LABEL = "org.mobyproject.buildkit.worker."


class Worker:
    """This machine as a worker."""

    def __init__(
        self,
        root: Path,
        *,
        labels: Mapping[str, str],
        platforms: Iterable[Platform] = (),
        cdi_dirs: Iterable[Path] = (),
    ) -> None:
        """`platforms` replaces what is found here; devices are described in `cdi_dirs`."""
        self._root = root
        self._cdi_dirs = tuple(cdi_dirs)
        self._labels = dict(labels)
        self._platforms = tuple(platforms)

    def version(self) -> BuildkitVersion:
        return BuildkitVersion(
            package="knarr", version=f"{API_VERSION}-knarr.{version('knarr')}", revision="", dockerfileVersion="1.26.0"
        )

    @cached_property
    def id(self) -> str:
        """A name that stays as long as the state directory does."""
        path = self._root / "workerid"
        try:
            known = path.read_text().strip()
        except FileNotFoundError:
            known = ""
        if not known:
            known = os.urandom(16).hex()
            path.write_text(known)
        return known

    @cached_property
    def platforms(self) -> tuple[Platform, ...]:
        """Those whose steps run here, this machine's own first."""
        return self._platforms or tuple(
            dict.fromkeys((host_platform(), *Emulator(self._root / "run/binfmt").available()))
        )

    def records(self, filters: Iterable[str] = ()) -> list[WorkerRecord]:
        """The worker, unless no filter lets it pass."""
        record = WorkerRecord(
            ID=self.id,
            Labels={
                f"{_LABEL}executor": "oci",
                f"{_LABEL}hostname": socket.gethostname(),
                **self._labels,
            },
            platforms=[_message(platform) for platform in self.platforms],
            BuildkitVersion=self.version(),
            CDIDevices=self._devices(),
        )
        return [record]

    def _devices(self) -> list[DeviceMessage]:
        """What steps can ask for with --device, read anew: devices come and go."""
        if not any(map(os.path.isdir, self._cdi_dirs)):
            return []
        from knarr.runtime.cdi import read_devices

        return [
            DeviceMessage(Name=device.name, AutoAllow=device.is_for_all, Annotations=device.annotations)
            for device in read_devices(self._cdi_dirs).devices.values()
        ]


def _message(platform: Platform) -> PlatformMessage:
    return PlatformMessage(Architecture=platform.architecture, OS=platform.os, Variant=platform.variant)
