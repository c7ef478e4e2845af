"""Errors that come from elsewhere, and where they are placed. What a wrong file is told: `tests/frontend/errors`."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.errors import DockerfileError, KnarrError, NotFound, RegistryError
from knarr.frontend.bridge import ResolvedImage
from knarr.spec.platform import Platform


def test_a_missing_image_may_be_a_misspelt_stage(compiled: Any, dict_bridge: Any) -> None:
    bridge = dict_bridge({"busybox": {}}, any_image=False)

    with pytest.raises(NotFound) as caught:
        compiled("FROM busybox AS builder\nFROM busybox\nCOPY --from=bulder /f /f\n", bridge=bridge)

    assert caught.value.hint == "did you mean builder?"
    assert caught.value.span is not None
    assert caught.value.span.first == 3


def test_a_misspelt_stage_is_told_where_no_registry_answers(compiled: Any) -> None:
    class Unreachable:
        def image_config(self, reference: Any, platform: Platform) -> ResolvedImage:
            raise RegistryError("nothing listens", hint="check the network")

    for line, hint in (("biuld", "did you mean build? Or else: check the network"), ("busybox", "check the network")):
        with pytest.raises(RegistryError) as caught:
            compiled(f"FROM scratch AS build\nFROM {line}\n", bridge=Unreachable())
        assert caught.value.hint == hint


def test_what_a_registry_says_gets_the_line(compiled: Any) -> None:
    class Deaf:
        def image_config(self, reference: object, platform: object) -> ResolvedImage:
            raise RegistryError(f"{reference}: no answer", temporary=True)

        def read(self, source: str, path: str) -> bytes | None:
            return None

    with pytest.raises(RegistryError) as caught:
        compiled("FROM a\nCOPY --from=b / /\nCOPY --from=c / /\n", bridge=Deaf())

    assert caught.value.span is not None
    assert caught.value.span.first == 1
    assert caught.value.temporary


def test_a_trigger_that_cannot_be_read_is_told_at_the_from(compiled: Any, dict_bridge: Any) -> None:
    config = {"architecture": "amd64", "os": "linux", "config": {"OnBuild": ["FOO bar"]}}

    with pytest.raises(DockerfileError, match="ONBUILD trigger of t: unknown instruction: FOO") as caught:
        compiled("FROM t\n", bridge=dict_bridge({"t": {"config": config}}))

    assert caught.value.span is not None
    assert caught.value.span.first == 1


def test_nothing_but_messages_reaches_a_person(compiled: Any) -> None:
    with pytest.raises(KnarrError) as caught:
        compiled("FROM x\nEXPOSE http\n", platforms=(Platform("linux", "arm64"),))

    assert "Traceback" not in caught.value.render()
