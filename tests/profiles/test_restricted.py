"""Nobody in a Pod without any right: what a step sees, and what cannot be kept."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from knarr.privilege.profile import in_container
from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]


@pytest.fixture
def there(place: MakePlace) -> places.Place:
    return place("restricted")


def build(place: places.Place, text: str, *flags: str, **env: str) -> CompletedProcess[str]:
    context = place.home / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(text)
    return place.knarr("build", "--progress=plain", *flags, str(context), **env)


def test_owners_are_seen_by_the_steps_that_come_after(there: places.Place) -> None:
    text = """\
        FROM busybox
        RUN echo app:x:7:8::/:/bin/sh >> /etc/passwd && touch /f && chown 7:8 /f && mkdir /d && chown 7 /d
        RUN test "$(stat -c %u:%g /f)" = 7:8 && test "$(stat -c %u /d /etc | tr '\\n' +)" = 7+0+
        RUN chown 0:0 /f && test "$(stat -c %u /f)" = 0
        USER app
        RUN test "$(id -u)" = 7 && touch /d/mine
        USER root
        RUN test "$(stat -c %u:%g /d/mine)" = 7:8 && mknod /dev/x c 1 3 && mknod /x b 8 1 && test -b /x
    """
    done = build(there, text)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN ln -s a /l && chown -h 5:6 /l", "/l: the owner 5:6 of what is no file and no directory cannot be kept"),
        ("USER 5:6\nRUN ln -s a /tmp/l", "/tmp/l: the owner 5:6 of a symlink, pipe or socket cannot be kept"),
        (
            f"RUN echo x:x:{places.UID}:1::/:/bin/sh >> /etc/passwd\nRUN touch /f && chown x /f",
            f"/f: its owner {places.UID} is both the image's and the number of who builds cannot be kept",
        ),
        ("RUN --network=none true", "this place allows no network namespace"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(there: places.Place, text: str, words: str) -> None:
    done = build(there, f"FROM busybox\n{text}\n")
    assert done.returncode == 1
    assert words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_step_that_ends_badly_or_runs_on_is_ended(there: places.Place) -> None:
    done = build(there, "FROM busybox\nRUN (setsid sleep 7533 &); exit 3\n")
    assert "exit code: 3" in done.stderr


def test_on_a_machine_nothing_runs_unconfined_unless_it_is_asked_for(place: MakePlace) -> None:
    if in_container():
        pytest.skip("this machine has the marks of a container, such as /.dockerenv: there it is taken unasked")
    there = place("single", forbidden=True)
    done = build(there, "FROM busybox\nRUN true\n")
    assert done.returncode == 1
    assert "restricted: this is no container, so nothing would keep steps from this user's files" in done.stderr
    assert "KNARR_PROFILE=restricted" in done.stderr
    asked = build(there, "FROM busybox\nRUN true\n", KNARR_PROFILE="restricted")
    assert asked.returncode == 0, asked.stderr
