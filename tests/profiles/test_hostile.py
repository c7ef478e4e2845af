"""Images that lie about users, in every profile: the build ends, in time, with a word about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]
HOSTILE = {
    "a pipe": "rm -f /etc/passwd /etc/group && mkfifo /etc/passwd /etc/group",
    "a link out of the image": "ln -sf ../../../../../../../../../etc/shadow /etc/passwd",
    "a circle": "ln -sf passwd /etc/passwd",
    "a directory": "rm -f /etc/passwd && mkdir /etc/passwd",
    "an endless line": "head -c 11000000 /dev/zero | tr '\\0' a > /etc/passwd && cp /etc/passwd /etc/group",
    "impossible numbers": "printf 'app:x:-1:-1::/:\\nApp:x:4294967296:0::/:\\napp:x:one:0::/:\\n' > /etc/passwd",
}


@pytest.mark.parametrize("profile", ["user", "single", "container", "restricted"])
def test_a_user_that_is_none_is_refused(place: MakePlace, profile: str) -> None:
    there = place(profile)
    context = there.home / "context"
    context.mkdir()
    for what, command in HOSTILE.items():
        (context / "Dockerfile").write_text(f"FROM busybox\nRUN {command}\nUSER app\nRUN id > /id\n")
        done = there.knarr("build", "--progress=plain", str(context))
        assert done.returncode == 1, (what, done.stderr)
        told = done.stderr.rpartition("error: ")[2]
        assert any(word in told for word in ("app", "/etc/passwd", "not a user or group number")), (what, done.stderr)
        assert "Traceback" not in done.stderr, what
