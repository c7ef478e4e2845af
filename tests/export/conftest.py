"""Results to export: trees made of directories of this machine, packed by the real layer code into a real store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from knarr.builder import Export
from knarr.config import Settings
from knarr.content.store import Store
from knarr.content.target import Fetcher
from knarr.export.context import ExportContext, Result
from knarr.export.export import export
from knarr.export.trees import Layer, LayerForm
from knarr.frontend.request import FrontendResult, PlatformResult
from knarr.layer.diff import write_tree
from knarr.layer.pack import pack
from knarr.llb.ops import Graph
from knarr.progress import Recorder
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec.config import History, ImageConfig, RunConfig
from knarr.spec.platform import Platform

NOW = 1_700_000_000_000_000_000
MADE = 1_600_000_000_000_000_000


class DirectoryTrees:
    """A tree is a directory of layers, by name: `1`, `2` …; merged it is its first layer."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.packed: list[str] = []

    def layers(self, tree: str | None, form: LayerForm) -> Iterator[Layer]:
        for directory in sorted(Path(tree).iterdir()) if tree else ():
            made = pack(lambda out, root=directory: write_tree(root, out), self.store, compression=form.compression)
            self.packed.append(str(directory))
            yield Layer(made.descriptor, made.diff_id, MADE)

    @contextmanager
    def mounted(self, tree: str | None) -> Iterator[Path]:
        assert tree is not None
        yield sorted(Path(tree).iterdir())[0]

    def fetcher(self) -> Fetcher:
        return self.store


class World:
    """A store, and results to export from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "content")
        self.trees = DirectoryTrees(self.store)
        self.recorder = Recorder()
        self.settings = Settings(root)

    def tree(self, name: str, *layers: dict[str, str]) -> str:
        """A tree with files in layers."""
        for number, files in enumerate(layers, 1):
            for path, text in files.items():
                file = self.root / "trees" / name / str(number) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        for path in (self.root / "trees" / name).rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        return str(self.root / "trees" / name)

    def result(self, *platforms: str, multi: bool = False) -> Result:
        """A build's result with two layers for each platform."""
        found, records = [], []
        for text in platforms or ("linux/amd64",):
            name = text.replace("/", "_")
            records.append(self.tree(name, {"etc/arch": text, "bin/tool": "#!/bin/sh\n"}, {"srv/app": "app"}))
            history = (
                History(created_by="COPY . /"),
                History(created_by="ENV A=1", empty_layer=True),
                History(created_by="RUN make"),
            )
            config = ImageConfig(Platform.parse(text), RunConfig(env=("A=1",), cmd=("/bin/tool",)), history=history)
            found.append(PlatformResult(Platform.parse(text), Graph({}, None), config))
        return Result(FrontendResult(tuple(found), multi_platform=multi), records, self.trees)

    def export(self, kind: str, result: Result, **attrs: str) -> dict[str, Any]:
        """Carry out one output; `_` in option names stands for `-`."""
        wanted = Export(kind, {key.replace("_", "-"): value for key, value in attrs.items()})
        return self.export_all([wanted], result)

    def export_all(self, exports: list[Export], result: Result) -> dict[str, Any]:
        with Scope() as scope, Registry(RegistrySettings(), lambda _: Credentials(), scope=scope) as registry:
            context = ExportContext(self.settings, self.store, lambda: registry, scope, self.recorder, NOW)
            return export(exports, result, context)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def said(world: World) -> Callable[[], set[str]]:
    """The names of the statuses that were told so far."""
    return lambda: {getattr(event, "id", "") for event in world.recorder.events}
