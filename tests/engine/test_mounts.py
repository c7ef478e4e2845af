"""Every kind and option of `RUN --mount`, with what a real buildkitd (73ed682, runc) gives for the same lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

# name: (lines of a stage that write /out, what is in it then)
STEPS = {
    "bind of the context": (
        "RUN --mount=target=/x cat /x/f > /out; touch /x/new || echo read-only >> /out",
        "f read-only",
    ),
    "bind that is written": (
        "RUN --mount=target=/x,rw echo new > /x/f && cat /x/f > /out\nRUN --mount=target=/x cat /x/f >> /out",
        "new f",
    ),
    "bind of a file": (
        "RUN --mount=source=d/a,target=/deep/er/file cat /deep/er/file > /out\n"
        "RUN test ! -e /deep && echo gone >> /out",
        "a gone",
    ),
    "bind of a stage": ("RUN --mount=from=made,source=/a,target=/m cat /m/b > /out", "made"),
    "bind of a stage that is written": (
        "RUN --mount=from=made,target=/m,rw echo more >> /m/a/b && cat /m/a/b > /out\n"
        "RUN --mount=from=made,target=/m cat /m/a/b >> /out",
        "made more made",
    ),
    "bind by an image": ("RUN --mount=from=busybox,source=/bin,target=/m test -e /m/sh && echo there > /out", "there"),
    "bind relative to the directory": ("WORKDIR /w\nRUN --mount=target=rel,source=d cat /w/rel/a > /out", "a"),
    "bind by a variable": ("ARG W=d\nRUN --mount=target=/m,source=$W ls /m > /out", "a sub"),
    "bind over what is there": (
        "RUN mkdir /m && touch /m/old\nRUN --mount=target=/m,source=d ls /m > /out\nRUN ls /m >> /out",
        "a sub old",
    ),
    "mount inside a mount": (
        "RUN --mount=target=/a --mount=type=tmpfs,target=/a/d/sub ls /a/d > /out; ls -A /a/d/sub >> /out",
        "a sub",
    ),
    "tmpfs": (
        "RUN --mount=type=tmpfs,target=/t,size=3m df -k /t | tail -1 | awk '{print $2}' > /out; stat -c %a /t >> /out\n"
        "RUN test ! -e /t && echo gone >> /out",
        "3072 1777 gone",
    ),
    "tmpfs over directories": (
        "RUN mkdir -m 711 /kept && mkdir -m 2775 /w\n"
        "RUN --mount=type=tmpfs,target=/kept --mount=type=tmpfs,target=/w stat -c %a /kept /w > /out\n"
        "RUN --mount=target=/a --mount=type=tmpfs,target=/a/d/sub stat -c %a /a/d/sub >> /out",
        "711 2775 755",
    ),
    "tmpfs that is read-only": ("RUN --mount=type=tmpfs,target=/t,ro touch /t/x || echo no > /out", "no"),
    "cache": (
        "RUN --mount=type=cache,target=/c stat -c '%a %u %g' /c > /out; touch /c/x\n"
        "RUN --mount=type=cache,target=/c ls /c >> /out\nRUN test ! -e /c && echo gone >> /out",
        "755 0 0 x gone",
    ),
    "cache with an owner": (
        "RUN --mount=type=cache,id=owned,target=/c,mode=0700,uid=5,gid=6 stat -c '%a %u %g' /c > /out",
        "700 5 6",
    ),
    "cache without sticky bits": ("RUN --mount=type=cache,id=s,target=/c,mode=1777 stat -c %a /c > /out", "777"),
    "cache that begins as a stage": (
        "RUN --mount=type=cache,id=begun,from=made,source=/a,target=/m cat /m/b > /out",
        "made",
    ),
    "cache that is read-only": ("RUN --mount=type=cache,id=ro,target=/c,ro touch /c/x || echo no > /out", "no"),
    "cache at two places": (
        "RUN --mount=type=cache,id=two,target=/c --mount=type=cache,id=two,target=/e touch /c/x; ls /e > /out",
        "x",
    ),
    "caches of every sharing": (
        "RUN --mount=type=cache,id=l,target=/l,sharing=locked --mount=type=cache,id=p,target=/p,sharing=private"
        " touch /l/x /p/y; echo $(ls /l /p) > /out",
        "/l: x /p: y",
    ),
    "secret": (
        "RUN --mount=type=secret,id=s echo $(cat /run/secrets/s) > /out;"
        " stat -c '%a %u %g' /run/secrets/s /run/secrets >> /out\n"
        "RUN test ! -e /run/secrets && echo gone >> /out",
        "hush 400 0 0 755 0 0 gone",
    ),
    "secret with place, mode and owner": (
        "RUN --mount=type=secret,id=s,target=/a/b,mode=0444,uid=3,gid=4 stat -c '%a %u %g' /a/b > /out",
        "444 3 4",
    ),
    "secret as a variable": ("RUN --mount=type=secret,id=s,env=S echo $S > /out; ls /run/secrets || true", "hush"),
    "secret as both": ("RUN --mount=type=secret,id=s,env=S,target=/x cat /x > /out; echo :$S >> /out", "hush:hush"),
    "secret named by its place": ("RUN --mount=type=secret,target=/q/s cat /q/s > /out", "hush"),
    "secret relative to the directory": (
        "WORKDIR /w\nRUN --mount=type=secret,id=s,target=rel cat /w/rel > /out",
        "hush",
    ),
    "secret by source": ("RUN --mount=type=secret,source=s cat /run/secrets/s > /out", "hush"),
    "secret that is written": ("RUN --mount=type=secret,id=s echo x > /run/secrets/s || echo no > /out", "no"),
    "secret that was not given": ("RUN --mount=type=secret,id=none test ! -e /run/secrets && echo none > /out", "none"),
    "agent that was not lent": (
        "RUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /out",
        "/run/buildkit/ssh_agent.0",
    ),
    "no network": ("RUN --network=none ip -o addr | awk '{print $2,$4}' > /out", "lo 127.0.0.1/8 lo ::1/128"),
}


@pytest.fixture
def lent(tmp_path: Path) -> Path:
    (tmp_path / "hush").write_text("hush")
    context = tmp_path / "context"
    (context / "d/sub").mkdir(parents=True)
    (context / "f").write_text("f\n")
    (context / "d/a").write_text("a\n")
    return tmp_path / "hush"


def test_every_mount_is_as_with_buildkit(knarr: Knarr, lent: Path) -> None:
    text = "FROM busybox AS made\nRUN mkdir /a && echo made > /a/b\n"
    for number, (lines, _) in enumerate(STEPS.values()):
        text += f"FROM busybox AS step{number}\n{lines}\n"
    text += "FROM scratch\n" + "".join(f"COPY --from=step{n} /out /{n}\n" for n in range(len(STEPS)))
    image = knarr.build(text, f"--secret=id=s,src={lent}")
    found = {name: " ".join(image.contents[str(n)].decode().split()) for n, name in enumerate(STEPS)}
    assert found == {name: expected for name, (_, expected) in STEPS.items()}


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("source=none,target=/m", "none: not in the build context"),
        ("target=/", 'invalid mount target "/"'),
        ("type=secret,id=none,required", "secret none: not found"),
        ("type=secret,id=s,env=", "secret s: the variable it is to be has no name"),
        ("type=cache,target=/c,sharing=all", 'unsupported sharing value "all"'),
    ],
)
def test_mounts_that_cannot_be_are_told_with_a_way_out(knarr: Knarr, lent: Path, mount: str, message: str) -> None:
    text = f"FROM busybox\nRUN --mount={mount} true\n"
    done = knarr.run(*knarr.command(text, f"--secret=id=s,src={lent}"), check=False)
    assert done.returncode == 1
    assert "Dockerfile.test:2" in done.stderr
    assert f"error: {message}" in done.stderr
    assert "hint: " in done.stderr or "source=" in mount
