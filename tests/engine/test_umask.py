"""A build gives the same under any umask of who calls it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

DOCKERFILE = """\
FROM busybox AS s
RUN mkdir /made && touch /made/f
FROM busybox
COPY --from=s /made /made
COPY d /new/d/
COPY <<EOF /here/doc
x
EOF
ADD a.tar /t/
WORKDIR /w/x
USER 1234
RUN ls / /made && cat /here/doc
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t2 --mount=type=bind,source=d,target=/b cat /b/a && ls /c
RUN --mount=type=bind,source=d,target=/deep/er/b,rw touch /tmp/f
"""


def test_modes_do_not_depend_on_the_umask(knarr: Knarr, context: Path) -> None:
    before = os.umask(0o077)
    try:
        strict = knarr.build(DOCKERFILE, context=context)
    finally:
        os.umask(before)
    knarr.env["KNARR_ROOT"] += "-2"
    usual = knarr.build(DOCKERFILE, context=context)
    assert {path: strict.mode(path) for path in strict.files} == {path: usual.mode(path) for path in usual.files}
    assert strict.layers == usual.layers


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_nobody_else_may_write_the_state(knarr: Knarr, context: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        knarr.build("FROM busybox\nRUN echo x > /x\nCOPY f /f\n", context=context)
    finally:
        os.umask(before)
    trees = knarr.root / "snapshots"  # what is in there has the modes of the images' files
    ours = [knarr.root, *knarr.root.iterdir(), *(p for p in knarr.root.rglob("*") if trees not in p.parents)]
    open_to_all = [path for path in ours if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert open_to_all == []
