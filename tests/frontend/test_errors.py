"""Dockerfiles that are wrong, with the whole text that a user gets to see.

Every file of `errors/` has cases: `=== NAME {OPTIONS}`, a Dockerfile, `==>`, and the
error as it is shown. They are the errors of BuildKit's parser and compiler (73ed682),
each of which refuses the same lines. `\\0` and `\\xff` stand for those bytes.

After a change that is meant: `KNARR_REWRITE_GOLDEN=1 pytest tests/frontend/test_errors.py`,
and look at the difference.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from knarr.errors import KnarrError
from knarr.frontend.dockerfile.compile import compile
from knarr.frontend.request import FrontendRequest
from knarr.spec.platform import Platform

FOLDER = Path(__file__).parent / "errors"
_HEAD = re.compile(r"=== (.*?)(?: (\{.*\}))?\n")
_IMAGES = ("busybox", "alpine", "onbuild")


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    dockerfile: bytes
    shown: str


def read_cases(file: Path) -> Iterator[Case]:
    _, *parts = _HEAD.split(file.read_text())
    for name, options, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        text, _, shown = body.partition("==>\n")
        data = text.encode().replace(b"\\0", b"\0").replace(b"\\xff", b"\xff")
        yield Case(name, json.loads(options or "{}"), data, shown)


CASES = [(file, case) for file in sorted(FOLDER.iterdir()) for case in read_cases(file)]


@pytest.fixture(scope="module")
def bridge() -> Any:
    spec = importlib.util.spec_from_file_location("compile_conftest", Path(__file__).parent / "compile/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DictBridge({name: {} for name in _IMAGES}, any_image=False)


def shown_for(case: Case, bridge: Any) -> str:
    options = dict(case.options)
    if "dockerignore" in options:
        options["dockerignore"] = options["dockerignore"].encode()
    options["platforms"] = tuple(map(Platform.parse, options.get("platforms", ())))
    request = FrontendRequest(case.dockerfile, build_platform=Platform("linux", "amd64"), **options)
    with pytest.raises(KnarrError) as caught:
        compile(request, bridge)
    return caught.value.render() + "\n"


@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{file.stem}: {case.name}" for file, case in CASES])
def test_an_error_is_shown_as_recorded(file: Path, case: Case, bridge: Any) -> None:
    shown = shown_for(case, bridge)

    if os.environ.get("KNARR_REWRITE_GOLDEN"):
        rewrite(file, case, shown)
    else:
        assert shown == case.shown


def rewrite(file: Path, case: Case, shown: str) -> None:
    head = f"=== {case.name}" + (f" {json.dumps(case.options)}" if case.options else "")
    text = file.read_text()
    start = text.index(head + "\n")
    at = text.index("==>\n", start) + 4
    end = text.find("\n=== ", at - 1) + 1 or len(text)
    file.write_text(text[:at] + shown + text[end:])
