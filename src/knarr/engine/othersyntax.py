"""A build whose Dockerfile names the image of a frontend: the file is lent to it, and its answer is the result."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.engine.frontends import IMAGE
from knarr.errors import ContentError, KnarrError
from knarr.frontend.answer import from_answer
from knarr.frontend.gateway import Answer
from knarr.frontend.options import to_options
from knarr.frontend.request import FrontendRequest, FrontendResult
from knarr.owner import owned_directory
from knarr.record import replace
from knarr.scope import Scope
from knarr.session.lending import Lending

if TYPE_CHECKING:
    from knarr.engine.job import Job
    from knarr.frontend.dockerfile.syntax import Syntax

_SUBREQUESTS = "moby.buildkit.frontend.subrequests"


def compile_with(syntax: Syntax, job: Job, request: FrontendRequest) -> FrontendResult:
    """What the frontend `syntax` makes of the request.

    Raises:
        KnarrError: what the frontend says is wrong, or why it could not be run, with the line that names it.
    """
    with _named(syntax):
        return _read(_asked(syntax, job, request, {}), syntax)


def answer_with(syntax: Syntax, job: Job, request: FrontendRequest, question: str) -> Mapping[str, bytes]:
    """What the frontend `syntax` answers to a question such as `frontend.outline`: its metadata, `result.json` for one.

    Raises:
        UnsupportedCapability: its image does not say that it answers questions.
        KnarrError: as `compile_with`.
    """
    asked = {"requestid": question, "frontend.caps": _SUBREQUESTS}
    with _named(syntax):
        return _asked(syntax, job, request, asked).metadata


def _asked(syntax: Syntax, job: Job, request: FrontendRequest, more: Mapping[str, str]) -> Answer:
    options = {**to_options(request), "source": syntax.image, "cmdline": syntax.command_line, **more}
    if request.scanner is not None and request.scanner.generator is not None:
        options["attest:sbom"] = request.scanner.options
    place = job.held.enter_context(owned_directory(job.world.settings.run / "dockerfiles"))
    _write(request, place)
    job.world = replace(job.world, session=Lending(job.world.session, "dockerfile", place))
    with Scope() as scope, job.world.scope.on_cancel(scope.cancel):
        return job.gateway.ask(IMAGE, options, {}, scope=scope)


@contextmanager
def _named(syntax: Syntax) -> Iterator[None]:
    """Failures in the block show the line that names the frontend."""
    try:
        yield
    except KnarrError as error:
        raise error.with_context(span=syntax.span, excerpt=syntax.excerpt) from error.__cause__


def _read(answer: Answer, syntax: Syntax) -> FrontendResult:
    try:
        return from_answer(answer)
    except ContentError as error:
        raise error.with_context(frontend=syntax.image) from error.__cause__


def _write(request: FrontendRequest, place: Path) -> None:
    name = os.path.basename(request.filename)
    (place / name).write_bytes(request.dockerfile)
    if request.dockerignore is not None:
        (place / f"{name}.dockerignore").write_bytes(request.dockerignore)
