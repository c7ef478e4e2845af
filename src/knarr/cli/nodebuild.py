"""`knarr node build`: the node image, for each platform, by `knarr build`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from knarr.node.cache import Cache
    from knarr.node.components import ComponentList
    from knarr.node.gather import Parts

FLAGS = (
    Flag("platform", Kind.LIST, "PLATFORM", "linux/amd64, linux/arm64, or both (default: this machine's)"),
    Flag("tag", Kind.LIST, "NAME", "of the image", short="t"),
    Flag("push", Kind.SWITCH, "", "send it to its registry"),
    Flag("output", Kind.LIST, "type=…", "another result, as `knarr build --output` has them", short="o"),
    Flag("rootfs", Kind.TEXT, "DIR", "lay it out in a new directory, for a machine without containers"),
    Flag("component", Kind.LIST, "NAME[=VERSION]", "another version; the name alone: it may not be left out"),
    Flag("checksum", Kind.LIST, "NAME/ARCH=SHA256", "of another version of what comes as an archive"),
    Flag("without", Kind.LIST, "NAME", "leave a component out"),
    Flag("list", Kind.SWITCH, "", "only show the components: name, version, source"),
    Flag("components", Kind.TEXT, "FILE", "another list of components, in the form of knarr's own"),
    Flag("mirror", Kind.TEXT, "URL", "mirror of Debian (default: the one in this machine's apt sources)"),
    Flag("cache", Kind.TEXT, "DIR", "keep what was fetched there (default: node in KNARR_ROOT)"),
    Flag("offline", Kind.SWITCH, "", "use the cache alone; what is optional and not in it is left out"),
    Flag("context", Kind.TEXT, "DIR", "only write the build context to a new directory, Dockerfile and all"),
    Flag("progress", Kind.TEXT, "MODE", "as `knarr build --progress`"),
    Flag("metadata-file", Kind.TEXT, "FILE", "as `knarr build --metadata-file`"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_EPOCH = "0"  # of what no package dates


def help_text() -> str:
    """What `knarr node build --help` prints."""
    return (
        "Usage: knarr node build [OPTIONS]\n\n"
        "Make the node image out of Debian packages and published archives. Every file is checked by its sha256, and\n"
        "no program of another platform is run.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr node build ARGUMENTS`.

    Raises:
        KnarrError: a component cannot be had, or is not what the list says; of the build.
    """
    given = parse(FLAGS, argv, command="knarr node build")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr node build")
    listed = _listed(given)
    if given.switch("list"):
        _show(listed)
        return 0
    architectures = _architectures(given)
    _check_places(given, architectures)
    from knarr.node.cache import Cache
    from knarr.node.components import for_architectures
    from knarr.node.gather import Sources, gather
    from knarr.scope import Scope

    cache = Cache(Path(given.text("cache") or _default_cache()).absolute())
    with Scope() as scope:
        from knarr.remote.settings import RegistrySettings
        from knarr.remote.transport import Transport
        from knarr.session.session import Credentials

        settings = RegistrySettings.from_environment(os.environ)
        sources = Sources(
            cache,
            lambda: Transport(settings, lambda _: Credentials(), scope=scope),
            _say,
            given.text("mirror"),
            given.switch("offline"),
        )
        listed, parts = gather(for_architectures(listed, architectures), architectures, sources)
    if given.text("context"):
        with _whole(Path(given.text("context"))) as place:
            _write_context(place, listed, parts, cache)
        return 0
    with cache.draft("the build context") as place:
        context = place / "context"
        _write_context(context, listed, parts, cache)
        if not given.text("rootfs"):
            return _build(given, context, listed, architectures)
        with _whole(Path(given.text("rootfs"))) as root:
            tar = place / "root.tar"
            status = _build(given, context, listed, architectures, f"type=tar,dest={tar}")
            _say(f"unpacking to {given.text('rootfs')}")
            _unpack(tar, root)
            return status


def _listed(given: Parsed) -> ComponentList:
    from knarr.node import components

    own = Path(components.__file__).with_name("components.toml")
    file = Path(given.text("components") or own)
    try:
        known = components.read(file.read_text(), "components.toml" if file == own else str(file))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    versions = dict(each.partition("=")[::2] for each in given.list("component"))
    checksums = {}
    for each in given.list("checksum"):
        name, _, digest = each.partition("=")
        component, _, arch = name.partition("/")
        if not arch or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise UsageError(f"--checksum {each}: not NAME/ARCH=SHA256", hint="64 hexadecimal digits")
        checksums[component, arch] = digest
    return components.choose(known, versions=versions, without=given.list("without"), checksums=checksums)


