"""Root in a container with Docker's defaults: what a step may do, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

LISTING = "for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $f; echo; done 2>/dev/null"
MakePlace = Callable[..., places.Place]


def build(place: places.Place, text: str, *flags: str) -> CompletedProcess[str]:
    return place.knarr("build", "--progress=plain", *flags, write(place, text))


def write(place: places.Place, text: str) -> str:
    context = place.home / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    (context / "file").write_text("of the context\n")
    return str(context)


@pytest.fixture
def there(place: MakePlace) -> places.Place:
    return place("container")


def test_a_step_cannot_leave_its_root(there: places.Place) -> None:
    text = """\
        FROM busybox
        RUN mkdir /x && ! chroot /x /bin/true && ls / | grep -q bin && ! ls /var/tmp
        RUN ! mount -t proc none /proc && ! cat /dev/kmsg && mknod /disk b 8 0 && ! cat /disk && rm /disk
        RUN echo out > /dev/null && head -c 4 /dev/urandom | wc -c && test -d /dev/shm
    """
    done = build(there, text)
    assert done.returncode == 0, done.stderr


def test_what_a_step_puts_in_the_way_leads_nowhere_outside(there: places.Place) -> None:
    (there.home / "outside").mkdir()
    (there.home / "outside/resolv.conf").write_text("mine")
    text = f"""\
        FROM busybox
        RUN --mount=type=cache,target=/a/cache --mount=type=tmpfs,target=/a/tmp \\
            mv /a /b && ln -s {there.home}/outside /a && mv /etc /etc2 && ln -s {there.home}/outside /etc && rm -r /dev
        RUN ls /b /etc2 && ! ls /b/cache
    """
    build(there, text)
    assert (there.home / "outside/resolv.conf").read_text() == "mine"
    assert [path.name for path in (there.home / "outside").iterdir()] == ["resolv.conf"]


def test_what_runs_on_when_a_step_has_ended_is_ended(there: places.Place) -> None:
    text = """\
        FROM busybox
        RUN (setsid sleep 7532 &) ; (trap '' TERM; sleep 7532) & true
        USER 4321
        RUN ulimit -u 60; bomb() { bomb & bomb & sleep 1; }; bomb 2>/dev/null & sleep 0.1
    """
    done = there.call(
        *("sh", "-c", f'"$@" >&2; n=$?; {LISTING} | grep -c "^sleep 7532"; exit $n', "sh"),
        *(there.python.program, "-m", "knarr", "build", "--progress=plain", write(there, text)),
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


def test_a_cache_that_a_killed_build_had_moved_is_given_back(there: places.Place) -> None:
    first = write(
        there, "FROM busybox\nRUN --mount=type=cache,target=/c,id=k echo kept > /c/f && touch /c/up && sleep 99\n"
    )
    second = there.home / "second"
    second.mkdir()
    (second / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=cache,target=/c,id=k cat /c/f && ls /c\n")
    script = f"""
        {there.python.program} -m knarr build {first} & pid=$!
        while ! ls {there.state}/snapshots/native/*/fs/c/up 2>/dev/null; do sleep 0.05; done
        kill -9 $pid; wait $pid
        {there.python.program} -m knarr build --progress=plain {second} 2>&1
        ls {there.state}/run/bundles/*/* 2>/dev/null | wc -l
    """
    done = there.call("sh", "-c", script)
    assert " kept\n" in done.stdout, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("\n0")


def test_what_is_mounted_is_in_no_layer(there: places.Place) -> None:
    (there.home / "token").write_text("hidden")
    text = """\
        FROM busybox
        RUN --mount=type=secret,id=token,target=/etc/token --mount=type=bind,target=/ctx,rw \\
            cat /etc/token /ctx/file && rm /ctx/file && echo 1.2.3.4 x >> /etc/hosts
    """
    done = build(there, text, "--secret", f"id=token,src={there.home}/token", "--output", "type=local,dest=out")
    assert done.returncode == 0, done.stderr
    found = {str(path.relative_to(there.home / "out")) for path in (there.home / "out").rglob("*")}
    assert "bin/busybox" in found
    assert not {name for name in found if name.startswith(("etc/token", "etc/hosts", "ctx", "dev/", "proc/"))}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN --network=none true", "RUN --network=none: this place allows no network namespace"),
        ("USER nobody-here\nRUN true", "user nobody-here: not in the image's /etc/passwd"),
        ('RUN ["/missing"]', "/missing"),
        ("RUN exit 7", "exit code: 7"),
        ("RUN kill -9 $$", "exit code: 137"),
    ],
)
def test_what_fails_says_so(there: places.Place, text: str, words: str) -> None:
    done = build(there, f"FROM busybox\n{text}\n")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
