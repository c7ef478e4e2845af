"""Files of an SBOM get the layer that brought them, and nothing else changes."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from knarr.attest.statement import SPDX, Attestation
from knarr.export.supplement import supplemented
from knarr.export.trees import Layer
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest


class Layers:
    """Layers as tars; counts which were opened."""

    def __init__(self, *contents: tuple[str, ...]) -> None:
        self.opened: list[Digest] = []
        self.layers: list[Layer] = []
        self._raw: dict[Digest, bytes] = {}
        for names in contents:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for name in names:
                    tar.addfile(tarfile.TarInfo(name), io.BytesIO())
            raw = buffer.getvalue()
            digest = Digest.of(raw)
            self._raw[digest] = raw
            self.layers.append(Layer(Descriptor("application/x", digest, len(raw)), digest))

    def open(self, descriptor: Descriptor) -> AbstractContextManager[io.BytesIO]:
        self.opened.append(descriptor.digest)
        return nullcontext(io.BytesIO(self._raw[descriptor.digest]))


def told(document: Any, layers: Layers, **about: str) -> Any:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    about = {"path": "sbom.spdx.json", "core": "sbom", **about}
    said = Attestation(SPDX, about["path"], lambda: raw, core=about["core"])
    made = supplemented(said, layers.layers, layers).predicate()
    return made if made == raw else json.loads(made)


def test_the_topmost_layer_that_has_a_file_is_named() -> None:
    layers = Layers(("usr/bin/a", "b"), ("./usr/bin/a",), (".wh.b",))
    files = [{"fileName": "/usr/bin/a"}, {"fileName": "b"}, {"fileName": "c"}, {"fileName": "b", "comment": "own"}]
    found = told({"spdxVersion": "SPDX-2.2", "files": files, "odd": [1]}, layers)
    assert [one.get("comment") for one in found["files"]] == [
        f"layerID: {layers.layers[1].descriptor.digest}",
        f"layerID: {layers.layers[0].descriptor.digest}",
        None,
        "own",
    ]
    assert found["odd"] == [1]
    assert found["creationInfo"]["creators"][0].startswith("Tool: knarr-")


def test_layers_below_the_last_that_is_wanted_are_not_opened() -> None:
    layers = Layers(("a",), ("b",))
    told({"spdxVersion": "SPDX-2.3", "files": [{"fileName": "b"}]}, layers)
    assert layers.opened == [layers.layers[1].descriptor.digest]


@pytest.mark.parametrize(
    "document",
    [b"junk", b"[" * 100_000, [], {}, {"spdxVersion": 3}, {"spdxVersion": "SPDX-3.0"}, {"name": "sbom-scan"}],
)
def test_what_is_no_document_stays_as_it_is(document: Any) -> None:
    layers = Layers(("a",))
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert told(document, layers) == raw
    assert layers.opened == []


@pytest.mark.parametrize("files", [None, 3, {}, [3], [{"fileName": 3}], [{}]])
def test_files_of_another_shape_are_passed_over(files: Any) -> None:
    assert told({"spdxVersion": "SPDX-2.3", "files": files}, Layers(("a",)))["files"] == files


def test_only_the_sbom_of_the_result_itself_is_changed() -> None:
    document = {"spdxVersion": "SPDX-2.3", "files": [{"fileName": "a"}]}
    assert told(document, Layers(("a",)), path="sbom-build.spdx.json") == json.dumps(document).encode()
    assert told(document, Layers(("a",)), core="") == json.dumps(document).encode()