def _show(listed: ComponentList) -> None:
    from knarr.cli.table import rows

    found = [
        (
            each.name,
            each.version,
            f"Debian {listed.suite}: {each.package}" if each.package else each.url.split("/")[2],
            each.about,
        )
        for each in listed.components
    ]
    print("\n".join(rows([("NAME", "VERSION", "SOURCE", "WHAT FOR"), *found])))


def _architectures(given: Parsed) -> list[str]:
    from knarr.spec.platform import Platform, host_platform

    words = [word for each in given.list("platform") for word in each.split(",") if word]
    platforms = [Platform.parse(word) for word in words] or [host_platform()]
    for each in platforms:
        if each.os != "linux":
            raise UsageError(f"--platform {each}: a node is Linux")
    return list(dict.fromkeys(each.architecture for each in platforms))


def _check_places(given: Parsed, architectures: list[str]) -> None:
    """Before anything is fetched."""
    rootfs = given.text("rootfs")
    if rootfs and len(architectures) > 1:
        raise UsageError("--rootfs is for one platform", hint="--platform, once")
    if rootfs and (given.list("tag") or given.list("output") or given.switch("push")):
        raise UsageError("--rootfs goes with no --tag, --push or --output")
    for flag in ("rootfs", "context"):
        place = Path(given.text(flag)) if given.text(flag) else None
        if place is not None and place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"--{flag} {place}: is there already", hint="name a directory that is new or empty")


def _default_cache() -> str:
    from knarr.config import state_root

    return os.path.join(state_root(os.environ), "node")


def _write_context(place: Path, listed: ComponentList, parts: list[Parts], cache: Cache) -> None:
    import shutil

    from knarr.node import context

    place.mkdir(exist_ok=True)
    for each in parts:
        _say(f"laying out {each.arch}")
        context.write(place, listed, each, cache, pause=_pause(place, each, cache))
    shutil.copyfile(context.DOCKERFILE, place / "Dockerfile")


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """A directory that is called `place` when all went well, and is gone when not; also what a killed one left is."""
    import shutil

    place = place.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob(f".{place.name}-knarr-*"):
        if not os.path.exists(f"/proc/{left.name.rpartition('-')[2]}"):
            shutil.rmtree(left, ignore_errors=True)
    draft = place.with_name(f".{place.name}-knarr-{os.getpid()}")
    draft.mkdir()
    try:
        yield draft
        if place.exists():
            place.rmdir()
        os.rename(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _pause(work: Path, parts: Parts, cache: Cache) -> Path | None:
    """An archive of the image that pods begin with: one static program."""
    from knarr.node import context
    from knarr.node.services import PAUSE

    place = work / f"pause-{parts.arch}"
    place.mkdir()
    if not context.extract(parts, cache, "catatonit", "usr/bin/catatonit", place / "pause"):
        return None
    (place / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause", "-P"]\n')
    archive = place.with_suffix(".tar")
    words = ["--platform", f"linux/{parts.arch}", "--provenance=false", "--quiet"]
    words += ["--output", f"type=oci,name={PAUSE},dest={archive}", str(place)]
    # In a process of its own: one process takes its rights once, and the build of the node is this one's.
    command = [sys.executable, "-m", "knarr", "build", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment())
    if done.returncode:
        raise KnarrError(f"the image that pods begin with: {done.stderr.strip()}")
    return archive


def _environment() -> dict[str, str]:
    """One in which the same parts give the same image."""
    return {"SOURCE_DATE_EPOCH": _EPOCH, **os.environ}


def _unpack(tar: Path, root: Path) -> None:
    """Files with their owners, which `type=local` would give to this user."""
    from knarr.layer.apply import unpack_archive

    with open(tar, "rb") as stream:
        unpack_archive(stream, root)
    root.chmod(0o755)


def _build(given: Parsed, context: Path, listed: ComponentList, architectures: list[str], output: str = "") -> int:
    from knarr.spec.platform import host_platform

    host = host_platform().architecture
    compiler = host if host in architectures else architectures[0]
    words = ["--platform", ",".join(f"linux/{arch}" for arch in architectures)]
    words += ["--build-arg", f"COMPILER={compiler}", "--build-arg", f"PYTHON={listed.python}"]
    for name in ("tag", "output"):
        words += [word for value in given.list(name) for word in (f"--{name}", value)]
    words += ["--output", output, "--provenance=false"] if output else []
    for name in ("progress", "metadata-file"):
        words += [f"--{name}", given.text(name)] if given.text(name) else []
    words += ["--push"] if given.switch("push") else []
    return _run_build([*words, str(context)])


def _run_build(words: list[str]) -> int:
    """`knarr build`, in this process."""
    from knarr.cli import build

    os.environ.update(_environment())
    return build.run(words)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
