"""Whatever the Dockerfile: it compiles, and to the same graph each time, or it is refused with a line."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings

from dockerfile_options import IMAGES, build_options  # tools/
from dockerfile_strategies import dockerfiles
from knarr.errors import DockerfileError, KnarrError
from knarr.frontend.dockerfile.compile import compile
from knarr.frontend.dockerfile.subrequests import check, outline, targets
from knarr.frontend.request import FrontendRequest
from knarr.llb.definition import encode
from knarr.spec.platform import Platform

quiet = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@quiet
@given(text=dockerfiles(), options=build_options())
def test_a_random_file_compiles_the_same_twice_or_is_refused_with_its_lines(
    text: str, options: dict[str, Any], dict_bridge: Any
) -> None:
    request = FrontendRequest(text.encode(), build_platform=Platform("linux", "amd64"), **options)

    graphs, error = compiled(request, dict_bridge(IMAGES))
    again, error_again = compiled(request, dict_bridge(IMAGES))

    assert graphs == again
    assert (error is None) == (error_again is None)
    assert error is None or error_again is None or error.render() == error_again.render()
    assert not isinstance(error, DockerfileError) or (error.span and error.excerpt)


def compiled(request: FrontendRequest, bridge: Any) -> tuple[list[bytes], KnarrError | None]:
    try:
        return [encode(result.graph) for result in compile(request, bridge).results], None
    except KnarrError as error:
        return [], error


@quiet
@given(text=dockerfiles(), options=build_options())
def test_a_random_file_can_be_asked_about(text: str, options: dict[str, Any], dict_bridge: Any) -> None:
    request = FrontendRequest(text.encode(), build_platform=Platform("linux", "amd64"), **options)

    assert check(request, dict_bridge(IMAGES)).json
    with suppress(KnarrError):
        assert outline(request, dict_bridge(IMAGES)).json
    with suppress(KnarrError):
        assert targets(request).json
