"""The instructions that change the image config and the environment, and make no layer.

Each function takes the build, the stage and the instruction, changes the stage,
and leaves the line of history that BuildKit leaves, letter by letter. ENV and LABEL
see the variables as they were before the line, not those it sets; ARG, which sets
one after the other, sees those before it.
"""

from __future__ import annotations

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile import instructions as df
from knarr.frontend.dockerfile.gotext import duration, listed, quoted_list
from knarr.frontend.dockerfile.lint import HIDDEN_ARGS
from knarr.frontend.dockerfile.lintlines import check_form, check_once, check_pairs, check_port, check_secret
from knarr.frontend.dockerfile.platformbuild import PlatformBuild
from knarr.frontend.dockerfile.stagebuild import StageBuild
from knarr.record import replace
from knarr.regex import later
from knarr.spec.config import Healthcheck

_NUMBER = later(r"[-+]?[0-9]{1,18}")

DEFAULT_SHELL = ("/bin/sh", "-c")
WINDOWS_SHELL = ("cmd", "/S", "/C")

# Linux's names, as signal(7); the real-time ones count from both ends.
_SIGNALS = frozenset(
    (
        *("ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE"),
        *("POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU"),
        *("URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX"),
        *(f"RTMIN+{n}" for n in range(1, 16)),
        *(f"RTMAX-{n}" for n in range(1, 15)),
    )
)


def compile_env(build: PlatformBuild, stage: StageBuild, line: df.Env) -> None:
    before = stage.state.env
    pairs = [(build.expand(p.key, before), build.expand(p.value, before)) for p in line.pairs]
    check_pairs(build.lint, line, line.pairs, (key for key, _ in pairs))
    stage.state = stage.state.with_env(*pairs)
    for key, value in pairs:
        stage.image.set_env(key, value)
    _commit(build, stage, " ".join(["ENV", *(f"{key}={value}" for key, value in pairs)]))


def compile_label(build: PlatformBuild, stage: StageBuild, line: df.Label) -> None:
    env = stage.state.env
    pairs = [(build.expand(p.key, env), build.expand(p.value, env)) for p in line.pairs]
    check_pairs(build.lint, line, line.pairs, (key for key, _ in pairs))
    stage.image.labels.update(pairs)
    _commit(build, stage, " ".join(["LABEL", *(f"{key}={value}" for key, value in pairs)]))


def compile_arg(build: PlatformBuild, stage: StageBuild, line: df.Arg) -> None:
    """The value is a `--build-arg`, else the default, else the global argument of the name, else there is none."""
    shown = []
    for arg in line.args:
        check_secret(build.lint, "ARG", arg.key)
        value = build.build_args.get(arg.key)
        if value is None and arg.value is not None:
            value = build.expand(arg.value, stage.state.env)
        if value is None and arg.value is None:
            value = build.global_args.get(arg.key)
        if value is not None and arg.key not in HIDDEN_ARGS:
            stage.state = stage.state.with_env((arg.key, value))
        stage.args.append((arg.key, value))
        shown.append(arg.key if value is None else f"{arg.key}={value}")
    _commit(build, stage, "ARG " + " ".join(shown))


def compile_cmd(build: PlatformBuild, stage: StageBuild, line: df.Cmd) -> None:
    _once(build, stage, line)
    check_form(build.lint, stage, line, line.command)
    args = command(stage, line.command)
    stage.image.cmd = args
    stage.image.args_escaped = True  # Docker on Windows asks; BuildKit sets it everywhere
    _commit(build, stage, f"CMD {quoted_list(args)}")


def compile_entrypoint(build: PlatformBuild, stage: StageBuild, line: df.Entrypoint) -> None:
    """A CMD that comes from the base was meant for the base's ENTRYPOINT, and goes with it."""
    _once(build, stage, line)
    check_form(build.lint, stage, line, line.command)
    args = command(stage, line.command)
    stage.image.entrypoint = args
    if "CMD" not in stage.given:
        stage.image.cmd = ()
    _commit(build, stage, f"ENTRYPOINT {quoted_list(args)}")


def compile_shell(build: PlatformBuild, stage: StageBuild, line: df.Shell) -> None:
    stage.image.shell = line.args
    _commit(build, stage, f"SHELL {listed(line.args)}")


def compile_healthcheck(build: PlatformBuild, stage: StageBuild, line: df.Healthcheck) -> None:
    _once(build, stage, line)
    stage.image.healthcheck = Healthcheck(
        line.test, line.interval_ns, line.timeout_ns, line.start_period_ns, line.start_interval_ns, line.retries
    )
    shown = (
        f"Test:{listed(line.test)} Interval:{duration(line.interval_ns)} Timeout:{duration(line.timeout_ns)} "
        f"StartPeriod:{duration(line.start_period_ns)} StartInterval:{duration(line.start_interval_ns)} "
        f"Retries:{line.retries}"
    )
    _commit(build, stage, f"HEALTHCHECK {{{shown}}}")


def compile_expose(build: PlatformBuild, stage: StageBuild, line: df.Expose) -> None:
    env = stage.state.env
    words = [word for port in line.ports for word in build.expander.words(port, env)]
    for word in words:
        check_port(build.lint, word)
    from knarr.frontend.dockerfile.ports import exposed_ports

    ports = exposed_ports(words)
    stage.image.exposed_ports.update(ports)
    _commit(build, stage, f"EXPOSE {listed(ports)}")


def compile_volume(build: PlatformBuild, stage: StageBuild, line: df.Volume) -> None:
    paths = [build.expand(path, stage.state.env) for path in line.paths]
    if "" in paths:
        raise DockerfileError("VOLUME specified can not be an empty string", hint="VOLUME /path")
    stage.image.volumes.update(paths)
    _commit(build, stage, f"VOLUME {listed(paths)}")


def compile_user(build: PlatformBuild, stage: StageBuild, line: df.User) -> None:
    user = build.expand(line.user, stage.state.env)
    stage.state = replace(stage.state, user=user)
    stage.image.user = user
    _commit(build, stage, f"USER {user}")


def compile_stop_signal(build: PlatformBuild, stage: StageBuild, line: df.StopSignal) -> None:
    signal = build.expand(line.signal, stage.state.env)
    name = signal.upper().removeprefix("SIG")
    is_number = _NUMBER.fullmatch(signal) is not None and int(signal) != 0
    if not is_number and name not in _SIGNALS:
        raise DockerfileError(f"invalid signal: {signal}", hint="a name such as SIGTERM, or a number")
    stage.image.stop_signal = signal
    _commit(build, stage, f"STOPSIGNAL {signal}")


def compile_on_build(build: PlatformBuild, stage: StageBuild, line: df.OnBuild) -> None:
    stage.image.on_build.append(line.expression)


def compile_maintainer(build: PlatformBuild, stage: StageBuild, line: df.Maintainer) -> None:
    stage.image.author = line.name
    _commit(build, stage, f"MAINTAINER {line.name}")


def command(stage: StageBuild, line: df.CommandLine) -> tuple[str, ...]:
    """The words that run: the stage's shell in front of a shell form."""
    if not line.shell:
        return line.args
    default = WINDOWS_SHELL if stage.image.platform.os == "windows" else DEFAULT_SHELL
    return (*(stage.image.shell or default), " ".join(line.args))


def _once(build: PlatformBuild, stage: StageBuild, line: df.Instruction) -> None:
    check_once(build.lint, stage, line)
    stage.given[line.keyword] = build.lint.span or line.span


def _commit(build: PlatformBuild, stage: StageBuild, created_by: str) -> None:
    stage.image.commit(created_by, created=build.created)
