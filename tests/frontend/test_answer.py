"""What a frontend answers, as BuildKit's metadata and as records."""

from __future__ import annotations

import json

import pytest

from knarr.errors import ContentError
from knarr.frontend.answer import BASE_CONFIG, CONFIG, EPOCH, PLATFORMS, from_answer, to_answer
from knarr.frontend.gateway import ONLY, Answer, Ref
from knarr.frontend.request import FrontendResult, PlatformResult
from knarr.llb.ops import Graph
from knarr.spec.config import History, ImageConfig, RunConfig
from knarr.spec.platform import Platform

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
NOTHING = Ref(Graph({}, None))


def result(*platforms: Platform) -> FrontendResult:
    lines = (History("2026-01-01T00:00:00Z", "FROM a"), History(None, "ENV A=b", empty_layer=True))
    found = tuple(
        PlatformResult(
            platform,
            Graph({}, None),
            ImageConfig(platform, RunConfig(env=("A=b",), cmd=("sh",)), history=lines),
            ImageConfig(platform, history=lines[:1]),
        )
        for platform in platforms
    )
    return FrontendResult(found, multi_platform=len(platforms) > 1)


def dated(platform: Platform, epoch: int | None) -> PlatformResult:
    return PlatformResult(platform, Graph({}, None), ImageConfig(platform), epoch=epoch)


@pytest.mark.parametrize("platforms", [(AMD,), (AMD, ARM)])
def test_an_answer_survives_the_way_through_metadata(platforms: tuple[Platform, ...]) -> None:
    assert from_answer(to_answer(result(*platforms))) == result(*platforms)


def test_the_keys_are_those_of_buildkit() -> None:
    answer = to_answer(result(AMD, ARM))
    assert set(answer.refs) == {"linux/amd64", "linux/arm/v7"}
    assert {f"{CONFIG}/linux/amd64", f"{BASE_CONFIG}/linux/arm/v7", PLATFORMS} <= set(answer.metadata)
    assert json.loads(answer.metadata[PLATFORMS])["Platforms"][0]["ID"] == "linux/amd64"


def test_a_result_without_a_config_is_an_image_for_this_machine() -> None:
    found = from_answer(Answer({ONLY: NOTHING})).results[0]
    assert found.config.platform.os == "linux"
    assert found.config.config.env[0].startswith("PATH=")


def test_a_config_need_not_name_its_platform() -> None:
    listed = json.dumps({"Platforms": [{"ID": "x", "Platform": ARM.to_json()}]}).encode()
    raw = b'{"config":{"Cmd":["sh"]},"os":""}'
    found = from_answer(Answer({ONLY: NOTHING}, {PLATFORMS: listed, CONFIG: raw})).results[0]
    assert found.config.platform == found.platform == ARM


@pytest.mark.parametrize(
    ("refs", "metadata", "message"),
    [
        ({ONLY: NOTHING}, {CONFIG: b"{"}, "is not JSON"),
        ({ONLY: NOTHING}, {CONFIG: b"[]"}, "is not an object"),
        ({ONLY: NOTHING}, {CONFIG: b"null"}, "invalid null image config for export"),
        ({ONLY: NOTHING}, {CONFIG: b'{"os":"linux"}'}, "os and architecture must be specified together"),
        ({ONLY: NOTHING}, {PLATFORMS: b"null"}, "invalid empty platforms index for exporter"),
        ({ONLY: NOTHING}, {PLATFORMS: b'{"Platforms":[{"ID":"","Platform":{}}]}'}, "invalid empty platform key"),
        ({ONLY: NOTHING}, {PLATFORMS: b'{"Platforms":[{"ID":"a","Platform":{}}]}'}, "invalid platform value for a"),
        ({ONLY: NOTHING}, {CONFIG: b"[" * 100_000}, "is not JSON"),
        ({ONLY: NOTHING}, {PLATFORMS: b'{"Platforms":7}'}, "does not list platforms"),
        ({ONLY: NOTHING}, {PLATFORMS: b'{"Platforms":[{"ID":"a"}]}'}, "does not list platforms"),
        ({"a": NOTHING}, {}, "nothing says for which platforms"),
        ({}, {}, "nothing says for which platforms"),
        (
            {"a": NOTHING},
            {PLATFORMS: json.dumps({"Platforms": [{"ID": "b", "Platform": AMD.to_json()}]}).encode()},
            "do not agree on a",
        ),
        (
            {"a": NOTHING},
            {PLATFORMS: json.dumps({"Platforms": [{"ID": "a", "Platform": p.to_json()} for p in (AMD, ARM)]}).encode()},
            "lists a platform twice",
        ),
    ],
)
def test_an_answer_of_which_no_image_can_be_made_is_told(
    refs: dict[str, Ref], metadata: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ContentError, match=message):
        from_answer(Answer(refs, metadata))


@pytest.mark.parametrize("epoch", [None, 0, 1_700_000_000, -5])
def test_an_epoch_travels_with_its_platform(epoch: int | None) -> None:
    one = to_answer(FrontendResult((dated(AMD, epoch),)))
    several = to_answer(FrontendResult((dated(AMD, epoch), dated(ARM, 7)), multi_platform=True))

    assert [found.epoch for found in from_answer(one).results] == [epoch]
    assert [found.epoch for found in from_answer(several).results] == [epoch, 7]


def test_an_epoch_that_is_no_number_is_told() -> None:
    with pytest.raises(ContentError, match=r"source\.date\.epoch is not a number"):
        from_answer(Answer({ONLY: Ref(Graph({}, None), b"")}, {EPOCH: b"yesterday"}))
