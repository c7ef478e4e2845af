"""`knarr sbom`: what software is in an image or in a directory, as SPDX, as CycloneDX, or as a table."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, BinaryIO

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.errors import KnarrError, UsageError
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.cli.sbomimage import Scanned

FLAGS = (
    Flag("format", Kind.TEXT, "FORM", "table (the default), spdx-json, cyclonedx-json, or cyclonedx-json@1.5"),
    Flag("output", Kind.TEXT, "FILE", "write to this file instead of standard output", short="o"),
    Flag("platform", Kind.TEXT, "PLATFORM", "the image for this platform (default: this machine's)"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_FORMATS = ("table", "spdx-json", "cyclonedx-json", "cyclonedx-json@1.6", "cyclonedx-json@1.5")


def help_text() -> str:
    """What `knarr sbom --help` prints."""
    return (
        "Usage: knarr sbom [OPTIONS] IMAGE|DIR\n\n"
        "List the software in an image, or in a directory (dir:DIR, or a word that begins with / or a dot). The image\n"
        "is in a registry, a layout (oci:DIR), an archive (oci-archive:FILE, docker-archive:FILE) or knarr's store\n"
        "(store:NAME). Nothing in it is run, and no scanner is pulled. An image is scanned once.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr sbom ARGUMENTS`.

    Raises:
        UsageError: a form that is not known, or not one thing to scan.
        KnarrError: there is no such image, or it cannot be read.
    """
    given = parse(FLAGS, argv, command="knarr sbom")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr sbom needs one image or directory", hint="see `knarr sbom --help`")
    form = given.text("format", "table")
    if form not in _FORMATS:
        raise UsageError(f"--format {form}: not known", hint=f"use one of: {', '.join(_FORMATS)}")
    scanned = _scanned(given)
    for one in scanned.inventory.skipped:
        print(f"warning: not read: {one.path or '/'}: {one.reason}", file=sys.stderr)
    _write(_document(scanned, form), given.text("output"))
    return 0


def _scanned(given: Parsed) -> Scanned:
    word = given.words[0]
    directory = word.removeprefix("dir:")
    if directory != word or word.startswith(("/", "./", "../")) or word in (".", ".."):
        from knarr.cli.sbomimage import scanned_directory

        if given.text("platform"):
            raise UsageError("--platform is for images", hint="a directory is for whatever is in it")
        return scanned_directory(directory)
    from knarr.cli.sbomimage import scanned_image

    return scanned_image(given, Platform.parse(given.text("platform")) if given.text("platform") else None)


def _document(scanned: Scanned, form: str) -> Iterator[bytes]:
    from knarr.config import Settings
    from knarr.record import replace

    if form == "table":
        return _table(scanned)
    epoch = Settings.from_environment(os.environ).source_date_epoch
    about = replace(scanned.about, created_s=scanned.inventory.scanned_s if epoch is None else epoch)
    if form == "spdx-json":
        from knarr.sbom import spdx

        return spdx.write(scanned.inventory, about)
    from knarr.sbom import cyclonedx

    return cyclonedx.write(scanned.inventory, about, version=form.partition("@")[2] or cyclonedx.VERSIONS[0])


def _table(scanned: Scanned) -> Iterator[bytes]:
    from knarr.cli.table import rows, shortened
    from knarr.sbom.licenses import expression

    table: list[Sequence[str]] = [("NAME", "VERSION", "TYPE", "LICENSE")]
    for package in scanned.inventory.packages:
        joint = "/" if package.kind in ("npm", "golang") else ":"
        space = package.namespace if package.kind in ("npm", "golang", "maven") else ""
        name = f"{space}{joint}{package.name}" if space else package.name
        licenses = shortened(expression(package.licenses)[0], 60)
        table.append((_printable(name), _printable(package.version) or "-", package.kind, licenses or "-"))
    for line in rows(table):
        yield f"{line}\n".encode()


def _printable(text: str) -> str:
    """Names come from strangers, and a terminal obeys what it is sent."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def _write(document: Iterator[bytes], path: str) -> None:
    if not path or path == "-":
        _pour(document, sys.stdout.buffer)
        return
    draft = f"{path}.{os.urandom(6).hex()}"
    try:
        with open(draft, "xb") as file:
            _pour(document, file)
        os.replace(draft, path)
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}", hint="choose another place with --output") from error
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def _pour(document: Iterator[bytes], file: BinaryIO) -> None:
    for piece in document:
        file.write(piece)
