"""What was once otherwise than BuildKit's result (master of 2026-08), as it must be; times of now apart.

The rows come from a comparison of 150 Dockerfiles' images, entry by entry, with those of
a real buildkitd.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py


def test_the_root_of_a_context_lends_neither_mode_nor_time(knarr: Knarr, context: Path) -> None:
    os.chmod(context, 0o700)
    os.utime(context, (1577836800, 1577836800))
    image = knarr.build("FROM busybox\nCOPY . /all\nCOPY --chmod=750 . /other/\n", context=context)
    assert image.mode("all") == (0o755, 0, 0)
    assert image.files["all"].mtime > 1700000000
    assert image.mode("other") == (0o750, 0, 0)


def test_other_directories_keep_mode_and_time(knarr: Knarr, context: Path) -> None:
    os.utime(context / "d", (1577836800, 1577836800))
    os.chmod(context / "d", 0o711)
    image = knarr.build("FROM busybox\nCOPY d /all\nCOPY . /x/\n", context=context)
    assert image.mode("x/d") == (0o711, 0, 0)
    assert image.files["all"].mtime == image.files["x/d"].mtime == 1577836800
    assert image.mode("all") == (0o755, 0, 0)  # a destination that COPY makes is plain


def test_no_attribute_of_a_context_file_reaches_the_image(knarr: Knarr, context: Path) -> None:
    os.setxattr(context / "f", "user.xdg.origin.url", b"https://intranet/f")
    image = knarr.build(
        "FROM busybox AS s\nCOPY f /f\nFROM busybox\nCOPY f /x\nCOPY --link f /y\nCOPY --from=s /f /z\n",
        context=context,
    )
    for path in "xyz":
        assert not [key for key in image.files[path].pax_headers if "xattr" in key]


def test_a_symbolic_mode_is_not_for_parents(knarr: Knarr, context: Path) -> None:
    image = knarr.build("FROM busybox\nCOPY --chmod=u=rw,go= f /p/q/f\nCOPY --chmod=go= d /t\n", context=context)
    assert [image.mode(path)[0] for path in ("p", "p/q", "p/q/f")] == [0o755, 0o755, 0o600]
    assert [image.mode(path)[0] for path in ("t", "t/a", "t/sub")] == [0o755, 0o600, 0o700]


@pytest.mark.parametrize("compression", ["zstd", "gzip,compression-level=9", "uncompressed"])
def test_forced_compression_keeps_what_the_layers_of_the_base_are(knarr: Knarr, compression: str) -> None:
    dockerfile = "FROM busybox\nRUN echo x > /x\n"
    plain = knarr.build(dockerfile)
    archive = knarr.work / "forced.tar"
    option = f"type=oci,dest={archive},compression={compression},force-compression=true"
    knarr.run(*knarr.command(dockerfile), "-o", option)
    forced = open_config(archive)
    assert forced["rootfs"] == plain.config["rootfs"]


def open_config(archive: Path) -> dict[str, Any]:
    """The image config in an OCI archive of one image."""
    import json
    import tarfile

    with tarfile.open(archive) as tar:

        def document(name: str) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(tar.extractfile(name).read())  # type: ignore[union-attr]
            return found

        manifest = document(_blob(document("index.json")["manifests"][0]))
        return document(_blob(manifest["config"]))


def _blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")


def test_a_hidden_link_that_leads_nowhere_is_no_match_of_a_wildcard(knarr: Knarr, context: Path) -> None:
    os.symlink("nowhere", context / "dangling")
    (context / ".dockerignore").write_text("dangling\n")
    image = knarr.build("FROM busybox\nCOPY d* /x/\n", context=context)
    assert "x/a" in image.files
    assert "x/dangling" not in image.files


def test_an_ignore_file_decides_going_down(knarr: Knarr, context: Path) -> None:
    for directory in ("keep", "logs"):
        (context / directory).mkdir()
        (context / directory / "x.log").write_text("x")
    (context / ".dockerignore").write_text("**/*.log\n!keep\nlogs\n!logs\n")
    image = knarr.build("FROM busybox\nCOPY keep /keep\nCOPY logs /logs\n", context=context)
    assert "keep/x.log" not in image.files  # `!keep` had nothing to decide: the directory was never left out
    assert "logs/x.log" in image.files


def test_120_layers(knarr: Knarr, context: Path) -> None:
    lines = "".join(f"COPY f /n{number}\n" for number in range(120))
    image = knarr.build(f"FROM busybox\n{lines}RUN cat /n0 /n119 > /both\n", context=context)
    assert len(image.layers) == 122
    assert image.contents["both"] == b"f\nf\n"


def test_everything_at_once(knarr: Knarr, context: Path) -> None:
    """One Dockerfile with every instruction; the names are those of BuildKit's layers, in order."""
    (knarr.work / "secret").write_text("x")
    image = knarr.build(
        EVERYTHING, "--build-arg", "VERSION=7", "--secret", f"id=s,src={knarr.work}/secret", context=context
    )
    assert [" ".join(names) for names in image.layers[1:]] == LAYERS
    assert [entry["created_by"] for entry in image.config["history"][1:]] == HISTORY
    assert image.config["config"] == CONFIG


