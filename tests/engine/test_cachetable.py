"""When a step is taken from the cache, rule by rule: what counts, and what does not, measured on BuildKit 0.33.

One build fills the cache; each row changes one thing and says which steps run then.
The rows share the cache: no two of them make the same change.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]

DOCKERFILE = """FROM busybox AS build
COPY src /src
RUN cat src/a > /out
FROM busybox
LABEL version=1
ENV MODE=debug
COPY --chmod=644 top /top
WORKDIR /w
COPY --from=build /out /out
COPY --link a/same /linked
RUN --mount=type=secret,id=s --mount=type=cache,id=first,target=/c --mount=type=tmpfs,target=/t,size=1m echo run
RUN --mount=target=/m,source=bound ls /m
"""
COPY_SRC, CAT, COPY_TOP, WORKDIR = "COPY src /src", "RUN cat", "COPY --chmod=644 top", "WORKDIR /w"
COPY_OUT, LINK, RUN, BIND = "COPY --from=build", "COPY --link", "RUN --mount=type=secret", "RUN --mount=target=/m"
NOTHING: tuple[str, ...] = ()
ALL_RUNS = (CAT, RUN, BIND)
ABOVE = (COPY_OUT, "LINK", RUN, BIND)
OPTIONS = ("--secret", "id=s,src=secret", "--platform", "linux/amd64", "-o", "type=cacheonly")


class Table:
    """A state directory whose cache has one build, and that build with one thing changed."""

    def __init__(self, knarr: Knarr, pristine: Path) -> None:
        self.knarr = knarr
        self.pristine = pristine
        self.context = knarr.work / "context"
        self.reset()

    def reset(self) -> None:
        """The context as it was."""
        shutil.rmtree(self.context, ignore_errors=True)
        shutil.copytree(self.pristine, self.context, symlinks=True)
        (self.knarr.work / "secret").write_text("secret")

    def ran(self, *options: str, dockerfile: str = DOCKERFILE) -> list[str]:
        """The steps that ran; those that were found are not among them."""
        done = self.knarr.run(*self.knarr.command(dockerfile, *OPTIONS, *options))
        names = dict(
            re.findall(r"^#(\d+) \[[^\]]*\d+/\d+\] ((?:RUN|COPY|WORKDIR|ADD|LINK).*)$", done.stderr, re.MULTILINE)
        )
        cached = set(re.findall(r"^#(\d+) CACHED$", done.stderr, re.MULTILINE))
        return [name for number, name in names.items() if number not in cached]

    def assert_ran(self, expected: Sequence[str], *options: str, dockerfile: str = DOCKERFILE) -> None:
        ran = self.ran(*options, dockerfile=dockerfile)
        assert [step for step in expected if not any(name.startswith(step) for name in ran)] == [], ran
        assert [name for name in ran if not name.startswith(tuple(expected))] == []


@pytest.fixture(scope="module")
def filled(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Table:
    work = tmp_path_factory.mktemp("table")
    pristine = work / "pristine"
    for name in ("src/a", "src/b", "top", "a/same", "b/same", "bound/x", "free/x"):
        (pristine / name).parent.mkdir(parents=True, exist_ok=True)
        (pristine / name).write_text(f"{name[-1]}\n")
    table = Table(Knarr(work / "state", bases.hosts_dir, work), pristine)
    assert len(table.ran()) == 9
    return table


@pytest.fixture
def table(filled: Table) -> Table:
    filled.reset()
    return filled


Change = Callable[[Path], object]
CONTEXT: dict[str, tuple[Change, Sequence[str]]] = {
    "mtime of a file": (lambda root: os.utime(root / "src/a", (1, 1)), NOTHING),
    "mtime of a directory": (lambda root: os.utime(root / "src", (1, 1)), NOTHING),
    "an unrelated file": (lambda root: (root / "unrelated").write_text("x"), NOTHING),
    "owner of a file": (lambda root: os.chown(root / "src/a", 77, 88), NOTHING),
    "content of a file": (lambda root: (root / "src/a").write_text("new"), (COPY_SRC, CAT, *ABOVE)),
    "content that the step drops": (lambda root: (root / "src/b").write_text("new"), (COPY_SRC, CAT)),
    "mode of a file": (lambda root: (root / "src/a").chmod(0o755), (COPY_SRC, CAT)),
    "mode in spite of --chmod": (lambda root: (root / "top").chmod(0o600), (COPY_TOP, WORKDIR, *ABOVE)),
    "mode of a directory": (lambda root: (root / "src").chmod(0o700), (COPY_SRC, CAT)),
    "user attribute": (lambda root: os.setxattr(root / "src/a", "user.x", b"y"), (COPY_SRC, CAT)),
    "capability": (
        lambda root: os.setxattr(root / "src/a", "security.capability", bytes.fromhex("01000002" + "00" * 16)),
        (COPY_SRC, CAT),
    ),
    "other security attribute": (lambda root: os.setxattr(root / "src/a", "security.x", b"y"), NOTHING),
    "file beside a bind mount's source": (lambda root: (root / "free/x").write_text("new"), NOTHING),
    "file in a bind mount's source": (lambda root: (root / "bound/y").write_text("new"), (BIND,)),
}


@pytest.mark.parametrize("row", CONTEXT)
def test_a_change_of_the_context(table: Table, row: str) -> None:
    change, expected = CONTEXT[row]
    change(table.context)
    table.assert_ran(expected)


TEXT: dict[str, tuple[str, str, Sequence[str]]] = {
    "comment": ("FROM busybox\n", "# a comment\nFROM   busybox\n\n", NOTHING),
    "LABEL": ("version=1", "version=2", NOTHING),
    "ENV": ("MODE=debug", "MODE=release", (RUN, BIND)),
    "CMD": ("ENV MODE=debug", "ENV MODE=debug\nCMD new", NOTHING),
    "ARG that no step reads": ("ENV MODE=debug", "ENV MODE=debug\nARG UNREAD=1", (RUN, BIND)),
    "ARG behind the steps": ("ls /m\n", "ls /m\nARG LATE=1\n", NOTHING),
    "same name in another directory": ("a/same", "b/same", NOTHING),
    "another name with the same content": ("--link a/same", "--link src/a", ("COPY --link src/a", "LINK", RUN, BIND)),
    "id of a cache mount": ("id=first,", "id=second,", NOTHING),
    "sharing of a cache mount": ("id=first,", "id=first,sharing=private,", NOTHING),
    "target of a cache mount": ("target=/c ", "target=/d ", (RUN, BIND)),
    "size of a tmpfs": ("size=1m", "size=2m", (RUN, BIND)),
    "required secret": ("id=s ", "id=s,required=true ", (RUN, BIND)),
    "mode of a secret": ("id=s ", "id=s,mode=0444 ", (RUN, BIND)),
    "user": ("RUN --mount=type=secret", "USER 5\nRUN --mount=type=secret", (RUN, BIND)),
    "working directory": ("RUN --mount=type=secret", "WORKDIR /\nRUN --mount=type=secret", (RUN, BIND)),
    "writable bind mount": ("target=/m,source=bound", "target=/m,source=bound,rw", ("RUN --mount=target=/m",)),
    "network mode": ("RUN --mount=type=secret", "RUN --network=none --mount=type=secret", ("RUN --network", BIND)),
}


@pytest.mark.parametrize("row", TEXT)
def test_a_change_of_the_dockerfile(table: Table, row: str) -> None:
    old, new, expected = TEXT[row]
    assert old in DOCKERFILE
    table.assert_ran(
        expected, dockerfile=DOCKERFILE.replace(old, new, 1) if row != "comment" else "# x\n\n" + DOCKERFILE
    )


FLAGS: dict[str, tuple[tuple[str, ...], Sequence[str]]] = {
    "build argument that nobody declares": (("--build-arg", "UNKNOWN=1"), NOTHING),
    "proxies": (("--build-arg", "HTTP_PROXY=http://proxy:1", "--build-arg", "no_proxy=x"), NOTHING),
    "label": (("--label", "a=b"), NOTHING),
    "host": (("--add-host", "there:10.0.0.1"), ALL_RUNS),
    "address of the host": (("--add-host", "there:10.0.0.2"), NOTHING),
    "ulimit": (("--ulimit", "nofile=1024:2048"), ALL_RUNS),
    "cgroup parent": (("--cgroup-parent", "knarr-test"), ALL_RUNS),
    "size of shared memory": (("--shm-size", "128m"), ALL_RUNS),
}


@pytest.mark.parametrize("row", FLAGS)
def test_a_change_of_the_command_line(table: Table, row: str) -> None:
    flags, expected = FLAGS[row]
    if row == "address of the host":
        table.ran("--add-host", "there:10.0.0.1")  # whichever row came first
    ran = [step for step in table.ran(*flags) if not step.startswith(COPY_OUT)]  # by content: it may or may not run
    assert [step for step in expected if not any(name.startswith(step) for name in ran)] == [], ran
    assert [name for name in ran if not name.startswith(tuple(expected))] == []


def test_the_value_of_a_secret_does_not_count(table: Table) -> None:
    (table.knarr.work / "secret").write_text("another secret")
    table.assert_ran(NOTHING)


def test_another_platform_is_another_step(table: Table) -> None:
    text = "FROM --platform=linux/amd64 busybox\nCOPY top /top\nRUN echo x > /x\n"
    table.ran(dockerfile=text)
    table.assert_ran(
        (COPY_TOP.replace("--chmod=644 ", ""), "RUN echo"),
        "--platform",
        "linux/arm64",
        dockerfile="FROM busybox\nCOPY top /top\nRUN echo x > /x\n",
    )
    table.assert_ran(NOTHING, dockerfile=text)


def test_a_base_image_under_another_name_and_digest_with_the_same_layers_hits(table: Table, bases: Any) -> None:
    name = f"{bases.address}/retagged:1"
    table.knarr.run(*table.knarr.command("FROM busybox\nLABEL other=1\n", "-t", name, "--push"))
    table.assert_ran(NOTHING, dockerfile=DOCKERFILE.replace("FROM busybox", f"FROM {name}"))


def test_another_base_image_misses_but_for_linked_copies(table: Table, bases: Any) -> None:
    name = f"{bases.address}/rebased:1"
    table.knarr.run(*table.knarr.command("FROM busybox\nRUN echo base > /base\n", "-t", name, "--push"))
    ran = table.ran(dockerfile=DOCKERFILE.replace("FROM busybox\nLABEL", f"FROM {name}\nLABEL"))
    assert not any(step.startswith(LINK) for step in ran)
    assert any(step.startswith(COPY_TOP) for step in ran)


def test_no_cache_runs_all_and_what_it_made_is_found_under_the_same_keys(table: Table) -> None:
    text = "FROM busybox\nRUN head -c 9 /dev/urandom | sha256sum > /random\nRUN cat /random\n"
    table.ran(dockerfile=text)
    assert len(table.ran("--no-cache", dockerfile=text)) == 2
    table.assert_ran(NOTHING, dockerfile=text)


STAGES = """FROM busybox AS one
RUN echo one > /1
FROM busybox AS two
RUN echo two > /2
FROM one AS three
RUN echo three > /3
FROM three
COPY --from=two /2 /2
RUN echo last > /last
"""
FILTERS: dict[str, tuple[str, Sequence[str]]] = {
    "a stage that others read": ("two", ("RUN echo two",)),
    "a stage that others are built on": ("one", ("RUN echo one", "RUN echo three", "COPY --from=two", "RUN echo last")),
    "a number": ("1", NOTHING),
    "several": ("two,three", ("RUN echo two", "RUN echo three", "COPY --from=two", "RUN echo last")),
    "none of this name": ("nobody", NOTHING),
    "without regard to case": ("TWO", ("RUN echo two",)),
}


@pytest.mark.parametrize("row", FILTERS)
def test_no_cache_filter(table: Table, row: str) -> None:
    stages, expected = FILTERS[row]
    table.ran(dockerfile=STAGES)
    table.assert_ran(expected, "--no-cache-filter", stages, dockerfile=STAGES)
    table.assert_ran(NOTHING, dockerfile=STAGES)


def test_two_steps_of_the_same_key_are_one(table: Table) -> None:
    text = """FROM busybox AS left
COPY a/same /f
RUN head -c 9 /dev/urandom | sha256sum > /random
FROM busybox AS right
COPY b/same /f
RUN head -c 9 /dev/urandom | sha256sum > /random
FROM busybox
COPY --from=left /random /left
COPY --from=right /random /right
RUN cmp /left /right
"""
    ran = table.ran(dockerfile=text)
    assert sum(step.startswith("RUN head") for step in ran) == 1
    assert "RUN cmp /left /right" in ran
