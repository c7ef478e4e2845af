"""A bridge over dicts, and short ways to compile a text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from knarr.errors import NotFound
from knarr.frontend.bridge import ResolvedImage
from knarr.frontend.dockerfile.compile import compile
from knarr.frontend.request import FrontendRequest, FrontendResult
from knarr.llb.decode import decode
from knarr.llb.definition import encode
from knarr.llb.ops import Graph
from knarr.spec.config import decode_config
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AMD64 = Platform("linux", "amd64")


class DictBridge:
    """Images by name, each `{"config": …, "digest": …}`; files by source and path.

    With `any_image` a name that is not in `images` is an image with a PATH and one layer.
    """

    def __init__(
        self,
        images: Mapping[str, Any] | None = None,
        files: Mapping[str, Mapping[str, str]] | None = None,
        *,
        any_image: bool = True,
    ) -> None:
        self.images = {str(Reference.parse(name).tagged()): image for name, image in (images or {}).items()}
        self.files = files or {}
        self.any_image = any_image
        self.asked: list[tuple[str, str]] = []

    def image_config(self, reference: Reference, platform: Platform) -> ResolvedImage:
        name = str(reference)
        self.asked.append((name, str(platform)))
        if name not in self.images and not self.any_image:
            raise NotFound(f"{reference.familiar}: not found")
        image = self.images.get(name, {})
        image = image.get(str(platform), image)  # by platform, where it has several
        raw = json.dumps(image.get("config", _plain(platform))).encode()
        digest = image.get("digest", "sha256:" + hashlib.sha256(name.encode()).hexdigest())
        return ResolvedImage(reference, reference.digest or Digest.parse(digest), decode_config(raw), raw)

    def read(self, source: str, path: str) -> bytes | None:
        text = self.files.get(source, {}).get(path)
        return None if text is None else text.encode()


def _plain(platform: Platform) -> dict[str, Any]:
    return {
        **platform.to_json(),
        "config": {"Env": [PATH], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "auto"}],
    }


@pytest.fixture
def dict_bridge() -> type[DictBridge]:
    return DictBridge


Compile = Callable[..., FrontendResult]


@pytest.fixture
def compiled() -> Compile:
    """`compiled(text, bridge=…, **options of FrontendRequest)`."""

    def compile_text(text: str, *, bridge: DictBridge | None = None, **options: Any) -> FrontendResult:
        request = FrontendRequest(text.encode(), **{"build_platform": AMD64, **options})
        return compile(request, bridge or DictBridge())

    return compile_text


@pytest.fixture
def graph(compiled: Compile) -> Callable[..., Graph]:
    """The graph of the first platform; arguments as `compiled`."""

    def graph_of(text: str, **options: Any) -> Graph:
        return decode(encode(compiled(text, **options).results[0].graph))

    return graph_of
