from __future__ import annotations

from pathlib import Path

import pytest

from knarr.runtime.binaryformat import FORMATS, handles, is_static, registration

# As /proc/sys/fs/binfmt_misc/qemu-aarch64 looks where Debian's qemu-user-static registered it.
ENTRY = """enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


def test_magic_and_mask_are_those_of_the_field() -> None:
    arm64 = FORMATS["arm64"]
    assert arm64.magic.hex() == "7f454c460201010000000000000000000200b700"
    assert arm64.mask.hex() == "ffffffffffffff00fffffffffffffffffeffffff"
    assert FORMATS["s390x"].magic.hex() == "7f454c4602020100000000000000000000020016"
    assert FORMATS["s390x"].mask.hex() == "ffffffffffffff00fffffffffffffffffffeffff"


def test_the_line_for_the_kernel() -> None:
    line = registration("q", FORMATS["arm"], "/usr/bin/qemu-arm-static", "POCF")
    assert line.startswith(b":q:M:0:\\x7f\\x45\\x4c\\x46\\x01\\x01\\x01\\x00")
    assert line.endswith(b":/usr/bin/qemu-arm-static:POCF")
    assert len(line) < 1920  # the kernel's limit


def test_a_handler_of_the_host_is_known() -> None:
    assert handles(ENTRY, FORMATS["arm64"])
    assert not handles(ENTRY, FORMATS["riscv64"])
    assert not handles(ENTRY.replace("enabled", "disabled"), FORMATS["arm64"])
    assert not handles(ENTRY.replace("POCF", "OC"), FORMATS["arm64"])  # would look for qemu in the image
    assert not handles("enabled\nextension .jar\n", FORMATS["arm64"])
    assert not handles("", FORMATS["arm64"])


@pytest.mark.system
def test_static_programs_are_told_from_others(tmp_path: Path) -> None:
    assert is_static("/usr/bin/qemu-aarch64-static")
    assert is_static("/bin/busybox")
    assert not is_static("/bin/bash")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert not is_static(str(tmp_path / "script"))
