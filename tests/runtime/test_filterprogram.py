from __future__ import annotations

import base64
import errno
import os
import struct
from pathlib import Path

import pytest

from knarr.runtime import capabilities, filterprogram
from knarr.spec.platform import host_platform

AUDIT_ARCH = {"amd64": 0xC000003E, "arm64": 0xC00000B7}
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
DEFAULT = frozenset(capabilities.DEFAULT)


def judge(program: bytes, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would answer: a small interpreter of classic BPF over struct seccomp_data."""
    arch = AUDIT_ARCH[host_platform().architecture]
    data = struct.pack("<iIQ6Q", number, arch, 0, *(*arguments, *(0,) * (6 - len(arguments))))
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x05:  # jump
            at += value
        elif operation == 0x54:  # and
            accumulator &= value
        elif operation == 0x06:  # return
            return value
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[operation]
            at += yes if holds else no


@pytest.fixture
def program(tmp_path: Path) -> bytes:
    filterprogram.compiled.cache_clear()
    return base64.b64decode(filterprogram.compiled(host_platform().architecture, DEFAULT, tmp_path))


@pytest.mark.system
@pytest.mark.skipif(host_platform().architecture != "amd64", reason="system call numbers are amd64's")
def test_the_program_judges_as_the_policy_says(program: bytes) -> None:
    read, clone, personality, unshare, mount, socket, clone3 = 0, 56, 135, 272, 165, 41, 435
    assert judge(program, read) == ALLOW
    assert judge(program, mount) == ERRNO | errno.EPERM
    assert judge(program, unshare) == ERRNO | errno.EPERM
    assert judge(program, clone, (0x01200011,)) == ALLOW  # a fork
    assert judge(program, clone, (0x10000000,)) == ERRNO | errno.EPERM  # a user namespace
    assert judge(program, clone3) == ERRNO | errno.ENOSYS
    assert judge(program, personality, (0,)) == ALLOW
    assert judge(program, personality, (0x40000,)) == ERRNO | errno.EPERM
    assert [judge(program, socket, (family,)) for family in (2, 38, 39, 40, 41)] == [
        *(ALLOW, ERRNO | errno.EPERM, ALLOW, ERRNO | errno.EPERM, ALLOW)
    ]


@pytest.mark.system
def test_it_is_compiled_once(program: bytes, tmp_path: Path) -> None:
    (file,) = tmp_path.iterdir()
    os.utime(file, ns=(5, 5))
    filterprogram.compiled.cache_clear()
    assert base64.b64decode(filterprogram.compiled(host_platform().architecture, DEFAULT, tmp_path)) == program
    assert file.stat().st_mtime_ns == 5


@pytest.mark.system
def test_other_capabilities_are_another_program(program: bytes, tmp_path: Path) -> None:
    other = filterprogram.compiled(host_platform().architecture, DEFAULT | {"CAP_SYS_ADMIN"}, tmp_path)
    assert base64.b64decode(other) != program
    assert len(list(tmp_path.iterdir())) == 2
