"""Dockerfiles with the graphs and image configs they come to.

A folder of `golden/` has a Dockerfile, perhaps a `request.json` (options of the
request by their names, `images` and `files` of the bridge), and `expected.json`:
for each platform the vertices in the order of the definition, by digest and by
name, and the image config. The digests were compared with those of BuildKit's
frontend (73ed682) with the session taken out of its local sources; all agree.

After a change that is meant: `KNARR_REWRITE_GOLDEN=1 pytest tests/frontend/compile`,
and look at the difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from knarr.frontend.dockerfile.compile import compile
from knarr.frontend.request import FrontendRequest, FrontendResult
from knarr.llb.decode import decode
from knarr.llb.definition import encode
from knarr.llb.ops import UlimitOpt
from knarr.spec.config import encode_config
from knarr.spec.platform import Platform

GOLDEN = Path(__file__).parent / "golden"
READERS = {
    "platforms": lambda texts: tuple(Platform.parse(text) for text in texts),
    "ulimits": lambda limits: tuple(UlimitOpt(*limit) for limit in limits),
    "extra_hosts": lambda hosts: tuple(tuple(host) for host in hosts),
    "no_cache_filter": tuple,
}


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_graph_and_config_are_as_recorded(case: str, dict_bridge: Any) -> None:
    folder = GOLDEN / case
    options = json.loads((folder / "request.json").read_text()) if (folder / "request.json").exists() else {}
    bridge = dict_bridge(options.pop("images", {}), files := options.pop("files", {}))
    ignore = files.get("context", {}).get(".dockerignore")

    result = compile(
        FrontendRequest(
            (folder / "Dockerfile").read_bytes(),
            build_platform=Platform("linux", "amd64"),
            dockerignore=ignore.encode() if ignore else None,
            **{name: READERS.get(name, lambda value: value)(value) for name, value in options.items()},
        ),
        bridge,
    )

    shown = summary(result)
    if os.environ.get("KNARR_REWRITE_GOLDEN"):
        (folder / "expected.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    assert shown == json.loads((folder / "expected.json").read_text())


def summary(result: FrontendResult) -> dict[str, Any]:
    return {
        str(one.platform): {
            "vertices": [f"{v.digest} {v.metadata.name}" for v in decode(encode(one.graph)).vertices.values()],
            "config": json.loads(encode_config(one.config)),
        }
        for one in result.results
    }
