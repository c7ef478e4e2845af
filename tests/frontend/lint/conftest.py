"""The bridge over dicts of the compiler's tests, and requests read from a folder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.frontend.request import FrontendRequest
from knarr.spec.platform import Platform

_COMPILE = Path(__file__).parents[1] / "compile" / "conftest.py"


@pytest.fixture(scope="session")
def dict_bridge() -> Any:
    spec = importlib.util.spec_from_file_location("compile_conftest", _COMPILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DictBridge


@pytest.fixture
def asked(dict_bridge: Any) -> Callable[[Path], tuple[FrontendRequest, Any]]:
    """`asked(folder)`: the request that a golden case makes, and the bridge that answers it."""

    def read(folder: Path) -> tuple[FrontendRequest, Any]:
        options = json.loads((folder / "request.json").read_text()) if (folder / "request.json").exists() else {}
        images, files = options.pop("images", {}), options.pop("files", {})
        ignore = files.get("context", {}).get(".dockerignore")
        request = FrontendRequest(
            (folder / "Dockerfile").read_bytes(),
            build_platform=Platform("linux", "amd64"),
            dockerignore=ignore.encode() if ignore else None,
            **options,
        )
        return request, dict_bridge(images, files)

    return read
