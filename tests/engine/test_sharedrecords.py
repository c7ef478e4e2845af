"""The records of a shared cache are BuildKit's: its digests for the same Dockerfile and context are the goldens.

`shared/records.json` has what BuildKit 0.33 (buildctl … --export-cache type=local,mode=max) wrote for
`shared/Dockerfile` and the context made here: the digests of ops and of contents, and the selectors.
Those of base images are left out, since base images differ from machine to machine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py
_HERE = Path(__file__).parent / "shared"


def _make_context(root: Path) -> Path:
    """Names, modes and links of every kind; some of it hidden by the ignore file."""
    (root / "src/sub/deep").mkdir(parents=True)
    (root / "tree/empty").mkdir(parents=True)
    files = {
        "src/a.txt": "a\n",
        "src/b.c": "b\n",
        "src/sub/c.txt": "c\n",
        "src/sub/deep/d.c": "d\n",
        "src/sub-x": "x\n",
        "src/ü <&>.txt": "ü\n",
        "script.sh": "#!/bin/sh\n",
        "hidden.log": "no\n",
        "tree/skip.log": "no\n",
        "tree/keep.log": "yes\n",
        ".dockerignore": "*.log\ntree/*.log\n!tree/keep.log\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
        (root / name).chmod(0o644)
    os.symlink("a.txt", root / "src/link")
    os.symlink("src/sub", root / "dirlink")
    for directory, _, _ in os.walk(root):
        os.chmod(directory, 0o755)
    modes = {"script.sh": 0o755, "src/sub/deep": 0o2750, "src/b.c": 0o4711}
    for name, mode in modes.items():
        (root / name).chmod(mode)
    return root


def _records(cache: Path) -> list[dict[str, Any]]:
    def read(descriptor: dict[str, Any]) -> Any:
        return json.loads((cache / "blobs" / descriptor["digest"].replace(":", "/")).read_text())

    index = json.loads((cache / "index.json").read_text())
    found: list[dict[str, Any]] = read(read(index["manifests"][0])["config"])["records"]
    return found


def test_digests_and_selectors_are_those_of_buildkit(knarr: Knarr, tmp_path: Path) -> None:
    golden = json.loads((_HERE / "records.json").read_text())
    (tmp_path / "secret").write_text("s")
    lent = [word for id in ("s", "e") for word in ("--secret", f"id={id},src={tmp_path}/secret")]
    to = ("--cache-to", f"type=local,dest={tmp_path}/cache,mode=max", "-o", "type=cacheonly")
    context = _make_context(tmp_path / "golden")
    text = (_HERE / "Dockerfile").read_text()
    knarr.run(*knarr.command(text, "--platform", "linux/amd64", *lent, *to, context=context))

    records = _records(tmp_path / "cache")
    links = [link for one in records for links in one.get("inputs", ()) for link in links]
    assert {one["digest"] for one in records if one.get("inputs")} == set(golden["ops"])
    assert {link["selector"] for link in links if "selector" in link} == set(golden["selectors"])
    assert {one["digest"] for one in records if not one.get("inputs")} >= set(golden["contents"])
    assert len(records) == len(golden["ops"]) + len(golden["contents"]) + 2  # a base image goes by two keys
