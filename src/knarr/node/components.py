"""The list of what a node image is made of, and the choice from it. Pure.

known = read(text)
chosen = choose(known, versions={"containerd": "2.1.4"}, without=("qemu",))
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from knarr.errors import UsageError
from knarr.record import field, record, replace

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*")
_KEYS = frozenset(("name", "about", "version", "package", "url", "files", "sha256", "optional", "leave_out"))


@record
class Component:
    """One thing in the image: from the Debian package `package`, or from the archive behind `url`."""

    name: str
    version: str
    about: str = ""
    package: str = ""
    url: str = ""
    files: Mapping[str, str] = field(default_factory=dict, hash=False)  # member of the archive → place in the image
    sha256: Mapping[str, str] = field(default_factory=dict, hash=False)  # by architecture
    optional: bool = False
    leave_out: tuple[str, ...] = ()  # patterns of paths

    def address(self, arch: str) -> str:
        """Where its archive for `arch` is."""
        return self.url.replace("{version}", self.version).replace("{arch}", arch)


@record
class ComponentList:
    """A whole list: the Debian suite, the packages below, and the components in order."""

    suite: str
    python: str
    system: tuple[str, ...]
    leave_out: tuple[str, ...]
    components: tuple[Component, ...]

    @property
    def packages(self) -> tuple[Component, ...]:
        return tuple(each for each in self.components if each.package)

    @property
    def archives(self) -> tuple[Component, ...]:
        return tuple(each for each in self.components if not each.package)


def read(text: str, name: str = "the list of components") -> ComponentList:
    """The list that TOML says.

    Raises:
        UsageError: it is not one; the message names the component.
    """
    try:
        found = tomllib.loads(text)
        components = tuple(_component(each, name) for each in found["component"])
        listed = ComponentList(
            str(found["suite"]),
            str(found["python"]),
            tuple(map(str, found["system"])),
            tuple(map(str, found.get("leave_out", ()))),
            components,
        )
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}") from error
    except KeyError as error:
        raise UsageError(f"{name}: {error.args[0]} is missing") from error
    except (TypeError, AttributeError) as error:
        raise UsageError(f"{name}: not as a list of components is written") from error
    twice = {each.name for each in components if [other.name for other in components].count(each.name) > 1}
    if twice:
        raise UsageError(f"{name}: {', '.join(sorted(twice))} is there twice")
    return listed


def _component(said: Mapping[str, Any], name: str) -> Component:
    own = str(said["name"])
    unknown = sorted(set(said) - _KEYS)
    if unknown:
        raise UsageError(f"{name}: component {own}: {unknown[0]} is not known")
    if bool(said.get("package")) is bool(said.get("url")):
        raise UsageError(f"{name}: component {own}: needs a package or a url")
    for arch, digest in said.get("sha256", {}).items():
        if _SHA256.fullmatch(str(digest)) is None:
            raise UsageError(f"{name}: component {own}: the sha256 of {arch} has not 64 hexadecimal digits")
    for place in said.get("files", {}).values():
        if _PLACE.fullmatch(str(place)) is None:
            raise UsageError(f"{name}: component {own}: {place} is no place in an image", hint="usr/local/bin/NAME")
    known = {key: value for key, value in said.items() if key != "leave_out"}
    return Component(**known, leave_out=tuple(map(str, said.get("leave_out", ()))))


def choose(
    known: ComponentList,
    *,
    versions: Mapping[str, str],
    without: Collection[str] = (),
    checksums: Mapping[tuple[str, str], str] | None = None,
) -> ComponentList:
    """The list with other `versions`, and `without` some. An empty version: as listed, and not to be left out.

    Another version of an archive needs a checksum, by name and architecture; the one
    of a Debian package comes from the suite's signed index.

    Raises:
        UsageError: a name is not in the list, is asked for and left out, or has no checksum.
    """
    names = [each.name for each in known.components]
    for name in (*versions, *without, *(name for name, _ in checksums or ())):
        if name not in names:
            raise _unknown(name, names)
    both = sorted(set(versions) & set(without))
    if both:
        raise UsageError(f"component {both[0]}: asked for, and left out")
    chosen = [_altered(each, versions, checksums or {}) for each in known.components if each.name not in without]
    return replace(known, components=tuple(chosen))


def _altered(each: Component, versions: Mapping[str, str], checksums: Mapping[tuple[str, str], str]) -> Component:
    own = {arch: digest for (name, arch), digest in checksums.items() if name == each.name}
    if each.name not in versions:
        return replace(each, sha256={**each.sha256, **own})
    each = replace(each, optional=False)
    version = versions[each.name] or each.version
    if version == each.version:
        return replace(each, sha256={**each.sha256, **own})
    if each.url and not own:
        raise UsageError(
            f"component {each.name}={version}: its checksum is not in the list",
            hint=f"--checksum {each.name}/ARCH=SHA256 for each architecture, as its makers publish it",
        )
    return replace(each, version=version, sha256=own)


def for_architectures(chosen: ComponentList, architectures: Iterable[str]) -> ComponentList:
    """The list as it is for images of these architectures: what is optional and not made for one of them is left out.

    Raises:
        UsageError: what is not optional is not made for one of them.
    """
    kept = []
    for each in chosen.components:
        missing = [arch for arch in architectures if each.url and arch not in each.sha256]
        if not missing:
            kept.append(each)
        elif not each.optional:
            listed = ", ".join(sorted(each.sha256)) or "nothing"
            raise UsageError(
                f"component {each.name} {each.version}: not listed for {missing[0]}, only for {listed}",
                hint=f"--without {each.name}, or --checksum {each.name}/{missing[0]}=SHA256",
            )
    return replace(chosen, components=tuple(kept))


def _unknown(name: str, names: list[str]) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    return UsageError(f"component {name}: not in the list", hint=hint)
