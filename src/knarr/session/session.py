"""The `Session` protocol."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from knarr.record import record

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest
    from knarr.streams import Readable, Writable


@record
class Secret:
    """A secret's value. Its repr hides it: a secret must never reach a log."""

    value: bytes

    def __repr__(self) -> str:
        return "Secret(****)"


@record
class Credentials:
    """A login for a registry host: a user and a password, or an identity token for a token server."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""  # a bearer token to send as it is

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, …)"

    @property
    def empty(self) -> bool:
        return not (self.username or self.password or self.identity_token or self.registry_token)


@record
class Wanted:
    """Which files of a lent directory are wanted. Who sends them sends no more; who lends the directory itself may."""

    name: str  # `context`, `dockerfile`, the name of a named context
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()  # paths, with what they lead to as symlinks; empty: all
    hint: str = ""  # tells apart what is wanted from one directory again and again, for different ends
    anew: bool = False  # every file, even where one of the same size and time is here from the last time
    described: bool = False  # the entries only, as one file `.fsutil-metadata`, but those in `contents` whole
    contents: tuple[str, ...] = ()
    session: str = ""  # who is asked first; empty: the caller of the build


@record
class IssuedToken:
    """A bearer token for a registry, which holds for so many seconds."""

    value: str
    seconds: int

    def __repr__(self) -> str:
        return "IssuedToken(****)"


Sent = Callable[[int, bool], object]  # (bytes so far, whether that was all)


class SshAgent(Protocol):
    """The keys that a caller lends: they sign here, and never leave."""

    @property
    def known_hosts(self) -> bytes:
        """The host keys the caller trusts, in the format of ssh's known_hosts; empty when none are told."""
        ...

    def serve(self, connection: socket.socket) -> None:
        """Speak the agent protocol with one client until it hangs up; blocks. Closing `connection` is the caller's."""
        ...


@runtime_checkable
class Taker(Protocol):
    """A session may be one as well: a caller that takes what exporters make, each by the number of the output."""

    def take_file(self, number: int, about: Mapping[str, str]) -> AbstractContextManager[Writable]:
        """A place to write an archive to; complete when the block is left. `about` is what there is to tell of it."""
        ...

    def take_tree(
        self,
        number: int,
        roots: Mapping[str, Path],
        *,
        epoch_ns: int | None,
        replaces: bool,
        more: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Give directories, each below its name ("": at the top, the only one).

        `epoch_ns` replaces all times. With `replaces`, everything else goes from where
        they are put. `more` are files that lie elsewhere, by the directory's name and their own.
        """
        ...


@runtime_checkable
class IssuesTokens(Protocol):
    """The talent of a caller to fetch tokens from registries' token servers, so that its login stays with it."""

    def issues(self, host: str) -> bool:
        """Whether it does so for the registry `host`."""
        ...

    def issue(self, host: str, realm: str, service: str, scopes: Sequence[str]) -> IssuedToken:
        """A token of the server `realm`, for `scopes` (`repository:team/app:pull,push`).

        Raises:
            KnarrError: there is none for this caller.
        """
        ...


class LentContent(Protocol):
    """Blobs and documents by digest, such as those of an OCI layout."""

    def size_of(self, digest: Digest) -> int | None:
        """How large it is, or None when it is not there."""
        ...

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The content as a stream that is checked on the way.

        Raises:
            NotFound: it is not there.
        """
        ...


class BlobPlace(LentContent, Protocol):
    """Content that can be added to, such as a layout or a cache in a directory of the caller's."""

    def lends(self, descriptor: Descriptor) -> bool:
        """Whether `open` would find the content."""
        ...

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the content is there, whole."""
        ...

    def push(self, descriptor: Descriptor, content: Readable, *, report: Callable[[int], None] | None = None) -> None:
        """Add a blob; visible only when complete and right. Already there is success."""
        ...


@runtime_checkable
class LendsStores(Protocol):
    """The talent of a caller that is far away to lend stores, which it knows by names."""

    def store(self, name: str) -> BlobPlace:
        """`local:DIRECTORY` is a shared cache, `export` where an image is to be put blob by blob.

        Raises:
            Unsupported: the caller lends none.
        """
        ...


@runtime_checkable
class OnDisk(Protocol):
    """The talent of content to lie in a directory of this machine, laid out as an OCI layout."""

    @property
    def root(self) -> Path:
        """That directory."""
        ...


@runtime_checkable
class LendsContent(Protocol):
    """The talent of a session to lend content."""

    def content(self, id: str) -> LentContent | None:
        """The content lent under `id`, or None."""
        ...


@runtime_checkable
class Uploader(Protocol):
    """A session may be one as well: a caller that holds streams ready, each under a URL that nobody else knows."""

    def upload(self, host: str, path: str) -> AbstractContextManager[Readable]:
        """The bytes behind `http://HOST/PATH`."""
        ...


@runtime_checkable
class Sender(Protocol):
    """A session may be one as well: its directories hold what was wanted, and nothing else."""

    sends: bool


class Session(Protocol):
    """The caller of a build, as the ops see it. Methods may be called from any thread."""

    def files(self, wanted: Wanted, *, sent: Sent | None = None) -> Path:
        """A directory with at least the wanted files, which stays as it is until the build ends.

        `sent` is told how much has come, where files have to come from somewhere.

        Raises:
            UsageError: no directory of this name was lent.
            KnarrError: its files could not be sent.
        """
        ...

    def secret(self, id: str) -> Secret | None:
        """The secret, or None when the caller has none by this id."""
        ...

    def ssh(self, id: str) -> SshAgent | None:
        """The agent lent under `id` (`""` is `default`), or None when the caller lends none."""
        ...

    def credentials(self, host: str) -> Credentials:
        """The login for a registry host (`Credentials()` when there is none)."""
        ...