EVERYTHING = """\
# check=skip=all
ARG VERSION=1
FROM busybox AS base
MAINTAINER Someone <s@example.com>
ARG VERSION
ENV VERSION=${VERSION} PATH=/opt/bin:$PATH
LABEL version=$VERSION
SHELL ["/bin/sh", "-ec"]
RUN mkdir -p /opt/bin && echo "$VERSION" > /opt/version && chmod 4755 /opt/version
ONBUILD COPY --chown=1:2 f /onbuild/f
ONBUILD RUN echo onbuild > /onbuild/run
FROM base AS app
USER 1000:1001
WORKDIR /srv/app
COPY --chown=1000:1001 d .
COPY --chmod=640 --exclude=sub d /srv/d/
COPY --link f /srv/linked/
ADD --chown=9:9 a.tar /srv/t/
COPY <<-EOF /srv/app/here$VERSION
	value $VERSION
EOF
USER root
RUN --mount=type=bind,source=d,target=/mnt/d --mount=type=cache,target=/var/cache/x \\
    --mount=type=tmpfs,target=/scratch --mount=type=secret,id=s \\
    cat /mnt/d/a > /srv/a && rm -rf /srv/t/member && ln -s /srv /s && ln /srv/a /srv/b
RUN <<E
mv /srv/linked /srv/moved
echo end > /srv/end
E
EXPOSE 80 53/udp
VOLUME ["/data"]
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=10s CMD true
FROM scratch AS other
COPY --from=base /opt /opt
FROM app
COPY --from=other --link /opt/version /v2
COPY --parents d/sub/b /p/
WORKDIR rel
USER daemon:staff
ENTRYPOINT ["/bin/run.sh"]
CMD ["a", "b"]
"""
LAYERS = [
    "opt opt/bin opt/version",
    "onbuild onbuild/f",
    "onbuild onbuild/run",
    "srv srv/app",
    "srv srv/app srv/app/a srv/app/sub srv/app/sub/b",
    "srv srv/d srv/d/a",
    "srv srv/linked srv/linked/f",
    "srv srv/t srv/t/member",
    "srv srv/app srv/app/here7",
    "s srv srv/a srv/b srv/t srv/t/.wh.member",
    "srv srv/end srv/.wh.linked srv/moved srv/moved/f",
    "v2",
    "p p/d p/d/sub p/d/sub/b",
    "srv srv/app srv/app/rel",
]
HISTORY = [
    "MAINTAINER Someone <s@example.com>",
    "ARG VERSION=7",
    "ENV VERSION=7 PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LABEL version=7",
    "SHELL [/bin/sh -ec]",
    'RUN |1 VERSION=7 /bin/sh -ec mkdir -p /opt/bin && echo "$VERSION" > /opt/version'
    " && chmod 4755 /opt/version # buildkit",
    "COPY --chown=1:2 f /onbuild/f # buildkit",
    "RUN |1 VERSION=7 /bin/sh -ec echo onbuild > /onbuild/run # buildkit",
    "USER 1000:1001",
    "WORKDIR /srv/app",
    "COPY --chown=1000:1001 d . # buildkit",
    "COPY --chmod=640 d /srv/d/ # buildkit",
    "COPY f /srv/linked/ # buildkit",
    "ADD --chown=9:9 a.tar /srv/t/ # buildkit",
    "COPY <<EOF /srv/app/here7 # buildkit",
    "USER root",
    "RUN |1 VERSION=7 /bin/sh -ec cat /mnt/d/a > /srv/a && rm -rf /srv/t/member && ln -s /srv /s"
    " && ln /srv/a /srv/b # buildkit",
    "RUN |1 VERSION=7 /bin/sh -ec mv /srv/linked /srv/moved\necho end > /srv/end\n # buildkit",
    "EXPOSE [53/udp 80/tcp]",
    "VOLUME [/data]",
    "STOPSIGNAL SIGUSR1",
    "HEALTHCHECK {Test:[CMD-SHELL true] Interval:10s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
    "COPY /opt/version /v2 # buildkit",
    "COPY --parents d/sub/b /p/ # buildkit",
    "WORKDIR /srv/app/rel",
    "USER daemon:staff",
    'ENTRYPOINT ["/bin/run.sh"]',
    'CMD ["a" "b"]',
]
CONFIG: dict[str, Any] = {
    "User": "daemon:staff",
    "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
    "Env": ["PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "VERSION=7"],
    "Entrypoint": ["/bin/run.sh"],
    "Cmd": ["a", "b"],
    "Volumes": {"/data": {}},
    "WorkingDir": "/srv/app/rel",
    "Labels": {"version": "7"},
    "StopSignal": "SIGUSR1",
    "ArgsEscaped": True,
    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 10000000000},
    "Shell": ["/bin/sh", "-ec"],
}
