"""What a build gets only when its caller allows it, and devices by real CDI specifications."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

NULL = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/null",
    "annotations": {"org.mobyproject.buildkit.device.class": "nothing"},
    "containerEdits": {"env": ["SHARED=1"], "additionalGids": [4242]},
    "devices": [
        {
            "name": "zero",
            "containerEdits": {
                "env": ["ZERO=yes"],
                "deviceNodes": [{"path": "/dev/knarr-zero", "hostPath": "/dev/zero"}],
            },
        },
        {"name": "null", "containerEdits": {"deviceNodes": [{"path": "/dev/knarr-null", "hostPath": "/dev/null"}]}},
    ],
}
FREE = """\
cdiVersion: "0.6.0"
kind: example.com/free
devices:
- name: a
  annotations:
    org.mobyproject.buildkit.device.autoallow: "true"
  containerEdits:
    env:
    - FREE=yes
    mounts:
    - hostPath: {shared}
      containerPath: /shared/by/device
      options: [ro, bind]
    hooks:
    - hookName: createRuntime
      path: /bin/sh
      args: [sh, -c, 'cat > /dev/null; echo hooked > {hooked}']  # the runtime gives it the state to read
"""


@pytest.fixture
def cdi(knarr: Knarr, tmp_path: Path) -> Path:
    """Two specifications, and a broken one."""
    place = tmp_path / "cdi"
    place.mkdir()
    (place / "null.json").write_text(json.dumps(NULL))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("from the host\n")
    (place / "free.yaml").write_text(FREE.format(shared=tmp_path / "shared", hooked=tmp_path / "hooked"))
    knarr.env["KNARR_CDI_DIR"] = f"{tmp_path / 'nowhere'}:{place}"
    return place


def failure(knarr: Knarr, text: str, *options: str) -> str:
    done = knarr.run(*knarr.command(text, *options), check=False)
    assert done.returncode == 1
    assert "Dockerfile.test:2" in done.stderr
    return str(done.stderr)


@pytest.mark.parametrize(
    ("flag", "entitlement"), [("--security=insecure", "security.insecure"), ("--network=host", "network.host")]
)
def test_a_step_takes_nothing_that_is_not_allowed(knarr: Knarr, flag: str, entitlement: str) -> None:
    told = failure(knarr, f"FROM busybox\nRUN {flag} true\n")
    assert f"error: entitlement {entitlement} is not allowed" in told
    assert f"hint: if you trust this build with it: --allow {entitlement}" in told
    knarr.run(*knarr.command(f"FROM busybox\nRUN {flag} true\n", f"--allow={entitlement}"))


def test_the_host_s_network_for_all_steps_allows_itself(knarr: Knarr) -> None:
    knarr.run(*knarr.command("FROM busybox\nRUN --network=host true\nRUN true\n", "--network=host"))


def test_an_insecure_step_has_all_rights(knarr: Knarr) -> None:
    text = (
        "FROM busybox\nRUN grep -E '^(CapEff|Seccomp)' /proc/self/status > /sandbox\n"
        "RUN --security=insecure grep -E '^(CapEff|Seccomp):' /proc/self/status > /insecure\n"
        "RUN --security=insecure mkdir /m && mount -t tmpfs none /m && umount /m\n"
    )
    image = knarr.build(text, "--allow=security.insecure")
    bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert image.contents["insecure"].decode().splitlines() == ["CapEff:\t" + bounding.split()[1], "Seccomp:\t0"]
    assert "CapEff:\t00000000a80425fb" in image.contents["sandbox"].decode()
    assert "Seccomp:\t2" in image.contents["sandbox"].decode()


def test_a_device_adds_what_its_specification_says(knarr: Knarr, cdi: Path) -> None:
    text = (
        "FROM busybox\nRUN --device=example.com/null=zero echo $SHARED $ZERO > /out;"
        " head -c 3 /dev/knarr-zero | od -An -tx1 >> /out; stat -c %t,%T /dev/knarr-zero >> /out; id -G >> /out;"
        " test ! -e /dev/knarr-null\n"
    )
    image = knarr.build(text, "--allow=device=example.com/null=zero")
    values, zeros, numbers, groups = image.contents["out"].decode().splitlines()
    assert (values, zeros.strip(), numbers) == ("1 yes", "00 00 00", "1,5")
    assert "4242" in groups.split()
    assert not any("knarr" in path for path in image.files)


@pytest.mark.parametrize(
    ("asked", "allow", "expected"),
    [
        ("example.com/null", "example.com/null", "knarr-null"),  # the first of its class
        ("example.com/null=*", "example.com/null=*", "knarr-null knarr-zero"),
        ("nothing", "example.com/null=*", "knarr-null knarr-zero"),  # the class of the annotation
        ("gpu", "example.com/null=zero,alias=gpu", "knarr-zero"),
        ("example.com/null=zero,required", "", "knarr-zero"),  # --allow device: all
    ],
)
def test_which_devices_are_meant(knarr: Knarr, cdi: Path, asked: str, allow: str, expected: str) -> None:
    option = f"--allow=device={allow}" if allow else "--allow=device"
    image = knarr.build(f"FROM busybox\nRUN --device={asked} cd /dev && echo $(ls -d knarr-*) > /out\n", option)
    assert image.contents["out"].decode().strip() == expected


def test_mounts_and_hooks_of_a_device_that_is_for_all(knarr: Knarr, cdi: Path, tmp_path: Path) -> None:
    image = knarr.build(
        "FROM busybox\nRUN --device=example.com/free=a cat /shared/by/device/file > /out; echo $FREE >> /out\n"
    )
    assert image.contents["out"] == b"from the host\nyes\n"
    assert (tmp_path / "hooked").read_text() == "hooked\n"
    assert "shared" not in image.files


def test_a_device_that_is_not_allowed(knarr: Knarr, cdi: Path) -> None:
    told = failure(knarr, "FROM busybox\nRUN --device=example.com/null=zero true\n", "--allow=device=example.com/free")
    assert "error: device example.com/null=zero is requested by the build but not allowed" in told
    assert "--allow device=example.com/null=zero" in told


def test_a_device_that_is_not_there(knarr: Knarr, cdi: Path) -> None:
    done = knarr.run(*knarr.command("FROM busybox\nRUN --device=example.com/none echo ran\n"))
    assert "device example.com/none is not registered on this machine: the step runs without it" in done.stderr
    told = failure(knarr, "FROM busybox\nRUN --device=example.com/none,required true\n")
    assert "error: required device example.com/none is not registered" in told
    assert "hint: CDI devices of this machine: example.com/free=a, example.com/null=null" in told
    (cdi / "broken.json").write_text('{"kind": "nothing"}')
    assert f"not read: {cdi}/broken.json: 'nothing' is no" in failure(
        knarr, "FROM busybox\nRUN --device=example.com/none,required true\n"
    )
