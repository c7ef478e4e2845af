"""Answers what a frontend asks: base image configs from the registry, small files from the caller."""

from __future__ import annotations

import time
from collections.abc import Callable

from knarr.errors import KnarrError
from knarr.frontend.bridge import ResolvedImage
from knarr.ops.images import Found, Images
from knarr.paths import inside
from knarr.progress import Log, Sink, VertexDone, VertexStarted
from knarr.session.session import Session, Wanted
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference


class EngineBridge:
    """The engine's side of `frontend.bridge.Bridge`."""

    def __init__(self, images: Images, session: Session, sink: Sink) -> None:
        self.images = images
        self.session = session
        self.sink = sink
        self.looked_for: set[str] = set()  # the files that were asked for, by path on this machine
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
        name = f"[internal] load metadata for {reference.tagged()}"
        return self._told(name, reference, platform, lambda: self.images.find(reference, platform))

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
