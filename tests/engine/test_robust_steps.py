"""Steps that try to get out, and a machine that takes away what they stand on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.aftermath import assert_nothing_left, running
from tests.engine.conftest import Knarr, open_archive

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture(params=["crun", "runc"])
def each(knarr: Knarr, request: pytest.FixtureRequest) -> Knarr:
    """The command with each runtime."""
    knarr.env["KNARR_OCI_RUNTIME"] = request.param
    return knarr


def test_a_mount_that_vanishes_under_a_step_takes_nothing_with_it(each: Knarr) -> None:
    text = "FROM busybox\nRUN echo a > /a && echo up && sleep 1.37 && echo b > /b\nRUN cat /a /b > /c\n"
    result = each.work / "out.tar"
    with running(each, *each.command(text, "-o", f"type=oci,dest={result}")) as build:
        build.wait_for(" up\n")
        table = Path(f"/proc/{build.process.pid}/mountinfo")
        places = [line.split()[4] for line in table.read_text().splitlines() if str(each.root) in line.split()[4]]
        space = f"--mount=/proc/{build.process.pid}/ns/mnt"
        for place in places:
            subprocess.run(["nsenter", space, "umount", "--lazy", place], check=True)
        assert places
        assert build.wait() == 0, build.output()
    assert open_archive(result)[0].contents["c"] == b"a\nb\n"
    assert_nothing_left(each)


ATTEMPTS = {
    "a disk": "mknod /disk b 8 0 && cat /disk > /dev/null",
    "the machine's memory": "mknod /mem c 1 1 && cat /mem > /dev/null",
    "the kernel's log": "cat /dev/kmsg",
    "a setting of the kernel": "echo '|/bin/true' > /proc/sys/kernel/core_pattern",
    "a restart": "echo b > /proc/sysrq-trigger",
    "the kernel's memory": "cat /proc/kcore > /dev/null && test -s /proc/kcore",
    "a mount": "mount -t tmpfs none /mnt",
    "proc without its covers": "mkdir -p /p && mount -t proc none /p",
    "the control groups": "mkdir -p /g && mount -t cgroup none /g",
    "another namespace": "unshare -U true",
    "the root above": "ls /proc/1/root/../../../../work",
    "a descriptor that was left open": "ls /proc/self/fd | grep -vE '^[0-3]$'",
    "a group of its own making": "d=/sys/fs/cgroup; test -e $d/cgroup.procs || d=$d/memory; mkdir $d/evil",
    "a module": "insmod /none.ko || init_module",
}


def test_no_way_out_of_a_step_is_open(each: Knarr) -> None:
    shell = "".join(
        f'if ({text}) >/dev/null 2>&1; then echo "{name}" >> /reached; fi; ' for name, text in ATTEMPTS.items()
    )
    image = each.build(f"FROM busybox\nRUN touch /reached; {shell} true\n")
    assert image.contents["reached"] == b""


def test_links_at_the_places_of_mounts_lead_nowhere_outside(each: Knarr) -> None:
    outside = each.work / "outside"
    outside.mkdir()
    links = f"ln -s {outside} /one && ln -s ../../../../../../../..{outside} /two && ln -s /proc/1/root{outside} /three"
    text = f"FROM busybox\nRUN {links}\n"
    for name in ("one", "two", "three"):
        for mount in (f"type=cache,id={name}", "type=tmpfs"):
            text += f"RUN --mount={mount},target=/{name}/in touch /{name}/in/evil || true\n"
        text += f"WORKDIR /{name}/work\nRUN touch made || true\n"
    done = each.run(*each.command(text), check=False)
    assert "Traceback" not in done.stderr
    assert list(outside.iterdir()) == []
    assert_nothing_left(each)


def test_a_race_for_the_place_of_a_mount_is_not_won(each: Knarr) -> None:
    """One step swaps a directory of a shared cache for a link, again and again, while others mount there."""
    outside = each.work / "outside"
    outside.mkdir()
    cache = "--mount=type=cache,id=race,target=/c"
    swap = (
        f"i=0; while [ $i -lt 3000 ]; do rm -rf /c/x; mkdir /c/x; rm -rf /c/x; ln -s {outside} /c/x; i=$((i+1)); done"
    )
    stages = "".join(
        f"FROM busybox AS s{n}\nRUN {cache} --mount=type=tmpfs,target=/c/x echo {n} > /c/x/evil || true\n"
        for n in range(8)
    )
    text = (
        f"FROM busybox AS swapper\nRUN {cache} {swap}; touch /done\n{stages}FROM busybox\nCOPY --from=swapper /done /\n"
    )
    text += "".join(f"COPY --from=s{n} /etc/hostname /h{n}\n" for n in range(8))
    done = each.run(*each.command(text), check=False)
    assert "Traceback" not in done.stderr
    assert list(outside.iterdir()) == []
    assert_nothing_left(each)
