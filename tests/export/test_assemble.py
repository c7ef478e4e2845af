"""Configs, manifests and indexes out of layers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from knarr.content.memory import MemoryStore
from knarr.errors import UsageError
from knarr.export.annotations import Annotation, at
from knarr.export.assemble import Assembled, Ingredients, assemble, finished_config
from knarr.export.clock import SECOND, rfc3339
from knarr.export.options import LayerOptions
from knarr.export.trees import Layer
from knarr.export.vertex import Vertex
from knarr.layer.compress import Compression
from knarr.progress import Silent
from knarr.record import replace
from knarr.spec import mediatype
from knarr.spec.config import History, ImageConfig
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
NOW = 2_000_000_000 * SECOND
OPTIONS = LayerOptions((), Compression(), True, None, ())
BASE_TIME = "2001-02-03T04:05:06Z"


def layer(n: int, made_s: int = 0, kind: str = mediatype.OCI_LAYER_GZIP) -> Layer:
    seed = b"layer %d" % n
    return Layer(Descriptor(kind, Digest.of(seed), n), Digest.of(seed + b" diff"), made_s * SECOND, (), f"step {n}")


def ingredients(
    history: Sequence[History], layers: Sequence[Layer], base: Sequence[History] = (), platform: Platform = AMD64
) -> Ingredients:
    config = ImageConfig(platform, history=tuple(history))
    return Ingredients(platform, config, ImageConfig(platform, history=tuple(base)) if base else None, tuple(layers))


def line(created: str | None = None, *, empty: bool = False, by: str = "x") -> History:
    return History(created, by, empty_layer=empty)


def times(config: ImageConfig) -> list[str | None]:
    return [told.created for told in config.history]


def test_a_line_has_the_time_of_its_layer_and_the_first_empty_one_that_of_the_next() -> None:
    history = [line(BASE_TIME), line(), line(empty=True), line(), line(empty=True)]
    config = finished_config(ingredients(history, [layer(1), layer(2, 50), layer(3, 60)]), NOW)

    assert times(config) == [BASE_TIME, rfc3339(50 * SECOND)] + [rfc3339(60 * SECOND)] * 3
    assert config.created == rfc3339(60 * SECOND)


def test_empty_lines_before_the_first_new_layer_are_not_as_old_as_the_base() -> None:
    history = [line(BASE_TIME), line(empty=True), line()]
    config = finished_config(ingredients(history, [layer(1), layer(2, 50)]), NOW)

    assert times(config) == [BASE_TIME, rfc3339(50 * SECOND), rfc3339(50 * SECOND)]


def test_a_build_that_adds_no_layer_takes_the_time_of_the_last_one() -> None:
    config = finished_config(ingredients([line(BASE_TIME), line(empty=True)], [layer(1)]), NOW)

    assert times(config) == [BASE_TIME, BASE_TIME]


def test_without_any_layer_there_is_no_time_unless_an_epoch_gives_one() -> None:
    untimed = finished_config(ingredients([line(empty=True)], []), NOW)
    timed = finished_config(replace(ingredients([line(empty=True)], []), epoch=1), NOW)

    assert (times(untimed), untimed.created) == ([None], None)
    assert (times(timed), timed.created) == (["1970-01-01T00:00:01Z"], "1970-01-01T00:00:01Z")


def test_a_squashed_layer_has_a_line_of_its_own_behind_those_it_stands_for() -> None:
    squashed = replace(layer(2, 6), squashed=3)
    lines = [line(), line(empty=True), line(), line(), line()]

    config = finished_config(ingredients(lines, [layer(1, 5), squashed]), NOW)

    assert [told.empty_layer for told in config.history] == [False, True, True, True, True, False]
    assert config.history[-1].created_by == "squash of 3 layers"
    assert config.history[-1].created == rfc3339(6 * SECOND)


def test_layers_that_the_history_does_not_tell_of_get_lines() -> None:
    config = finished_config(ingredients([line()], [layer(1, 5), layer(2, 6)]), NOW)

    assert [told.created_by for told in config.history] == ["x", "step 2"]
    assert [told.empty_layer for told in config.history] == [False, False]


def test_lines_that_claim_more_layers_than_there_are_are_empty() -> None:
    config = finished_config(ingredients([line(), line()], [layer(1, 5)]), NOW)

    assert [told.empty_layer for told in config.history] == [False, True]


def test_source_date_epoch_leaves_the_base_as_it_was() -> None:
    base = [line("2030-01-01T00:00:00Z")]
    history = [*base, line(), line(empty=True)]
    config = finished_config(replace(ingredients(history, [layer(1), layer(2, 500)], base), epoch=100), NOW)

    assert times(config) == ["2030-01-01T00:00:00Z", rfc3339(100 * SECOND), rfc3339(100 * SECOND)]
    assert config.created == rfc3339(100 * SECOND)


def test_source_date_epoch_is_a_limit_and_not_a_stamp() -> None:
    config = finished_config(replace(ingredients([line()], [layer(1, 50)]), epoch=100), NOW)

    assert times(config) == [rfc3339(50 * SECOND)]


def make(
    *images: Ingredients, index: bool | None = None, options: LayerOptions = OPTIONS
) -> tuple[Assembled, MemoryStore]:
    store = MemoryStore()
    is_index = len(images) > 1 if index is None else index
    vertex = Vertex(Silent(), "exporting to image")
    return assemble(images, options, store, now_ns=NOW, is_index=is_index, vertex=vertex), store


def document(store: MemoryStore, descriptor: Descriptor) -> dict[str, object]:
    return dict(json.loads(store.read(descriptor)))


def test_one_platform_is_a_manifest_with_its_platform_told_outside() -> None:
    image, store = make(ingredients([line()], [layer(1, 5)]))

    assert image.root.media_type == mediatype.OCI_MANIFEST
    assert image.root.platform == AMD64
    assert list(document(store, image.root)) == ["schemaVersion", "mediaType", "config", "layers"]
    assert store.read(image.root).startswith(b'{\n  "schemaVersion": 2,\n  "mediaType"')


def test_several_platforms_are_an_index_in_the_order_asked_for() -> None:
    image, store = make(
        ingredients([line()], [layer(1, 5)], platform=ARM64), ingredients([line()], [layer(2, 5)], platform=AMD64)
    )

    index = document(store, image.root)
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["arm64", "amd64"]  # type: ignore[attr-defined]
    assert image.is_index


def test_one_platform_may_have_an_index() -> None:
    assert make(ingredients([line()], [layer(1, 5)]), index=True)[0].root.media_type == mediatype.OCI_INDEX


def test_dockers_media_types_are_used_throughout_when_asked_for() -> None:
    image, store = make(ingredients([line()], [layer(1, 5)]), index=True, options=replace(OPTIONS, oci=False))

    assert image.root.media_type == mediatype.DOCKER_INDEX
    manifest = document(store, image.manifests[0])
    assert manifest["mediaType"] == mediatype.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == mediatype.DOCKER_CONFIG  # type: ignore[index]
    assert manifest["layers"][0]["mediaType"] == mediatype.DOCKER_LAYER_GZIP  # type: ignore[index]


def notes(*found: tuple[str, Platform | None, str, str]) -> LayerOptions:
    return replace(
        OPTIONS, annotations=tuple((Annotation(level, platform, key), value) for level, platform, key, value in found)
    )


def test_an_index_has_the_annotations_that_name_a_platform_with_it() -> None:
    assert at([(Annotation("index", AMD64, "k"), "v")], "index") == {"k": "v"}


def test_annotations_go_to_all_four_places() -> None:
    options = notes(
        ("manifest", None, "m", "1"),
        ("manifest", ARM64, "m", "2"),
        ("manifest-descriptor", None, "md", "3"),
        ("index", None, "i", "4"),
        ("index-descriptor", None, "id", "5"),
    )
    image, store = make(
        ingredients([line()], [layer(1, 5)]), ingredients([line()], [layer(2, 5)], platform=ARM64), options=options
    )

    manifests = [document(store, manifest)["annotations"] for manifest in image.manifests]
    index = document(store, image.root)
    assert manifests == [{"m": "1"}, {"m": "2"}]
    assert [entry["annotations"] for entry in index["manifests"]] == [{"md": "3"}, {"md": "3"}]  # type: ignore[attr-defined]
    assert index["annotations"] == {"i": "4"}
    assert image.root.annotations == {"id": "5"}


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (("index", None, "k", "v"), "has no index"),
        (("manifest", ARM64, "k", "v"), "linux/arm64 is not built"),
    ],
)
def test_annotations_without_a_place_are_refused(note: tuple[str, Platform | None, str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(ingredients([line()], [layer(1, 5)]), options=notes(note))


def test_equal_ingredients_make_equal_digests() -> None:
    first, _ = make(ingredients([line(), line(empty=True)], [layer(1, 5)]))
    second, _ = make(ingredients([line(), line(empty=True)], [layer(1, 5)]))

    assert first.root.digest == second.root.digest


@pytest.mark.parametrize(
    ("prefer", "kind", "urls"),
    [(False, "layer.v1.tar+gzip", None), (True, "layer.nondistributable.v1.tar+gzip", ["https://far/x"])],
)
def test_layers_not_to_be_distributed_are_delivered_unless_said_otherwise(
    prefer: bool, kind: str, urls: object
) -> None:
    made = layer(1, 5, mediatype.OCI_LAYER_NONDIST + "+gzip")
    far = replace(made, descriptor=replace(made.descriptor, urls=("https://far/x",)))
    store, options = MemoryStore(), replace(OPTIONS, prefer_nondist=prefer)
    made_of = [ingredients([line()], [far])]
    image = assemble(made_of, options, store, now_ns=NOW, is_index=False, vertex=Vertex(Silent(), "x"))

    (described,) = json.loads(store.read(image.root.bare()))["layers"]
    assert described["mediaType"] == f"application/vnd.oci.image.{kind}"
    assert described.get("urls") == urls
