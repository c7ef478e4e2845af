"""`knarr build`'s command line as a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.builder import CacheEntry, Export
from knarr.cli.buildflags import FLAGS, help_text
from knarr.cli.buildoptions import BuildOptions, parse_options
from knarr.errors import UsageError
from knarr.llb.ops import UlimitOpt
from knarr.session.local import SecretSource
from knarr.spec.platform import Platform

# `docker buildx build --help` of buildx 0.36, and the hidden flags of docker's first builder.
BUILDX = """add-host allow annotation attest build-arg build-context builder cache-from cache-to call cgroup-parent
    check debug file iidfile label load metadata-file network no-cache no-cache-filter output platform policy progress
    provenance pull push quiet resource sbom secret shm-size ssh tag target ulimit help
    compress cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems force-rm isolation memory memory-swap rm
    security-opt squash"""


OWN = {
    "attest-store",
    "containerd",
    "oci-runtime",
    "source-policy-file",
    "verify",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsdir",
    "tlsservername",
}


def options(*argv: str, environ: dict[str, str] | None = None, cwd: str = "/src") -> BuildOptions:
    return parse_options([*argv, "."], environ or {}, cwd)


def refusal(*argv: str, environ: dict[str, str] | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        options(*argv, environ=environ)
    return caught.value


def test_every_flag_of_buildx_is_known() -> None:
    assert {flag.name for flag in FLAGS} - OWN == set(BUILDX.split())


def test_caches_are_each_read_once_in_order() -> None:
    given = options("--cache-from", "a:1", "--cache-from", "type=local,src=/c", "--cache-from=a:1", "--cache-to=a:2")
    assert given.cache_from == (CacheEntry("registry", {"ref": "a:1"}), CacheEntry("local", {"src": "/c"}))
    assert given.cache_to == (CacheEntry("registry", {"ref": "a:2"}),)


def test_defaults() -> None:
    attested = {"provenance": {"mode": "min", "inline-only": "true"}}
    assert options() == BuildOptions(context=".", exports=(Export("image"),), attest=attested)


def test_a_build_as_people_write_it() -> None:
    given = options("-t", "app", "-t", "reg.example:5000/app:1", "-f", "docker/Dockerfile", "--target=run", "--pull")
    assert given.tags == ("docker.io/library/app:latest", "reg.example:5000/app:1")
    assert (given.file, given.target, given.pull) == ("docker/Dockerfile", "run", "pull")
    assert given.exports == (Export("image", {"name": "docker.io/library/app:latest,reg.example:5000/app:1"}),)


def test_platforms_come_in_lists_and_only_once() -> None:
    given = options("--platform", "linux/amd64,linux/arm64/v8", "--platform", "arm64,linux/arm/v6")
    assert given.platforms == (Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v6"))


def test_the_default_platform_comes_from_dockers_variable() -> None:
    environ = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}
    assert options(environ=environ).platforms == (Platform("linux", "arm64"),)
    assert options("--platform=linux/386", environ=environ).platforms == (Platform("linux", "386"),)


def test_a_build_argument_without_value_is_taken_from_the_environment() -> None:
    given = options("--build-arg", "A=1", "--build-arg", "B", "--build-arg", "C", environ={"B": "two"})
    assert given.build_args == {"A": "1", "B": "two"}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("id=a,src=f", SecretSource(Path("/src/f"))),
        ("id=a,source=/f", SecretSource(Path("/f"))),
        ("id=a,env=TOKEN", SecretSource(variable="TOKEN")),
        ("id=a,type=env", SecretSource(variable="a")),
        ("type=env,id=a,src=TOKEN", SecretSource(variable="TOKEN")),
        ("type=file,id=a,src=f", SecretSource(Path("/src/f"))),
        ("id=a", SecretSource(Path("/src/a"))),
        ('id=a,"src=x,y"', SecretSource(Path("/src/x,y"))),
    ],
)
def test_a_secret_comes_from_a_file_or_a_variable(text: str, source: SecretSource) -> None:
    assert options("--secret", text).secrets == {"a": source}


def test_a_secret_named_like_a_variable_is_that_variable() -> None:
    assert options("--secret", "id=TOKEN", environ={"TOKEN": "x"}).secrets == {"TOKEN": SecretSource(variable="TOKEN")}


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("db:10.0.0.1", ("db", "10.0.0.1")),
        ("db=10.0.0.1", ("db", "10.0.0.1")),
        ("db:::1", ("db", "::1")),
        ("db=[::1]", ("db", "::1")),
    ],
)
def test_hosts(text: str, pair: tuple[str, str]) -> None:
    assert options("--add-host", text).add_hosts == (pair,)


def test_several_hosts_in_one_text() -> None:
    assert options("--add-host=a:1.1.1.1,b:2.2.2.2").add_hosts == (("a", "1.1.1.1"), ("b", "2.2.2.2"))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("nofile=1024", UlimitOpt("nofile", 1024, 1024)),
        ("nofile=1024:2048", UlimitOpt("nofile", 1024, 2048)),
        ("memlock=-1:-1", UlimitOpt("memlock", -1, -1)),
    ],
)
def test_limits(text: str, limit: UlimitOpt) -> None:
    assert options("--ulimit", text).ulimits == (limit,)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024", 1024), ("64m", 64 << 20), ("1g", 1 << 30), ("1.5K", 1536), ("2GiB", 2 << 30), ("3 kb", 3072)],
)
def test_sizes(text: str, size: int) -> None:
    assert options("--shm-size", text).shm_size_bytes == size


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a.b=c", "annotation.a.b"),
        ("index:a.b=c", "annotation-index.a.b"),
        ("manifest-descriptor[linux/arm64/v8]:a.b=c", "annotation-manifest-descriptor[linux/arm64].a.b"),
    ],
)
def test_annotations_become_attributes_of_the_outputs(text: str, key: str) -> None:
    assert options("--annotation", text).exports == (Export("image", {key: "c"}),)


def test_an_annotation_of_two_levels() -> None:
    attrs = options("--annotation", "index,manifest:a=b").exports[0].attrs
    assert attrs == {"annotation-index.a": "b", "annotation-manifest.a": "b"}


def test_push_makes_an_image_output_that_pushes() -> None:
    assert options("--push", "-t", "r.example/a").exports == (
        Export("image", {"push": "true", "name": "r.example/a:latest"}),
    )


@pytest.mark.parametrize("load", [(), ("--load",)])
def test_docker_that_goes_nowhere_is_load(load: tuple[str, ...]) -> None:
    found = options("-o", "type=docker,compression=zstd", *load, "-t", "app").exports
    assert found == (Export("image", {"compression": "zstd", "name": "docker.io/library/app:latest"}),)
    found = options("-o", "type=docker,dest=a.tar", *load, "-t", "app").exports
    assert [export.type for export in found] == ["docker", "image"][: 1 + len(load)]
    found = options("--builder", "tcp://builder:1", "-o", "type=docker", *load, "-t", "app").exports
    assert found == (Export("store", {"name": "docker.io/library/app:latest"}),)


def test_named_contexts_are_directories_or_images(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    given = options("--build-context=lib=lib", "--build-context=base=docker-image://debian:12", cwd=str(tmp_path))
    assert given.contexts == {"lib": "local:lib", "base": "docker-image://debian:12"}
    assert given.directories == {"lib": tmp_path / "lib"}


@pytest.mark.parametrize(
    ("argv", "environ", "mode"),
    [
        ([], {}, "auto"),
        ([], {"BUILDKIT_PROGRESS": "plain"}, "plain"),
        ([], {"BUILDKIT_PROGRESS": "plain", "KNARR_PROGRESS": "tty"}, "tty"),
        (["--progress=rawjson"], {"KNARR_PROGRESS": "tty"}, "rawjson"),
        (["-q"], {"KNARR_PROGRESS": "tty"}, "quiet"),
    ],
)
def test_how_progress_is_shown(argv: list[str], environ: dict[str, str], mode: str) -> None:
    assert options(*argv, environ=environ).progress == mode


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--secret", "src=x"], "--secret src=x: there is no id"),
        (["--secret", "id=x,file=y"], "--secret id=x,file=y: there is no key 'file'"),
        (["--secret", "x"], "--secret x: 'x' is not key=value"),
        (["--add-host", "db"], "--add-host db: not HOST:IP"),
        (["--add-host", "db:example"], "--add-host db:example: 'example' is not an IP address"),
        (["--ulimit", "files=1"], "--ulimit files=1: there is no limit 'files'"),
        (["--ulimit", "nofile=2:1"], "--ulimit nofile=2:1: the soft limit is above the hard one"),
        (["--ulimit", "nofile=x"], "--ulimit nofile=x: not NAME=SOFT[:HARD] with whole numbers"),
        (["--shm-size", "big"], "--shm-size big: not a size"),
        (["--network", "bridge"], "--network bridge: not known"),
        (["--label", "=x"], "--label '=x': there is no key"),
        (["--annotation", "x"], "--annotation x: not KEY=VALUE"),
        (["--annotation", "indx:a=b"], "--annotation indx:a=b: 'indx' is not a level"),
        (["--platform", "linux/"], '"" is an invalid component of "linux/"'),
        (["-t", "App"], "'App' is not an image reference: a repository is lower-case"),
        (["-t", "a@sha256:" + "0" * 64], f"--tag a@sha256:{'0' * 64}: a digest cannot be chosen"),
        (["--push"], "nothing says where to push"),
        (["--progress=loud"], "progress 'loud' is not known"),
        (["-q", "--progress=tty"], "--quiet and --progress=tty exclude each other"),
        (["--build-context", "x=nowhere"], "--build-context x=nowhere: nowhere is not a directory"),
        (["--build-context", "x=ftp://h/x.tar"], "--build-context x=ftp://h/x.tar: this kind of context is not"),
        (["other"], "one build context is needed, 2 given: other ."),
        (["--cache-to", "type=inline,mode=max"], "--cache-to type=inline: an image has only its own layers"),
        (["--provenance=max"], "--attest type=provenance,max: 'max' is not key=value"),
        (["--provenance=mode=most"], "provenance: invalid mode 'most'"),
        (["--attest", "mode=max"], "--attest mode=max: attestation type not specified"),
        (["--attest", "type=signature"], "unknown attestation type 'signature'"),
        (
            ["--attest", "type=sbom,disabled=perhaps"],
            "--attest type=sbom,disabled=perhaps: disabled=perhaps is neither",
        ),
        (["--memory", "much"], "--memory much: not a size"),
        (["--resource", "disk=1g"], "--resource disk=1g: 'disk=1g' is not a limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(argv: list[str], message: str) -> None:
    assert refusal(*argv).message.startswith(message)


@pytest.mark.parametrize("text", ["--sbom=false", "--call=build", "--rm=true", "--check=false"])
def test_what_asks_for_nothing_is_no_reason_to_stop(text: str) -> None:
    assert options(text) == options()


def test_without_a_context_the_way_out_is_told() -> None:
    with pytest.raises(UsageError) as caught:
        parse_options(["-t", "x"], {}, "/src")
    assert caught.value.hint == "`knarr build .` builds the current directory"


def test_standard_input_is_not_used_twice() -> None:
    with pytest.raises(UsageError, match="both the context and the Dockerfile"):
        parse_options(["-f", "-", "-"], {}, "/src")


def test_help_fits_a_terminal_and_names_every_flag() -> None:
    text = help_text()
    assert max(map(len, text.splitlines())) <= 110
    assert [flag.name for flag in FLAGS if flag.kind.value[:7] != "refused" and f"--{flag.name}" not in text] == []


def test_squash_is_an_option_of_every_image_output() -> None:
    found = options("--squash", "-t", "app", "-o", "type=oci,dest=a.tar", "-o", "out", "--load").exports
    assert [export.attrs.get("squash", "") for export in found] == ["new", "", "new"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "type=tar", "-o", "type=oci"), "two outputs go to standard output"),
        (("-o", "out", "-o", "type=local,dest=./out/"), "two outputs go to"),
        (("--allow", "buildx.local.delete=true", "-o", "out"), "not known"),
    ],
)
def test_outputs_that_cannot_be_together_and_rights_that_are_not_there(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options(*words)


def test_deleting_needs_a_directory_below_or_leave(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "away").symlink_to(tmp_path)

    def delete(dest: str, *words: str, home: str = "") -> tuple[Export, ...]:
        environ = {"HOME": home} if home else {}
        return options("-o", f"type=local,dest={dest},mode=delete", *words, environ=environ, cwd=str(here)).exports

    assert delete("out")
    for dest in (".", "..", str(tmp_path / "out"), "away"):
        with pytest.raises(UsageError, match="not below the directory you are in"):
            delete(dest)
    assert delete(".", "--allow", "buildx.local.delete")
    with pytest.raises(UsageError, match="your home directory"):
        delete(".", "--allow", "buildx.local.delete", home=str(here))


def test_images_that_are_kept_go_to_a_containerd_too() -> None:
    kept, there = options("-t", "app", "--containerd", "/run/c.sock", "-o", "type=image,compression=zstd").exports
    assert kept.type == "image"
    assert there.type == "containerd"
    assert there.attrs == {"name": "docker.io/library/app:latest", "compression": "zstd", "address": "/run/c.sock"}
    (only,) = options("--output=type=image,store=false,name=app", environ={"KNARR_CONTAINERD": "/run/c.sock"}).exports
    assert only.type == "image"


def test_a_builder_elsewhere_has_no_containerd_of_ours() -> None:
    assert "cannot reach" in refusal("--builder", "tcp://far:1", "--containerd", "/run/c.sock").message


def test_the_runtime_of_steps() -> None:
    assert [options("--oci-runtime", name).oci_runtime for name in ("crun", "/opt/runc")] == ["crun", "/opt/runc"]
    assert "--oci-runtime=gvisor: not known" in refusal("--oci-runtime=gvisor").message
