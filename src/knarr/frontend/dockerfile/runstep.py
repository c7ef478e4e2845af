"""RUN: the command, with its shell or its heredoc, in the environment of the stage."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.expand import Expander
from knarr.frontend.dockerfile.filesteps import upper_keyword
from knarr.frontend.dockerfile.heredoc import heredoc_word
from knarr.frontend.dockerfile.instructions import Heredoc, Run, RunMount
from knarr.frontend.dockerfile.mounts import read_mount
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.runmount import mounts_of, secret_of, ssh_of
from knarr.frontend.dockerfile.settings import command
from knarr.frontend.dockerfile.stagebuild import Line, StageBuild
from knarr.llb import ops
from knarr.llb.state import FileStep, Mount, Note, Process, State
from knarr.record import replace

_NETWORKS = {"default": None, "none": ops.NetMode.NONE, "host": ops.NetMode.HOST}
_SECURITY = {"sandbox": ops.SecurityMode.SANDBOX, "insecure": ops.SecurityMode.INSECURE}
_SCRIPT_DIR = "/dev/pipes/"


def compile_run(build: PlatformBuild, stage: StageBuild, line: Line, instruction: Run) -> None:
    env = stage.state.env
    stage.paths.add("/")  # a command may read anything
    mounts = [read_mount(mount.text, lambda word: build.expand(word, env)) for mount in instruction.mounts]
    _note_lent(stage, line, mounts)
    args, script = _command(stage, instruction)
    if not args:
        raise DockerfileError("RUN has no command", hint='RUN command, or RUN ["program", "argument"]')
    process = Process(
        args,
        (*script, *mounts_of(build, stage, line, mounts), *_shared_memory(build)),
        tuple(secret_of(mount) for mount in mounts if mount.type == "secret"),
        tuple(ssh_of(mount) for mount in mounts if mount.type == "ssh"),
        _NETWORKS[instruction.network],
        _SECURITY[instruction.security],
        build.proxy_env,
        tuple(ops.HostIP(name, address) for name, address in build.request.extra_hosts),
        build.request.ulimits,
        build.request.cgroup_parent,
        tuple(ops.CDIDevice(device.name, optional=not device.required) for device in instruction.devices),
    )
    description = {
        "com.docker.dockerfile.v1.command": instruction.original,
        "llb.customname": _name(build, stage, line, instruction, mounts),
    }
    stage.state = stage.state.run(
        process, Note(description, (line.span,), stage.ignore_cache, resources=build.request.resources)
    )
    shown = " ".join((*_args_in_scope(stage, env), *args))
    stage.image.commit(f"RUN {shown} # buildkit", layer=True, created=build.created)


def _note_lent(stage: StageBuild, line: Line, mounts: list[RunMount]) -> None:
    """Keep in mind which secrets and agents the stage wants lent, and where it says so first."""
    for mount in mounts:
        if mount.type == "secret":
            stage.secrets.setdefault(secret_of(mount).id, (mount.required, line.span))
        elif mount.type == "ssh":
            stage.ssh.setdefault(mount.id or "default", (mount.required, line.span))


def _command(stage: StageBuild, instruction: Run) -> tuple[tuple[str, ...], tuple[Mount, ...]]:
    """The words that run, and the mount of a script where a heredoc is one."""
    line = instruction.command
    if not instruction.heredocs:
        return command(stage, line), ()
    if not line.shell or len(line.args) != 1:
        raise DockerfileError("a heredoc belongs to the shell form of RUN")
    first = instruction.heredocs[0]
    if heredoc_word(line.args[0]) is None:
        # More than a heredoc: the shell gets it all back as it was written.
        text = line.args[0] + "".join(f"\n{doc.content}{doc.name}" for doc in instruction.heredocs)
        return command(stage, replace(line, args=(text,))), ()
    if first.text.startswith("#!") and stage.image.platform.os != "windows":
        script = _script(first)
        return command(stage, replace(line, args=(_SCRIPT_DIR + first.name,))), (script,)
    return command(stage, replace(line, args=(first.text,))), ()


def _script(doc: Heredoc) -> Mount:
    """A heredoc that names its interpreter, as a file to run."""
    made = State().file(
        [FileStep(ops.MkFile(f"/{doc.name}", 0o755, doc.text.encode()))],
        Note({"llb.customname": "[internal] preparing inline document"}),
    )
    return Mount(_SCRIPT_DIR, made.output, "/", readonly=True)


def _shared_memory(build: PlatformBuild) -> tuple[Mount, ...]:
    size = build.request.shm_size_bytes
    return (Mount("/dev/shm", tmpfs=True, tmpfs_size=size),) if size > 0 else ()


def _name(build: PlatformBuild, stage: StageBuild, line: Line, instruction: Run, mounts: list[RunMount]) -> str:
    """The command with the variables that are known put in; a secret's shows stars, not because its value is known."""
    text = instruction.original
    if len(instruction.heredocs) and heredoc_word(instruction.command.args[0]) is not None:
        text += f" ({_summary(instruction.heredocs[0].content)})"
    masked = {mount.env: "****" for mount in mounts if mount.type == "secret" and mount.env is not None}
    expander = Expander(build.expander.escape, raw_quotes=True, keep_unset=True)
    with suppress(DockerfileError):  # not every shell command is a word of ours; its text will do
        text = expander.word(text, {**stage.state.env, **masked}).text
    return stage.named(build, upper_keyword(text), platform=stage.state.platform, on_build=line.on_build)


def _summary(doc: str) -> str:
    first, more, _ = doc.strip().replace("\r\n", "\n").partition("\n")
    return first + ("..." if more else "")


def _args_in_scope(stage: StageBuild, env: Mapping[str, str]) -> tuple[str, ...]:
    """`|2 A=1 B=2`: the ARGs whose values this command may depend on."""
    values = {key: env.get(key, value or "") for key, value in stage.args}
    return (f"|{len(values)}", *(f"{key}={value}" for key, value in values.items())) if values else ()
