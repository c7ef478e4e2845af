"""Answers what a frontend asks: base image configs from the registry, small files from the caller."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, UsageError
from knarr.frontend.bridge import NoImage, ResolvedImage
from knarr.llb.ops import SourceOp
from knarr.ops.images import Found, Images
from knarr.paths import inside
from knarr.progress import Log, Sink, VertexDone, VertexStarted
from knarr.session.session import Session, Wanted
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.ops.fetched import Reach


class EngineBridge:
    """The engine's side of `frontend.bridge.Bridge`."""

    def __init__(
        self,
        images: Images,
        session: Session,
        sink: Sink,
        reach: Reach | None = None,
        *,
        govern: Callable[[SourceOp, Platform | None], SourceOp] | None = None,
    ) -> None:
        """Without `reach` nothing but images can be asked for that lies elsewhere.

        `govern` tells what is to be fetched where a source is asked for, and raises where nothing is.
        """
        self._govern = govern
        self.images = images
        self.session = session
        self.sink = sink
        self.reach = reach
        self.looked_for: set[str] = set()  # the files that were asked for, by path on this machine
        self.asked_time = False  # whether a server said when a source was made
        self._seen: set[str] = set()

    def layout_config(self, name: str, store: str, digest: Digest, platform: Platform) -> ResolvedImage:
        from knarr.ops import source_layout

        reference = Reference.parse(name.partition("::")[0])
        shown = f"[context {name}] load metadata for {reference.at(digest)}"
        return self._told(
            shown,
            reference,
            platform,
            lambda: source_layout.find(self.session, self.images, store, digest, str(reference), platform),
        )

    def image_config(self, reference: Reference, platform: Platform) -> ResolvedImage:
        return self.look(self._governed(reference, platform), platform)

    def look(self, reference: Reference, platform: Platform) -> ResolvedImage:
        """What `image_config` gives of an image that nobody has to judge any more."""
        name = f"[internal] load metadata for {reference.tagged()}"
        return self._told(name, reference, platform, lambda: self.images.find(reference, platform))

    def _governed(self, reference: Reference, platform: Platform) -> Reference:
        if self._govern is None:
            return reference
        scheme = "docker-image://"
        op = self._govern(SourceOp(f"{scheme}{reference}"), platform)
        if not op.identifier.startswith(scheme):
            raise NoImage(reference, op.identifier)
        return Reference.parse(op.identifier.removeprefix(scheme))

    def _told(self, name: str, reference: Reference, platform: Platform, find: Callable[[], Found]) -> ResolvedImage:
        first = name not in self._seen
        self._seen.add(name)
        if first:
            self.sink.send(VertexStarted(name, name, at_ns=time.time_ns()))
        try:
            found = find()
        except KnarrError as error:
            self.sink.send(VertexDone(name, error=error.message, at_ns=time.time_ns()))
            raise error.with_context(platform=str(platform)) from None
        if first:
            if found.note:
                self.sink.send(Log(name, 2, f"{found.note}\n".encode(), time.time_ns()))
            self.sink.send(VertexDone(name, at_ns=time.time_ns()))
        return ResolvedImage(reference, found.digest, found.config, found.raw_config)

    def source_time(self, op: SourceOp) -> int | None:
        from knarr.ops.sourcetime import source_time

        if self._govern is not None:
            op = self._govern(op, None)
        if self.reach is None:
            raise UsageError(f"{op.identifier} is not looked at without a build", hint="give the time as a number")
        self.asked_time = True
        name = f"[internal] find out when {op.identifier} was made"
        with contextlib.ExitStack() as stack:
            self.sink.send(VertexStarted(name, name, at_ns=time.time_ns()))
            stack.callback(lambda: self.sink.send(VertexDone(name, at_ns=time.time_ns())))
            return source_time(self.reach, op)

    def read(self, source: str, path: str) -> bytes | None:
        real = inside(self.session.files(Wanted(source, follow=(path,), hint=f"{source}-{path}")), path)
        self.looked_for.add(real)
        try:
            with open(real, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise KnarrError(f"{path}: {error.strerror}") from error
