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
