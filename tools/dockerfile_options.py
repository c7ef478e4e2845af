"""What random Dockerfiles are built with: options of BuildKit's frontend, and the base images that are named.

`option_sets()` gives options by BuildKit's names (`build-arg:A`, `platform`, `no-cache` …),
`build_options()` the same as fields of `FrontendRequest`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from knarr.llb.ops import UlimitOpt
from knarr.spec.platform import Platform

PATH = "PATH=/usr/bin:/bin"
_LAYERS = {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}}


def _image(number: int, architecture: str = "amd64", variant: str = "", **config: Any) -> dict[str, Any]:
    about = {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
    history = [{"created": "2024-01-01T00:00:00Z", "created_by": "base"}]
    return {"digest": f"sha256:{number:064x}", "config": {**about, "config": config, **_LAYERS, "history": history}}


IMAGES: dict[str, Any] = {
    "rich": _image(
        1,
        Env=[PATH, "A=base", "EMPTY=", "C=x y"],
        Entrypoint=["/entry"],
        Cmd=["cmd", "arg"],
        WorkingDir="/base/dir",
        User="app:app",
        Labels={"l": "base"},
        ExposedPorts={"80/tcp": {}},
        Volumes={"/vol": {}},
        StopSignal="SIGINT",
        Shell=["/bin/bash", "-c"],
        Healthcheck={"Test": ["CMD", "x"], "Interval": 1000000000},
    ),
    "bare": _image(2),
    "arm": _image(3, "arm64", "v8", Env=[PATH]),
    "triggers": _image(4, Env=[PATH], OnBuild=["RUN echo $A", "COPY --from=0 /a /b", "ENV T=1", "COPY . /ctx"]),
    "mounting": _image(5, Env=[PATH], OnBuild=["RUN --mount=from=rich,target=/m echo", "ARG Q=1", "WORKDIR w"]),
    "both": {"linux/amd64": _image(6, Env=[PATH]), "linux/arm64": _image(7, "arm64", Env=[PATH, "A=arm"])},
}

_option_values: dict[str, st.SearchStrategy[str]] = {
    "build-arg:A": st.sampled_from(["", "v", "x y", "$B"]),
    "build-arg:BASE": st.sampled_from(["rich", "base", "", "rich"]),
    "build-arg:HTTP_PROXY": st.just("http://proxy:1"),
    "build-arg:http_proxy": st.just("http://proxy:2"),
    "build-arg:TARGETARCH": st.just("odd"),
    "build-arg:BUILDKIT_CACHE_MOUNT_NS": st.just("ns"),
    "build-arg:BUILDKIT_SANDBOX_HOSTNAME": st.just("box"),
    "build-arg:BUILDKIT_MULTI_PLATFORM": st.sampled_from(["1", "0", "true"]),
    "build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR": st.just("1"),
    "build-arg:BUILDKIT_DOCKERFILE_CHECK": st.sampled_from(["skip=all", "error=true", "skip=x;experimental=all"]),
    "build-arg:SOURCE_DATE_EPOCH": st.sampled_from(["0", "1700000000"]),
    "label:x": st.sampled_from(["", "1", 'a "b"']),
    "platform": st.sampled_from(
        [
            "linux/arm64",
            "linux/amd64",
            "linux/amd64,linux/arm64",
            "linux/arm/v7",
            "linux/amd64,linux/arm64,linux/arm/v6",
        ]
    ),
    "target": st.sampled_from(["base", "build"]),
    "no-cache": st.sampled_from(["", "base", "build,final"]),
    "hostname": st.just("host"),
    "add-hosts": st.sampled_from(["a=1.2.3.4", "a=1.2.3.4,b=::1"]),
    "ulimit": st.sampled_from(["nofile=10:20", "nofile=5,core=0:0"]),
    "shm-size": st.just("1048576"),
    "cgroup-parent": st.just("/x"),
    "force-network-mode": st.sampled_from(["host", "none"]),
    "image-resolve-mode": st.sampled_from(["pull", "local", "default"]),
    "context:ctx": st.sampled_from(
        ["local:ctx", "docker-image://alpine:3", "https://github.com/a/b.git#main:c", "https://a.b/c.tar"]
    ),
    "context:base": st.sampled_from(["local:base", "docker-image://rich", "docker-image://triggers"]),
    "context:busybox": st.sampled_from(["docker-image://both", "local:bb"]),
    "context:rich::linux/arm64": st.just("docker-image://arm"),
}


@st.composite
def option_sets(draw: st.DrawFn) -> dict[str, str]:
    """Options of a build, none to five."""
    chosen = draw(st.lists(st.sampled_from(sorted(_option_values)), max_size=5, unique=True))
    return {name: draw(_option_values[name]) for name in chosen}


def build_options() -> st.SearchStrategy[dict[str, Any]]:
    """`option_sets` as fields of `FrontendRequest`."""
    return option_sets().map(request_fields)


def request_fields(options: Mapping[str, str]) -> dict[str, Any]:
    """Options of BuildKit's frontend as the fields of `FrontendRequest` that mean the same."""
    fields: dict[str, Any] = {}
    for name, given in (("build-arg:", "build_args"), ("label:", "labels"), ("context:", "contexts")):
        fields[given] = {key.removeprefix(name): value for key, value in options.items() if key.startswith(name)}
    for key, read in _READERS.items():
        if key in options:
            fields.update(read(options[key]))
    return fields


def _ulimit(text: str) -> UlimitOpt:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    return UlimitOpt(name, int(soft), int(hard or soft))


_READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "platform": lambda text: {"platforms": tuple(map(Platform.parse, text.split(",")))},
    "target": lambda text: {"target": text},
    "no-cache": lambda text: {"no_cache_filter": tuple(text.split(","))} if text else {"no_cache": True},
    "hostname": lambda text: {"hostname": text},
    "add-hosts": lambda text: {"extra_hosts": tuple(tuple(host.split("=")) for host in text.split(","))},
    "ulimit": lambda text: {"ulimits": tuple(map(_ulimit, text.split(",")))},
    "shm-size": lambda text: {"shm_size_bytes": int(text)},
    "cgroup-parent": lambda text: {"cgroup_parent": text},
    "force-network-mode": lambda text: {"network": text},
    "image-resolve-mode": lambda text: {"resolve_mode": text},
}
