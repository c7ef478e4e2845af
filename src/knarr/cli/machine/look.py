"""What a machine offers for builds, thing by thing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from knarr import linux
from knarr.cli.machine import disk, kernel, programs
from knarr.cli.machine.finding import Finding
from knarr.config import Settings
from knarr.errors import KnarrError
from knarr.privilege import profile
from knarr.spec.platform import Platform, host_platform

if TYPE_CHECKING:
    from knarr.runtime.privatetable import Emulation

_ARCHITECTURES = ("amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x")


def look(settings: Settings) -> Iterator[Finding]:
    """Look at this machine; nothing is changed but for trials that are taken away again."""
    from knarr.remote.settings import RegistrySettings
    from knarr.session.dockerconfig import DockerConfig

    machine = os.uname()
    yield Finding("ok", "kernel", f"Linux {machine.release} on {host_platform()}")
    yield from kernel.look(profile.taken() or profile.ROOT)
    yield from disk.look(settings)
    yield from programs.look(settings)
    yield from _platforms(settings)
    yield from programs.registries(
        RegistrySettings.from_environment(os.environ).hosts_dirs, DockerConfig.from_environment(os.environ).files
    )


def _handler(how: Emulation | None) -> str | None:
    if how is None:
        return None
    return "a table of knarr's own" if how.user_namespace else "this machine's binfmt_misc"


def _platforms(settings: Settings) -> Iterator[Finding]:
    from knarr.runtime.emulate import Emulator, emulator_of, host_runs

    emulator = Emulator(settings.run / "binfmt")
    try:
        for platform in map(Platform.parse, _ARCHITECTURES):
            try:
                if linux.may_mount():
                    where = _handler(emulator.emulation(platform))
                elif host_runs(platform):
                    where = None
                else:
                    where = f"proot and {emulator_of(platform)}"
            except KnarrError as error:
                yield Finding("limited", str(platform), "cannot run", error.hint)
                continue
            if where is None:
                yield Finding("ok", str(platform), "runs by itself")
            else:
                yield Finding("ok", str(platform), "emulated", used=where, cost="slow: every instruction is translated")
    finally:
        emulator.close()
