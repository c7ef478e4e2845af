"""ELF programs of other architectures as binfmt_misc knows them: magic, mask, registration.

Spec: ELF header, System V ABI; Documentation/admin-guide/binfmt-misc.rst of Linux.
"""

from __future__ import annotations

from typing import Literal

from knarr.record import record

_PT_INTERP = 3


@record
class Format:
    """How an ELF file of an architecture begins."""

    qemu: str  # the architecture in qemu's words: qemu-<…>-static
    machine: int  # e_machine
    bits: int = 64
    big_endian: bool = False

    @property
    def magic(self) -> bytes:
        """The first 20 bytes: up to e_machine, of an executable with the System V ABI."""
        ident = b"\x7fELF" + bytes((self.bits // 32, 2 if self.big_endian else 1, 1)) + bytes(9)
        order: Literal["big", "little"] = "big" if self.big_endian else "little"
        return ident + (2).to_bytes(2, order) + self.machine.to_bytes(2, order)

    @property
    def mask(self) -> bytes:
        """Which bits count: not the ABI's number, and e_type 3 (position-independent) is as good as 2."""
        kind = b"\xff\xfe" if self.big_endian else b"\xfe\xff"
        return b"\xff" * 7 + b"\x00" + b"\xff" * 8 + kind + b"\xff\xff"


# By Go's names of architectures.
FORMATS = {
    "386": Format("i386", 0x03, bits=32),
    "amd64": Format("x86_64", 0x3E),
    "arm": Format("arm", 0x28, bits=32),
    "arm64": Format("aarch64", 0xB7),
    "loong64": Format("loongarch64", 0x102),
    "mips64": Format("mips64", 0x08, big_endian=True),
    "mips64le": Format("mips64el", 0x08),
    "ppc64le": Format("ppc64le", 0x15),
    "riscv64": Format("riscv64", 0xF3),
    "s390x": Format("s390x", 0x16, big_endian=True),
}


def registration(name: str, wanted: Format, interpreter: str, flags: str) -> bytes:
    """The line to write to binfmt_misc's `register`."""
    magic, mask = (_escaped(data) for data in (wanted.magic, wanted.mask))
    return f":{name}:M:0:{magic}:{mask}:{interpreter}:{flags}".encode()


def handles(entry: str, wanted: Format) -> bool:
    """Whether the text of an entry of binfmt_misc is an enabled handler for the format that works in any root."""
    lines = entry.splitlines()
    if not lines or lines[0] != "enabled":
        return False
    facts = dict(line.split(" ", 1) for line in lines[1:] if " " in line)
    try:
        offset = int(facts.get("offset", "-1"))
        magic = bytes.fromhex(facts.get("magic", ""))
        mask = bytes.fromhex(facts["mask"]) if "mask" in facts else b"\xff" * len(magic)
    except ValueError:
        return False
    if offset or len(magic) != len(wanted.magic) or "F" not in facts.get("flags:", ""):
        return False
    return all((ours ^ theirs) & bits == 0 for ours, theirs, bits in zip(wanted.magic, magic, mask, strict=True))


def is_static(path: str) -> bool:
    """Whether an ELF program needs no loader of the root it runs on."""
    with open(path, "rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:4] != b"\x7fELF":
            return False
        wide = header[4] == 2
        order: Literal["big", "little"] = "big" if header[5] == 2 else "little"

        def number(at: int, size: int) -> int:
            return int.from_bytes(header[at : at + size], order)

        start = number(32, 8) if wide else number(28, 4)
        size, many = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
        file.seek(start)
        table = file.read(size * many)
    kinds = (int.from_bytes(table[at : at + 4], order) for at in range(0, len(table), size or 1))
    return _PT_INTERP not in kinds


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)
