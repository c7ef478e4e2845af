"""Ten Dockerfiles with what is hard to represent without rights; and the contexts they want.

Each is built for its digest with SOURCE_DATE_EPOCH and rewritten times, so whatever an
image holds, equal digests say that it is the same.
"""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

EPOCH = "1700000000"
_BOTH = "linux/amd64,linux/arm64"
_APP = "echo app:x:1000:1000::/srv:/bin/sh >> /etc/passwd && echo app:x:1000: >> /etc/group"

DOCKERFILES: dict[str, str] = {
    "packages": """\
        FROM debian
        COPY debs /debs
        RUN dpkg -i /debs/*.deb && rm -rf /debs /var/log/dpkg.log /var/log/alternatives.log \
            /var/cache/ldconfig/aux-cache /var/lib/dpkg/*-old /var/cache/debconf/*-old
        """,
    "owners": f"""\
        FROM busybox
        RUN {_APP} && mkdir /srv && chown app:app /srv
        COPY --chown=app:app files /srv/files
        COPY --chown=12:34 --chmod=640 files/one /srv/one
        WORKDIR /srv/deep/er
        USER app
        RUN id -u > /srv/uid && touch /srv/mine && mkdir /srv/own
        WORKDIR /srv/own/home
        USER 4321:8765
        RUN id -g > /tmp/gid
        """,
    "users": f"""\
        FROM busybox
        RUN {_APP} && mkdir /srv && chown app:app /srv && chown 0:34 /etc/hostname
        COPY --chown=app:app files/one /srv/one
        USER app
        RUN id -u > /srv/uid && touch /srv/mine && mkdir -p /srv/own/er && stat -c %u:%g /srv/one / > /srv/stat
        USER root
        RUN stat -c %u:%g /srv/mine /srv/one /etc/hostname > /stat
        RUN cp -p /srv/mine /copy && sed -i s/one/two/ /srv/one
        """,
    "hardlinks": """\
        FROM busybox AS made
        RUN mkdir /d && echo x > /d/a && ln /d/a /d/b && ln /d/a /c && ln -s a /d/s && ln /etc/passwd /etc/passwd.link
        FROM busybox
        COPY --from=made /d /d
        RUN ln /d/s /d/t && echo new > /d/new && ln /d/new /d/z && rm /d/b
        """,
    "symlinks": """\
        FROM busybox
        RUN ln -s /nowhere /dangling && ln -s loop /loop && ln -s ../../../etc /etc/up
        RUN mkdir /real && ln -s real /link
        COPY files /link/
        RUN mkdir /was && rm -r /was && ln -s /real /was && touch /was/through && ln -sfn /etc /link
        ADD tricky.tar /
        """,
    "sparse": """\
        FROM busybox
        RUN truncate -s 40M /hole && dd if=/dev/zero of=/end bs=1 count=1 seek=8388607
        RUN echo x | dd of=/mid bs=1 seek=1M
        RUN echo y >> /hole
        """,
    "devices": """\
        FROM busybox AS base
        ADD devices.tar /
        RUN ls -l /nodes && mkfifo /pipe && mknod /second p && chmod 600 /pipe
        FROM busybox
        COPY --from=base /nodes /nodes
        COPY --from=base /pipe /nodes/pipe
        RUN mv /nodes/null /nodes/moved && touch /touched
        """,
    "setuid": f"""\
        FROM busybox
        RUN {_APP} && cp /bin/busybox /su && chmod 4755 /su && cp /bin/busybox /sg && chown 0:app /sg && chmod 2755 /sg
        RUN mkdir -m 1777 /sticky && mkdir -m 2775 /shared && chown app:app /shared && mkdir -m 0 /closed \
            && touch /none && chmod 0 /none && mkdir -m 555 /noentry
        COPY --chmod=4711 files/one /one
        """,
    "xattrs": """\
        FROM busybox AS made
        ADD capable.tar /
        RUN touch /after
        FROM busybox
        COPY --from=made /capable /usr/bin/capable
        RUN mv /usr/bin/capable /usr/bin/moved
        """,
    "mounts": """\
        FROM busybox AS other
        RUN mkdir /o && echo other > /o/file
        FROM busybox
        RUN --mount=type=cache,target=/cache,id=profiles echo kept > /cache/kept && ls /cache > /one
        RUN --mount=type=cache,target=/cache,id=profiles cat /cache/kept > /two
        RUN --mount=type=bind,source=files,target=/ctx --mount=type=bind,from=other,source=/o,target=/deep/o \
            cp /ctx/one /deep/o/file /
        RUN --mount=type=tmpfs,target=/scratch echo gone > /scratch/x && ls -d /scratch > /three
        RUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /four
        """,
    "platforms": """\
        FROM busybox
        ARG TARGETARCH
        RUN uname -m > /machine && mkdir -p /opt/$TARGETARCH && chmod 750 /opt/$TARGETARCH
        COPY --chmod=755 files /opt/files
        RUN sh -c 'echo child of a child; /bin/busybox sha256sum /opt/files/one > /sum'
        """,
}


def platforms(name: str) -> str:
    """What the Dockerfile is built for."""
    return _BOTH if name == "platforms" else "linux/amd64"


def write(place: Path, debs: Path | None = None) -> None:
    """One context for all, with a Dockerfile for each below `place`."""
    context = place / "context"
    (context / "files/below").mkdir(parents=True)
    (context / "files/one").write_text("one\n")
    (context / "files/below/two").write_text("two\n")
    (context / "files/below/link").symlink_to("../one")
    _devices(context / "devices.tar")
    _capable(context / "capable.tar")
    _tricky(context / "tricky.tar")
    (context / "debs").mkdir()
    for deb in sorted(debs.glob("*.deb")) if debs is not None else ():
        (context / "debs" / deb.name).write_bytes(deb.read_bytes())
    for name, text in DOCKERFILES.items():
        lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
        (place / f"{name}.Dockerfile").write_text("\n".join(lines) + "\n")


def _entry(name: str, kind: bytes, mode: int, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def _devices(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.addfile(_entry("nodes", tarfile.DIRTYPE, 0o755))
        tar.addfile(_entry("nodes/null", tarfile.CHRTYPE, 0o666, devmajor=1, devminor=3))
        tar.addfile(_entry("nodes/disk", tarfile.BLKTYPE, 0o660, devmajor=8, devminor=17))
        tar.addfile(_entry("nodes/fifo", tarfile.FIFOTYPE, 0o622))
        tar.addfile(_entry("nodes/same", tarfile.LNKTYPE, 0o666, linkname="nodes/null"))


def _capable(path: Path) -> None:
    """A file with CAP_NET_RAW, as ping has it: version 2 of the attribute."""
    value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = _entry("capable", tarfile.REGTYPE, 0o755, size=5)
        info.pax_headers = {"SCHILY.xattr.security.capability": value.decode("latin-1")}
        tar.addfile(info, io.BytesIO(b"hello"))


def _tricky(path: Path) -> None:
    """A symlink that leads out of the root, and a file that goes through it: it must stay inside."""
    with tarfile.open(path, "w") as tar:
        tar.addfile(_entry("out", tarfile.SYMTYPE, 0o777, linkname="/real"))
        tar.addfile(_entry("out/inside", tarfile.REGTYPE, 0o644, size=1), io.BytesIO(b"x"))
