"""What a build reads before it begins: the Dockerfile, the ignore file, and a context that comes on standard input."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from knarr.cli.buildvalues import is_url
from knarr.errors import KnarrError, UsageError
from knarr.layer.magic import is_archive
from knarr.owner import owned_directory
from knarr.record import record, replace

if TYPE_CHECKING:
    from knarr.cli.buildoptions import BuildOptions
    from knarr.streams import Readable

MAX_DOCKERFILE_BYTES = 16 << 20  # a Dockerfile is text that a person wrote
_MAGIC_BYTES = 1024


@record
class BuildInputs:
    """A Dockerfile with the name people know it by, its ignore file, and the directory of the context."""

    dockerfile: bytes
    filename: str
    context: Path
    dockerignore: bytes | None = None
    dockerignore_name: str = ".dockerignore"
    looked_for: tuple[Path, ...] = ()  # every file that decided what the Dockerfile and its ignore file are
    remote: str = ""  # the URL of the context; `context` is an empty directory then


@contextmanager
def open_inputs(options: BuildOptions, stdin: BinaryIO, state: Path) -> Iterator[BuildInputs]:
    """Read what `options` names. A context from `stdin` is unpacked below `state` and removed on leaving.

    Where `state`, knarr's own directory, lies in the context, it is no part of it.

    Raises:
        UsageError: there is no such context or Dockerfile.
        KnarrError: a context behind a URL cannot be fetched.
        LayerInvalid: the archive on standard input is broken or reaches outside its root.
    """
    if options.context == "-":
        with _from_stdin(options, stdin, state / "run/contexts") as inputs:
            yield inputs
        return
    context = Path(options.context)
    if context.is_file():
        with context.open("rb") as archive, _from_archive(options, archive, stdin, state / "run/contexts") as inputs:
            yield inputs
        return
    if is_url(options.context) and not context.is_dir():
        from knarr.cli.buildremote import read_remote

        with owned_directory(state / "run/contexts") as directory:
            yield read_remote(options, _given(options, stdin), directory)
        return
    if not context.is_dir():
        raise _no_context(options.context)
    given = _given(options, stdin)
    if given is not None:
        inputs = BuildInputs(given, "Dockerfile", context, _read_optional(context / ".dockerignore"))
    else:
        inputs = from_directory(context, options.file)
    yield _without(state, inputs)


def _given(options: BuildOptions, stdin: BinaryIO) -> bytes | None:
    """A Dockerfile that is no file of this machine: from standard input, or from a URL."""
    if options.file == "-":
        return bounded(stdin.read(MAX_DOCKERFILE_BYTES + 1), "the Dockerfile on standard input")
    if options.file.startswith(("http://", "https://")):
        from knarr.cli.buildremote import fetch_dockerfile

        return fetch_dockerfile(options)
    return None


def _no_context(text: str) -> KnarrError:
    if os.path.exists(text):
        hint = f"a Dockerfile is given as --file {text}, with the directory of its context"
        return UsageError(f"{text}: the build context must be a directory", hint=hint)
    return UsageError(f"{text}: no such directory for the build context")


def from_directory(context: Path, file: str) -> BuildInputs:
    path = Path(file) if file else _default_file(context)
    try:
        with path.open("rb") as stream:
            text = bounded(stream.read(MAX_DOCKERFILE_BYTES + 1), str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint=_file_hint(context, file)) from error
    name = path.name + ".dockerignore"
    own = _read_optional(path.with_name(name))
    looked_for = (path, path.with_name(name), context / "Dockerfile", context / ".dockerignore")
    if own is not None:
        return BuildInputs(text, str(path), context, own, name, looked_for)
    ignore = _read_optional(context / ".dockerignore")
    return BuildInputs(text, str(path), context, ignore, looked_for=looked_for)


def _default_file(context: Path) -> Path:
    """`Dockerfile`, or `dockerfile` where only that exists."""
    usual, small = context / "Dockerfile", context / "dockerfile"
    return small if not usual.exists() and small.exists() else usual


def _file_hint(context: Path, file: str) -> str:
    if not file:
        return "give the Dockerfile's path with --file"
    if (context / file).is_file():
        return f"--file is relative to the current directory: --file {context / file}"
    return ""


def _without(state: Path, inputs: BuildInputs) -> BuildInputs:
    """With `state` ignored if it is inside the context: a build would copy what it is just writing, without end."""
    inside = os.path.relpath(os.path.realpath(state), os.path.realpath(inputs.context))
    if inside == "." or inside.startswith("../") or inside == "..":
        return inputs
    pattern = re.sub(r"([*?\[\]\\!#])", r"\\\1", inside)
    ignore = (inputs.dockerignore or b"") + f"\n{pattern}\n".encode(errors="surrogateescape")
    return replace(inputs, dockerignore=ignore)


def bounded(text: bytes, name: str) -> bytes:
    if len(text) > MAX_DOCKERFILE_BYTES:
        raise UsageError(f"{name}: larger than {MAX_DOCKERFILE_BYTES >> 20} MiB, so it is no Dockerfile")
    return text


def _read_optional(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


@contextmanager
def _from_stdin(options: BuildOptions, stdin: BinaryIO, scratch: Path) -> Iterator[BuildInputs]:
    """Standard input is a tar archive with the context, or a Dockerfile with none."""
    head = _peek(stdin)
    if not head:
        raise UsageError("nothing came on standard input", hint="pipe a Dockerfile or a tar archive to `knarr build -`")
    with owned_directory(scratch) as context:
        if is_archive(head):
            yield _unpacked(options, _Joined(head, stdin), stdin, context)
        elif options.file:
            raise UsageError("standard input is no archive, and --file names a Dockerfile as well", hint="give one")
        else:
            rest = stdin.read(MAX_DOCKERFILE_BYTES + 1)
            yield BuildInputs(bounded(head + rest, "standard input"), "Dockerfile", context)


@contextmanager
def _from_archive(options: BuildOptions, archive: BinaryIO, stdin: BinaryIO, scratch: Path) -> Iterator[BuildInputs]:
    """A tar archive of this machine as the context."""
    if not is_archive(archive.read(_MAGIC_BYTES)):
        raise _no_context(options.context)
    archive.seek(0)
    with owned_directory(scratch) as context:
        yield _unpacked(options, archive, stdin, context)


def _unpacked(options: BuildOptions, archive: Readable, stdin: BinaryIO, context: Path) -> BuildInputs:
    unpack(archive, context)
    given = _given(options, stdin)
    name = options.file if given is None and options.file else "Dockerfile"
    if given is None:
        given = from_directory(context, str(context / options.file) if options.file else "").dockerfile
    return BuildInputs(given, name, context)


def unpack(stream: Readable, root: Path) -> None:
    from knarr.layer.apply import unpack_archive
    from knarr.layer.decompress import open_compressed

    # Owners do not count in a context, and who is not root could not set them.
    unpack_archive(open_compressed(stream), root, owner=(os.geteuid(), os.getegid()))


def _peek(stdin: BinaryIO) -> bytes:
    """The first bytes, as many as tell an archive; fewer only at the end of input."""
    head = b""
    while len(head) < _MAGIC_BYTES and (more := stdin.read(_MAGIC_BYTES - len(head))):
        head += more
    return head


class _Joined:
    """`head`, then the rest of `stream`, as one readable."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        size = len(self._head) if size < 0 else size
        part, self._head = self._head[:size], self._head[size:]
        return part
