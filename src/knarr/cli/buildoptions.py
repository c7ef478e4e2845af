"""What a command line of `knarr build` asks for, as one record: argv, environment and directory in, `BuildOptions` out.

Nothing is read or opened here except that named directories are looked for, so a
test gives words and reads a record; `buildinputs` then reads the Dockerfile and
`build` acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.builder import CacheEntry, Export
from knarr.cli import buildlent as lent
from knarr.cli import buildvalues as values
from knarr.cli.buildattest import attests, metadata_mode
from knarr.cli.buildcall import Call, read_call
from knarr.cli.builderchoice import BuilderTls, chosen, read_tls
from knarr.cli.buildflags import FLAGS
from knarr.cli.buildoutputs import LOCAL_DELETE, containerd_of, exports
from knarr.cli.flags import Parsed, parse
from knarr.errors import UsageError
from knarr.llb.ops import LinuxResources, ResolveMode, UlimitOpt
from knarr.record import field, record
from knarr.session.local import SecretSource, SshSource
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.cli.buildlayouts import LayoutContext
    from knarr.llb.sourcepolicy import SourcePolicy

PROGRESS = ("auto", "plain", "tty", "rawjson", "quiet", "none")
_PULLS: dict[str, ResolveMode] = {
    **dict.fromkeys(("", "0", "f", "F", "false", "FALSE", "False"), "default"),
    **dict.fromkeys(("always", "1", "t", "T", "true", "TRUE", "True"), "pull"),
    "missing": "local",
    "never": "never",
}
_NETWORKS = ("default", "none", "host")


@record
class BuildOptions:
    """One `knarr build`. `context` and `file` are as given; "-" is standard input, `file` "" the default."""

    context: str
    file: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    platforms: tuple[Platform, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    contexts: Mapping[str, str] = field(default_factory=dict, hash=False)
    directories: Mapping[str, Path] = field(default_factory=dict, hash=False)
    layouts: Mapping[str, LayoutContext] = field(default_factory=dict, hash=False)
    secrets: Mapping[str, SecretSource] = field(default_factory=dict, hash=False)
    allow: tuple[str, ...] = ()  # entitlements
    ssh: Mapping[str, SshSource] = field(default_factory=dict, hash=False)
    exports: tuple[Export, ...] = ()
    cache_from: tuple[CacheEntry, ...] = ()
    cache_to: tuple[CacheEntry, ...] = ()
    attest: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)  # kind → options: attest/wanted
    tell_provenance: str = ""  # into the metadata file: min, max; "": not at all
    progress: str = "auto"
    iidfile: str = ""
    metadata_file: str = ""
    pull: ResolveMode = "default"
    source_policies: tuple[SourcePolicy, ...] = ()
    oci_runtime: str = ""  # crun, runc or the path of one; empty: as the environment says
    verify: str | None = None  # the path of a trust policy, or empty for none; None: as the environment says
    containerd: str = ""  # the path of its socket
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    add_hosts: tuple[tuple[str, str], ...] = ()
    network: str = "default"
    shm_size_bytes: int = 0
    ulimits: tuple[UlimitOpt, ...] = ()
    cgroup_parent: str = ""
    resources: LinuxResources | None = None
    builder: str = ""  # a name or an address; "": this process
    tls: BuilderTls = BuilderTls()
    call: Call | None = None  # a question about the Dockerfile in place of a build
    help: bool = False

    @property
    def is_quiet(self) -> bool:
        """Whether only the image ID is printed."""
        return self.progress == "quiet"


def parse_options(argv: Sequence[str], environ: Mapping[str, str], cwd: str) -> BuildOptions:
    """Read the words behind `knarr build`.

    Raises:
        UsageError: with the flag and what it takes.
    """
    given = parse(FLAGS, argv, command="knarr build")
    if given.switch("help"):
        return BuildOptions("", help=True)
    tags = values.tags(given.list("tag"))
    told, directories, layouts = values.contexts(given.list("build-context"), cwd)
    shm_size = given.text("shm-size")
    build_args = values.build_args(given.list("build-arg"), environ)
    builder = chosen(given.text("builder"), environ)
    return BuildOptions(
        context=_context(given),
        file=_file(given),
        tags=tags,
        target=given.text("target"),
        platforms=values.platforms(given.list("platform") or _default_platforms(environ)),
        build_args=build_args,
        labels=values.pairs("--label", given.list("label")),
        contexts=told,
        directories=directories,
        layouts=layouts,
        secrets=lent.secrets(given.list("secret"), environ, cwd),
        allow=_allow(given),
        ssh=lent.ssh(given.list("ssh"), environ, cwd),
        exports=exports(given, tags, environ, cwd, elsewhere=bool(builder)),
        cache_from=_caches(given, "cache-from"),
        cache_to=_caches(given, "cache-to"),
        attest=attests(given, build_args, environ),
        tell_provenance=metadata_mode(environ) if given.text("metadata-file") else "",
        progress=_progress(given, environ),
        iidfile=given.text("iidfile"),
        metadata_file=given.text("metadata-file"),
        pull=_pull(given),
        source_policies=_source_policies(given, environ),
        oci_runtime=_runtime(given),
        verify=_verify(given),
        containerd=containerd_of(given, environ),
        no_cache=given.switch("no-cache"),
        no_cache_filter=tuple(stage for text in given.list("no-cache-filter") for stage in text.split(",") if stage),
        add_hosts=values.add_hosts(given.list("add-host")),
        network=_network(given),
        shm_size_bytes=values.size_bytes("--shm-size", shm_size) if shm_size else 0,
        ulimits=values.ulimits(given.list("ulimit")),
        cgroup_parent=given.text("cgroup-parent"),
        resources=_resources(given),
        builder=builder,
        tls=read_tls(given, builder, cwd),
        call=_call(given),
    )


def _source_policies(given: Parsed, environ: Mapping[str, str]) -> tuple[SourcePolicy, ...]:
    path = given.text("source-policy-file", environ.get("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", ""))
    if not path:
        return ()
    from knarr.llb.sourcepolicy import parse as parse_policy

    try:
        with open(path, "rb") as file:
            return (parse_policy(file.read(), path),)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _resources(given: Parsed) -> LinuxResources | None:
    flags = ("resource", "memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems")
    if not any(map(given.list, flags)):
        return None
    from knarr.cli.buildlimits import read_limits

    asked = read_limits(given)
    return None if asked == LinuxResources() else asked


def _runtime(given: Parsed) -> str:
    from knarr.config import oci_runtime

    return oci_runtime(given.text("oci-runtime"), "--oci-runtime")


def _verify(given: Parsed) -> str | None:
    from knarr.config import trust_policy

    return trust_policy(given.text("verify")) if given.list("verify") else None


def _context(given: Parsed) -> str:
    if not given.words:
        raise UsageError("no build context given", hint="`knarr build .` builds the current directory")
    if len(given.words) > 1:
        raise UsageError(
            f"one build context is needed, {len(given.words)} given: {' '.join(given.words)}",
            hint="flags that take a value take one each; quote a value that has spaces",
        )
    return given.words[0]


def _file(given: Parsed) -> str:
    file = given.text("file")
    if file == "-" and given.words[0] == "-":
        raise UsageError("standard input cannot be both the context and the Dockerfile")
    return file


def _call(given: Parsed) -> Call | None:
    if given.switch("check"):
        return Call("check")
    text = given.text("call")
    return read_call(values.csv_fields(text)) if text else None


def _default_platforms(environ: Mapping[str, str]) -> tuple[str, ...]:
    platform = environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return (platform,) if platform else ()


def _pull(given: Parsed) -> ResolveMode:
    text = given.text("pull", "false")
    if text not in _PULLS:
        raise UsageError(f"--pull={text}: not known", hint="use one of: always, missing, never")
    return _PULLS[text]


def _network(given: Parsed) -> str:
    network = given.text("network", "default") or "default"
    if network not in _NETWORKS:
        raise UsageError(f"--network {network}: not known", hint=f"use one of: {', '.join(_NETWORKS)}")
    return network


def _allow(given: Parsed) -> tuple[str, ...]:
    allow = tuple(text for text in given.list("allow") if text and text != LOCAL_DELETE)
    if allow:
        from knarr.ops import entitlements

        entitlements.parse(allow)
    # Who asks for the host's network for every step allows it.
    return (*allow, "network.host") if given.text("network") == "host" else allow


def _progress(given: Parsed, environ: Mapping[str, str]) -> str:
    mode = given.text("progress")
    if given.switch("quiet"):
        if mode not in ("", "auto", "quiet", "none"):
            raise UsageError(f"--quiet and --progress={mode} exclude each other")
        return "quiet"
    mode = mode or environ.get("KNARR_PROGRESS", "") or environ.get("BUILDKIT_PROGRESS", "") or "auto"
    if mode not in PROGRESS:
        raise UsageError(f"progress {mode!r} is not known", hint=f"use one of: {', '.join(PROGRESS)}")
    return mode


def _caches(given: Parsed, flag: str) -> tuple[CacheEntry, ...]:
    texts = [text for text in given.list(flag) if text]
    if not texts:
        return ()
    from knarr.export.cacheoptions import parse_cache

    return tuple(parse_cache(f"--{flag}", text) for text in dict.fromkeys(texts))
