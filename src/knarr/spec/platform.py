"""Platforms: `os/arch[/variant]`, normalised as containerd does, and which image fits which.

Spec: image-spec v1.1, image-index.md, "platform"; normalisation as in
containerd/platforms v1 (tried against buildx: arm→arm/v7, arm64/v8→arm64).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from knarr.errors import UsageError
from knarr.record import record

_ARCH = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "mipsel": "mipsle",
    "mips64el": "mips64le",
    "loong64": "loong64",
    "loongarch64": "loong64",
}
_KNOWN_ARCH = frozenset(
    (
        *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
        *("ppc64", "ppc64le", "riscv64", "s390x", "wasm", "wasm32", "wasm64"),
    )
)
_KNOWN_OS = frozenset(
    ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1", "js", "aix", "solaris", "plan9", "android")
)
_PART = re.compile(r"[A-Za-z0-9_.-]+")
_HINT = "write os/arch[/variant], such as linux/arm64"
_OS = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?")  # windows(10.0.1+win32k)


@record
class Platform:
    """An operating system, an architecture and perhaps a variant, normalised by `parse`."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def in_full(self) -> str:
        """With version and features of the operating system: `windows(10.0.1+win32k)/amd64`."""
        version = "+".join(filter(None, (_escaped(self.os_version), *map(_escaped, sorted(set(self.os_features))))))
        if self.os_features and not self.os_version:
            version = f"+{version}"
        parts = (f"{self.os}({version})" if version else self.os, self.architecture, self.variant)
        return "/".join(part for part in parts if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform a user wrote: `linux/arm64/v8`, `arm64`, `windows(10.0.1)/amd64`, `local`, with aliases.

        Raises:
            UsageError: malformed or an unknown single word.
        """
        parts = text.strip().split("/")
        os_part = _OS.fullmatch(parts[0])
        if not 1 <= len(parts) <= 3 or os_part is None:
            raise UsageError(f"{text!r} is not a platform", hint=_HINT)
        for part in parts[1:]:
            if not _PART.fullmatch(part):
                rule = f'platform specifier component must match "^{_PART.pattern}$"'
                raise UsageError(f'"{part}" is an invalid component of "{text}": {rule}: invalid argument', hint=_HINT)
        version, features = _unescaped(os_part[2] or ""), tuple(map(_unescaped, (os_part[3] or "").split("+")[1:]))
        here = host_platform()
        if len(parts) == 1:
            word = parts[0].lower()
            if word == "local":
                return here
            if os_part[1].lower() in _KNOWN_OS:
                return cls(os_part[1].lower(), here.architecture, here.variant, version, features)
            arch, variant = _normalise(word, "")
            if arch not in _KNOWN_ARCH:
                raise UsageError(f"{text!r} is neither an operating system nor an architecture")
            return cls("linux", arch, variant)
        name = os_part[1].lower()
        arch, variant = _normalise(parts[1].lower(), parts[2].lower() if len(parts) == 3 else "")
        return cls({"macos": "darwin"}.get(name, name), arch, variant, version, features)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Platform:
        """The platform of a descriptor or an image config, normalised."""
        arch, variant = _normalise(str(data.get("architecture", "")), str(data.get("variant", "")))
        return cls(
            str(data.get("os", "")),
            arch,
            variant,
            str(data.get("os.version", "")),
            tuple(str(feature) for feature in data.get("os.features") or ()),
        )

    def to_json(self) -> dict[str, Any]:
        """The platform object of a descriptor; empty members left out."""
        data: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            data["os.version"] = self.os_version
        if self.os_features:
            data["os.features"] = list(self.os_features)
        if self.variant:
            data["variant"] = self.variant
        return data

    def is_attestation(self) -> bool:
        """True for unknown/unknown, which marks attestation manifests and never matches a request."""
        return self.os == "unknown" or self.architecture == "unknown"


_RESERVED = str.maketrans({sign: f"%{ord(sign):02X}" for sign in "%+()/"})


def _escaped(text: str) -> str:
    """A version or a feature as it stands between the brackets."""
    return text.translate(_RESERVED)


def _unescaped(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text) if "%" in text else text


def _normalise(arch: str, variant: str) -> tuple[str, str]:
    if arch == "armhf":
        return "arm", variant or "v7"
    if arch == "armel":
        return "arm", variant or "v6"
    arch = _ARCH.get(arch, arch)
    if arch == "arm64" and variant in ("8", "v8", "v8.0"):
        variant = ""
    elif arch == "arm":
        variant = "v7" if variant in ("", "7") else "v" + variant if variant.isdigit() else variant
    elif arch == "amd64" and variant == "v1":
        variant = ""
    return arch, variant


def host_platform() -> Platform:
    """The platform this machine runs without emulation."""
    arch, variant = _normalise(os.uname().machine.lower(), "")
    return Platform("linux", arch, variant)


def preference(wanted: Platform) -> tuple[Platform, ...]:
    """What an image for `wanted` may say it is, best first (arm/v7 runs v6 and v5; arm64 runs arm)."""
    if wanted.architecture == "arm" and wanted.variant in ("v8", "v7", "v6"):
        levels = [f"v{n}" for n in range(int(wanted.variant[1:]), 4, -1)]
        return tuple(Platform(wanted.os, "arm", level) for level in levels)
    if wanted.architecture == "arm64" and not wanted.variant:
        arm = tuple(Platform(wanted.os, "arm", f"v{n}") for n in (8, 7, 6, 5))
        return (Platform(wanted.os, "arm64"), *arm)
    if wanted.architecture == "amd64":
        level = int(wanted.variant[1:]) if wanted.variant[1:].isdigit() else 1
        lower = [Platform(wanted.os, "amd64", f"v{n}") for n in range(level, 1, -1)]
        return (*lower, Platform(wanted.os, "amd64"), Platform(wanted.os, "386"))
    return (Platform(wanted.os, wanted.architecture, wanted.variant),)
