"""Answers as they travel, and as records."""

from __future__ import annotations

import pytest

from knarr.errors import ContentError
from knarr.frontend.answer import EPOCH, from_answer, to_answer
from knarr.frontend.gateway import ONLY, Answer, Ref
from knarr.frontend.request import FrontendResult, PlatformResult
from knarr.llb.ops import Graph
from knarr.spec.config import ImageConfig
from knarr.spec.platform import Platform

AMD64, ARM64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")


def result(platform: Platform, epoch: int | None) -> PlatformResult:
    return PlatformResult(platform, Graph({}, None), ImageConfig(platform), epoch=epoch)


@pytest.mark.parametrize("epoch", [None, 0, 1_700_000_000, -5])
def test_an_epoch_travels_with_its_platform(epoch: int | None) -> None:
    one = to_answer(FrontendResult((result(AMD64, epoch),)))
    several = to_answer(FrontendResult((result(AMD64, epoch), result(ARM64, 7)), multi_platform=True))

    assert [found.epoch for found in from_answer(one).results] == [epoch]
    assert [found.epoch for found in from_answer(several).results] == [epoch, 7]


def test_an_epoch_that_is_no_number_is_told() -> None:
    with pytest.raises(ContentError, match=r"source\.date\.epoch is not a number"):
        from_answer(Answer({ONLY: Ref(Graph({}, None), b"")}, {EPOCH: b"yesterday"}))
