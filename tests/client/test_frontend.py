"""What a builder has to be able to do, before it is asked for it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from knarr.client.frontend import check_capabilities
from knarr.errors import Unsupported
from knarr.pb.caps_pb2 import APICap
from knarr.pb.gateway_pb2 import PongResponse


class Old:
    """A builder as messages show it."""

    shown = "tcp://old:1 (BuildKit v0.9.0)"


def pong(*names: str, off: tuple[str, ...] = ()) -> PongResponse:
    caps = [APICap(ID=name, Enabled=True) for name in names] + [APICap(ID=name) for name in off]
    return PongResponse(FrontendAPICaps=caps[:1], LLBCaps=caps[1:])


def test_a_builder_that_can_do_it_is_asked() -> None:
    check_capabilities(
        cast("Any", Old()), pong("return", "solve.base", "exporter.multiple"), {"exporter.multiple": "x"}
    )


@pytest.mark.parametrize(
    "said", [pong("return", "solve.base"), pong("return", "solve.base", off=("exporter.multiple",))]
)
def test_one_that_is_too_old_is_told_as_such(said: PongResponse) -> None:
    with pytest.raises(
        Unsupported, match=r"builder tcp://old:1 \(BuildKit v0.9.0\) cannot do several outputs"
    ) as caught:
        check_capabilities(cast("Any", Old()), said, {"exporter.multiple": "several outputs of one build"})
    assert "exporter.multiple" in caught.value.message
    assert caught.value.hint


def test_one_without_a_gateway_is_too_old_for_everything() -> None:
    with pytest.raises(Unsupported, match="lacks the capability return"):
        check_capabilities(cast("Any", Old()), pong("solve.base"), {})
