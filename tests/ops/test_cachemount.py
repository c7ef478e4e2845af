"""Cache mounts: what they are known by, how they are shared, between threads and between processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from knarr.errors import Cancelled
from knarr.llb.ops import CacheOpt, CacheSharing, ChownOpt, FileAction, MkDir, MkFile, UserOpt
from knarr.ops.cachemount import cache_directory
from knarr.ops.world import World
from knarr.scope import Scope

from .conftest import act_on, meta
from .test_file import first

pytestmark = pytest.mark.root

SHARED = CacheOpt("id")
LOCKED = CacheOpt("id", CacheSharing.LOCKED)
PRIVATE = CacheOpt("id", CacheSharing.PRIVATE)


def test_it_begins_empty_and_keeps_what_is_put_in(overlay: World) -> None:
    with cache_directory(overlay, SHARED, None, "") as path:
        assert list(path.iterdir()) == []
        assert meta(path)[:3] == (0o755, 0, 0)
        (path / "kept").write_text("x")
    with cache_directory(overlay, SHARED, None, "") as path:
        assert (path / "kept").read_text() == "x"


def test_the_umask_of_this_process_does_not_count(overlay: World) -> None:
    before = os.umask(0o077)
    try:
        with cache_directory(overlay, SHARED, None, "") as path:
            assert meta(path)[0] == 0o755
    finally:
        os.umask(before)


def test_it_is_known_by_its_id_and_by_what_it_begins_with(overlay: World) -> None:
    base = act_on(overlay)(None, first(MkFile("/f", 0o644, b"")))
    with (
        cache_directory(overlay, SHARED, None, "") as one,
        cache_directory(overlay, CacheOpt("other"), None, "") as two,
        cache_directory(overlay, SHARED, base, "") as three,
        cache_directory(overlay, CacheOpt("id"), None, "") as again,
    ):
        assert len({one, two, three}) == 3
        assert again == one


def test_it_begins_as_a_copy_of_its_base(overlay: World) -> None:
    owner = ChownOpt(UserOpt(5), UserOpt(6))
    base = act_on(overlay)(
        None, FileAction(-1, MkDir("/sub", 0o711, owner=owner)), FileAction(1, MkFile("/sub/f", 0o640, b"f"), output=0)
    )
    with cache_directory(overlay, SHARED, base, "/sub") as path:
        assert meta(path)[:3] == (0o711, 5, 6)
        assert (path / "f").read_text() == "f"
        (path / "f").write_text("changed")
    with overlay.trees.mounted(base) as root:
        assert (root / "sub/f").read_text() == "f"


def test_a_selector_cannot_lead_outside(overlay: World) -> None:
    with cache_directory(overlay, SHARED, None, "") as path:
        os.symlink("/../../..", path / "up")
    with cache_directory(overlay, SHARED, None, "/up/x") as inner:
        assert inner == path / "x"


def test_it_tells_prune_what_it_is(overlay: World) -> None:
    with cache_directory(overlay, SHARED, None, ""):
        pass
    (info,) = (overlay.settings.root / "cachemounts").glob("*/info.json")
    told = json.loads(info.read_text())
    assert (told["id"], told["base"]) == ("id", None)
    assert told["created_ns"] <= time.time_ns()


def test_shared_is_for_all_at_once(overlay: World) -> None:
    with cache_directory(overlay, SHARED, None, "") as one, cache_directory(overlay, SHARED, None, "") as two:
        assert one == two


def test_private_takes_the_first_that_nobody_has(overlay: World) -> None:
    with ExitStack() as stack:
        paths = [stack.enter_context(cache_directory(overlay, PRIVATE, None, "")) for _ in range(3)]
        assert len(set(paths)) == 3
    with cache_directory(overlay, PRIVATE, None, "") as again:
        assert again == paths[0]


def test_private_passes_by_what_others_share(overlay: World) -> None:
    with cache_directory(overlay, SHARED, None, "") as shared, cache_directory(overlay, PRIVATE, None, "") as private:
        assert shared != private


def test_locked_waits_for_its_turn(overlay: World) -> None:
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with cache_directory(overlay, LOCKED, None, ""):
            inside.set()
            leave.wait()
            order.append("first")

    with Scope() as scope:
        scope.start(hold)
        inside.wait()
        threading.Timer(0.2, leave.set).start()
        with cache_directory(overlay, LOCKED, None, ""):
            order.append("second")
    assert order == ["first", "second"]


def test_a_waiter_can_be_cancelled(overlay: World, scope: Scope) -> None:
    with cache_directory(overlay, SHARED, None, ""):
        threading.Timer(0.1, scope.cancel).start()
        with pytest.raises(Cancelled), cache_directory(overlay, LOCKED, None, ""):
            pass


def test_a_failing_step_lets_go(overlay: World) -> None:
    with pytest.raises(ZeroDivisionError), cache_directory(overlay, LOCKED, None, ""):
        raise ZeroDivisionError
    with cache_directory(overlay, LOCKED, None, ""):
        pass


HOLDER = """
import sys
from pathlib import Path
from knarr.llb.ops import CacheOpt, CacheSharing
from knarr.ops.cachemount import cache_directory
from knarr.scope import Scope
from tests.ops.conftest import make_world

with Scope() as scope:
    for world in make_world(Path(sys.argv[1]), scope, "overlayfs"):
        with cache_directory(world, CacheOpt("id", CacheSharing[sys.argv[2]]), None, "") as path:
            print(path, flush=True)
            sys.stdin.read()
"""


@pytest.fixture
def holder(overlay: World) -> Path:
    script = overlay.settings.root / "holder.py"
    script.write_text(HOLDER)
    return script


def hold(script: Path, mode: str) -> subprocess.Popen[str]:
    """Another process that has the mount until its standard input is closed."""
    here = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, str(script), str(script.parent), mode],
        env={**os.environ, "PYTHONPATH": str(here)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [("SHARED", SHARED, True), ("PRIVATE", PRIVATE, False), ("SHARED", PRIVATE, False), ("LOCKED", PRIVATE, False)],
)
def test_sharing_holds_between_processes(overlay: World, holder: Path, theirs: str, ours: CacheOpt, same: bool) -> None:
    with hold(holder, theirs) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        their_path = other.stdout.readline().strip()
        with cache_directory(overlay, ours, None, "") as path:
            assert (str(path) == their_path) is same
        other.stdin.close()


def test_locked_waits_for_another_process_also_when_it_is_killed(overlay: World, holder: Path) -> None:
    with hold(holder, "LOCKED") as other:
        assert other.stdout is not None
        their_path = other.stdout.readline().strip()
        threading.Timer(0.2, other.kill).start()
        started = time.monotonic()
        with cache_directory(overlay, LOCKED, None, "") as path:
            assert str(path) == their_path
        assert time.monotonic() - started > 0.1
