"""Whole Dockerfiles: text → records, and errors that point at their lines."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile import instructions as ins
from knarr.frontend.dockerfile.instructions import ArgValue, CommandLine, Heredoc, Instruction, KeyValue, RunDevice
from knarr.frontend.dockerfile.parser import parse, parse_trigger
from knarr.record import fields

COMMON = ("span", "original", "written", "comments")


def body(text: str) -> tuple[Instruction, ...]:
    return parse(f"FROM scratch\n{text}\n".encode()).stages[0].instructions


def only(text: str) -> Instruction:
    (instruction,) = body(text)
    return instruction


def said(instruction: Instruction) -> dict[str, Any]:
    """The fields of its own that differ from the ones of an empty instruction."""
    shown = {name: getattr(instruction, name) for name in fields(instruction) if name not in COMMON}
    return {name: value for name, value in shown.items() if value not in ("", (), None, False, 0, frozenset())}


@pytest.mark.parametrize(
    ("line", "kind", "values"),
    [
        ("ARG A", ins.Arg, {"args": (ArgValue("A"),)}),
        ("ARG A= B='x y' C", ins.Arg, {"args": (ArgValue("A", ""), ArgValue("B", "'x y'"), ArgValue("C"))}),
        ("ENV A=1 B=$A", ins.Env, {"pairs": (KeyValue("A", "1"), KeyValue("B", "$A"))}),
        ('ENV A="x  y" B=a\\ b', ins.Env, {"pairs": (KeyValue("A", '"x  y"'), KeyValue("B", "a\\ b"))}),
        ("ENV A  b = c ", ins.Env, {"pairs": (KeyValue("A", "b = c", legacy=True),)}),
        ("LABEL a.b=c=d", ins.Label, {"pairs": (KeyValue("a.b", "c=d"),)}),
        ("LABEL a b", ins.Label, {"pairs": (KeyValue("a", "b", legacy=True),)}),
        ("WORKDIR /a b", ins.Workdir, {"path": "/a b"}),
        ("USER a:b", ins.User, {"user": "a:b"}),
        ("STOPSIGNAL SIGINT", ins.StopSignal, {"signal": "SIGINT"}),
        ("MAINTAINER A <a@b>", ins.Maintainer, {"name": "A <a@b>"}),
        ("EXPOSE 80 443/tcp 53/udp", ins.Expose, {"ports": ("443/tcp", "53/udp", "80")}),
        ("VOLUME /a /b", ins.Volume, {"paths": ("/a", "/b")}),
        ('VOLUME ["/a b"]', ins.Volume, {"paths": ("/a b",)}),
        ("CMD echo  hi", ins.Cmd, {"command": CommandLine(("echo  hi",), shell=True)}),
        ('CMD ["echo", "hi"]', ins.Cmd, {"command": CommandLine(("echo", "hi"), shell=False)}),
        ("CMD ['echo']", ins.Cmd, {"command": CommandLine(("['echo']",), shell=True)}),
        ("CMD []", ins.Cmd, {"command": CommandLine((), shell=False)}),
        ("CMD", ins.Cmd, {"command": CommandLine((), shell=True)}),
        ("ENTRYPOINT /run", ins.Entrypoint, {"command": CommandLine(("/run",), shell=True)}),
        ('SHELL ["/bin/bash", "-c"]', ins.Shell, {"args": ("/bin/bash", "-c")}),
        ("ONBUILD  RUN --mount=target=/x y ", ins.OnBuild, {"expression": "RUN --mount=target=/x y "}),
        ("HEALTHCHECK NONE", ins.Healthcheck, {"test": ("NONE",)}),
        ("HEALTHCHECK cmd curl -f x", ins.Healthcheck, {"test": ("CMD-SHELL", "curl -f x")}),
        (
            'HEALTHCHECK --interval=1m30s --timeout=2s --start-period=1ms --start-interval=1h --retries=3 CMD ["a"]',
            ins.Healthcheck,
            {
                "test": ("CMD", "a"),
                "interval_ns": 90 * 10**9,
                "timeout_ns": 2 * 10**9,
                "start_period_ns": 10**6,
                "start_interval_ns": 3600 * 10**9,
                "retries": 3,
            },
        ),
        ("COPY a b c/", ins.Copy, {"sources": ("a", "b"), "dest": "c/"}),
        ('COPY ["a b", "c"]', ins.Copy, {"sources": ("a b",), "dest": "c"}),
        (
            "COPY --from=x --chown=1:2 --chmod=u=rwX --link --parents=true --exclude=*.a --exclude=b a /",
            ins.Copy,
            {
                "sources": ("a",),
                "dest": "/",
                "from_": "x",
                "chown": "1:2",
                "chmod": "u=rwX",
                "link": True,
                "parents": True,
                "excludes": ("*.a", "b"),
                "flags": frozenset(("from", "chown", "chmod", "link", "parents", "exclude")),
            },
        ),
        (
            "ADD --keep-git-dir --checksum=sha256:1 --unpack https://x /",
            ins.Add,
            {
                "sources": ("https://x",),
                "dest": "/",
                "keep_git_dir": True,
                "checksum": "sha256:1",
                "unpack": True,
                "flags": frozenset(("keep-git-dir", "checksum", "unpack")),
            },
        ),
    ],
)
def test_an_instruction_reads_as(line: str, kind: type[Instruction], values: dict[str, Any]) -> None:
    instruction = only(line)
    assert type(instruction) is kind
    assert said(instruction) == values
    assert instruction.keyword == line.split()[0]
    assert instruction.original == line.strip()


def test_an_add_tells_false_from_not_said() -> None:
    instruction = only("ADD --unpack=false a b")
    assert isinstance(instruction, ins.Add)
    assert (instruction.unpack, instruction.keep_git_dir) == (False, None)


def test_a_run_has_its_flags_and_its_text() -> None:
    run = only(
        "run --mount=target=/x,from=b --mount=type=tmpfs --network=none --security=insecure --device=a,required x"
    )
    assert isinstance(run, ins.Run)
    assert [(mount.text, mount.from_) for mount in run.mounts] == [("target=/x,from=b", "b"), ("type=tmpfs", "")]
    assert (run.network, run.security) == ("none", "insecure")
    assert run.devices == (RunDevice("a", required=True),)
    assert run.command == CommandLine(("x",), shell=True)
    assert run.flags == {"mount", "network", "security", "device"}
    assert (run.keyword, run.written) == ("RUN", "run")


def test_a_run_without_flags_has_the_defaults() -> None:
    run = only('RUN ["a", "<<EOF"]')
    assert isinstance(run, ins.Run)
    assert (run.network, run.security, run.heredocs) == ("default", "sandbox", ())
    assert run.command == CommandLine(("a", "<<EOF"), shell=False)


def test_heredocs_belong_to_the_run_above_them() -> None:
    run, user = body("RUN --network=none cat <<A <<-'B'\n$x\nA\n\tb\n\tB\nUSER x")
    assert isinstance(run, ins.Run)
    assert run.command.args == ("cat <<A <<-'B'",)
    assert run.heredocs == (Heredoc("A", "$x\n"), Heredoc("B", "\tb\n", expand=False, chomp=True))
    assert (run.span.first, run.span.last) == (2, 6)
    assert run.original == "RUN --network=none cat <<A <<-'B'"
    assert isinstance(user, ins.User)


def test_inline_files_of_a_copy_are_apart_from_its_paths() -> None:
    copy = only('COPY <<a path <<"b" /d/\n1\na\n2\nb')
    assert isinstance(copy, ins.Copy)
    assert (copy.sources, copy.dest) == (("path",), "/d/")
    assert copy.heredocs == (Heredoc("a", "1\n"), Heredoc("b", "2\n", expand=False))


def test_a_trigger_keeps_its_heredocs_in_the_stored_text() -> None:
    trigger = only("ONBUILD RUN <<E\nx\nE")
    assert isinstance(trigger, ins.OnBuild)
    assert trigger.expression == "RUN <<E\nx\nE"
    run = parse_trigger(trigger.expression)
    assert isinstance(run, ins.Run)
    assert run.heredocs == (Heredoc("E", "x\n"),)


@pytest.mark.parametrize("text", ["", "FROM a", "RUN a\nRUN b", "FOO", "# only a comment"])
def test_a_trigger_that_is_not_one_instruction_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        parse_trigger(text)


def test_stages_hold_what_follows_their_from() -> None:
    file = parse(
        b"# syntax=x\nARG V=1 W\nARG X\n# base of all\n"
        b"FROM --platform=$P a:$V AS Base\nRUN 1\nUSER u\nfrom Base\nRUN 2\n"
    )
    assert [arg.args for arg in file.global_args] == [(ArgValue("V", "1"), ArgValue("W")), (ArgValue("X"),)]
    first, second = file.stages
    assert (first.index, first.name, first.base, first.platform) == (0, "base", "a:$V", "$P")
    assert first.from_.name_written == "Base"
    assert [type(i) for i in first.instructions] == [ins.Run, ins.User]
    assert (second.index, second.name, second.base, second.platform) == (1, "", "Base", "")
    assert (first.span.first, second.span.first) == (5, 8)
    assert file.directive("syntax") == "x"
    assert file.directive("check") == ""
    assert file.escape == "\\"


def test_a_comment_that_begins_with_a_name_describes_it() -> None:
    file = parse(b"# V the version\nARG V=1\n# build makes it\nFROM a AS build\n# other words\nARG W\n")
    assert file.global_args[0].args[0].doc == "the version"
    assert file.stages[0].doc == "makes it"
    arg = file.stages[0].instructions[0]
    assert isinstance(arg, ins.Arg)
    assert arg.args[0].doc == ""
    assert arg.comments == ("other words",)


def test_an_instruction_spans_all_its_lines() -> None:
    spans = [(i.span.first, i.span.last) for i in body("RUN a \\\n # c\n b\n\nCOPY <<E /\nE\nUSER x")]
    assert spans == [(2, 4), (6, 7), (8, 8)]


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("FROM a AS Base", ["StageNameCasing"]),
        ("FROM a as base", ["FromAsCasing"]),
        ("from a AS base", ["FromAsCasing"]),
        ("From a aS base", []),
        ("FROM a\nMAINTAINER me", ["MaintainerDeprecated"]),
        ("FROM a\nRUN b \\\n\n c", ["NoEmptyContinuation"]),
        ("FROM a AS b\nRUN c", []),
    ],
)
def test_doubtful_text_is_found(text: str, rules: list[str]) -> None:
    assert [finding.rule for finding in parse(text.encode()).findings] == rules


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("FRMO x", "unknown instruction: FRMO", "did you mean FROM?"),
        ("copi x y", "unknown instruction: copi", "did you mean copy?"),
        ("XYZZY", "unknown instruction: XYZZY", ""),
        ("\\\n", "unknown instruction: ", ""),
        ("COPY a", "COPY requires at least two arguments", "COPY source destination"),
        ("COPY", "COPY requires at least two arguments", ""),
        ("COPY a <<E\nE", "COPY cannot accept a heredoc as a destination", ""),
        ("COPY --form=a b c", "unknown flag: --form", "did you mean from?"),
        ('COPY ["a", 1]', "arrays must be comprised of strings only", "double quotes"),
        ("RUN <<E", "unterminated heredoc E", ""),
        ("RUN --network=nat x", 'invalid network mode "nat"', "default, none or host"),
        ("RUN --security=off x", 'security "off" is not valid', ""),
        ("RUN --mount=from=$x,target=/x y", "'from' doesn't support variable expansion", ""),
        ("RUN --mount= y", "empty value", ""),
        ("ENV", "ENV requires at least one argument", ""),
        ("ENV A", "ENV must have two arguments", "ENV A=value"),
        ("ENV A=b c", 'can\'t find = in "c"', "double quotes"),
        ("ENV =b", "ENV names can not be blank", ""),
        ("LABEL a=b c", 'can\'t find = in "c"', ""),
        ("ARG", "ARG requires at least one argument", ""),
        ("ARG =x", "ARG names can not be blank", ""),
        ("FROM", "FROM requires either one or three arguments", ""),
        ("FROM a b", "FROM requires either one or three arguments", ""),
        ("FROM a AS 1b", 'invalid name for build stage: "1b"', "a letter first"),
        ("FROM a AS b/c", 'invalid name for build stage: "b/c"', ""),
        ("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form", ""),
        ("SHELL []", "SHELL requires at least one argument", ""),
        ("WORKDIR", "WORKDIR requires exactly one argument", ""),
        ("EXPOSE", "EXPOSE requires at least one argument", ""),
        ("VOLUME", "VOLUME requires at least one argument", ""),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string", ""),
        ("USER --x y", "unknown flag: --x", "USER has no flags"),
        ("ARG --x y", "unknown flag: --x", "ARG has no flags"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument", ""),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments", ""),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD", ""),
        ("HEALTHCHECK curl x", 'Unknown type "CURL" in HEALTHCHECK (try CMD)', "HEALTHCHECK CMD curl x"),
        ("HEALTHCHECK --interval=5 CMD x", '--interval: invalid duration "5"', "a number with a unit"),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms', ""),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)", ""),
        ("HEALTHCHECK --retries=x CMD x", "--retries: not a number: x", ""),
        ("ONBUILD", "ONBUILD requires at least one argument", ""),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD", ""),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger", ""),
    ],
)
def test_a_mistake_is_shown_where_it_is(text: str, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM scratch\n# here\n{text}\n".encode(), filename="my.Dockerfile")
    error = caught.value
    assert message in error.message
    assert hint in error.hint
    assert error.span is not None
    assert (error.span.file, error.span.first) == ("my.Dockerfile", 3)
    assert f"3 | >>> {text.splitlines()[0]}".rstrip() in error.render()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file with no instructions"),
        ("# only\n\n# comments\n", "file with no instructions"),
        ("RUN x\nFROM a", "no build stage in current context: RUN before the first FROM"),
        ("# escape=x\nFROM a", "invalid escape token"),
        ("# syntax=a\n# syntax=b\nFROM a", "only one syntax parser directive"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        parse(text.encode())
    assert caught.value.span is not None


FRAGMENTS = st.sampled_from(
    [
        b"FROM a AS b\n", b"ARG A=$B\n", b"RUN cat <<E\n", b"E\n", b"COPY <<-'E' /x\n", b"COPY --from=b x y\n", b"\\\n",
        b"# escape=`\n", b"ENV A=b \\\n", b'CMD ["a"]\n', b"ONBUILD RUN <<E\n", b"RUN --mount=type=cache x\n", b"\xff",
        b"HEALTHCHECK CMD x\n", b"\n", b"#\n", b"\x00", b"\xef\xbb\xbf", b"LABEL a='b c'\n", b'"', b"'", b" ",
        b"$", b"<<",
    ]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=80), st.lists(FRAGMENTS, max_size=10).map(b"".join)))
@settings(deadline=None, max_examples=500)
def test_any_bytes_are_a_dockerfile_or_an_error_with_a_place(data: bytes) -> None:
    try:
        file = parse(data)
    except DockerfileError as error:
        place = error.span
        assert place is not None, error.message  # noqa: PT017  # what matters is the error's own content
        error.render()
        return
    numbers = [i.span.first for stage in file.stages for i in (stage.from_, *stage.instructions)]
    assert numbers == sorted(numbers)


def test_a_hundred_thousand_lines_take_seconds_at_most() -> None:
    unit = b'RUN a && \\\n    # c\n    b\nENV A=1 B="x y"\nCOPY --from=base --chown=1:2 a b /c/\n\nRUN <<E\nx\nE\n'
    data = b"FROM a\n" + unit * 10_000
    start = time.process_time()
    file = parse(data)
    taken = time.process_time() - start
    assert len(file.stages[0].instructions) == 40_000
    assert taken < 30, "not linear any more"


def test_one_very_long_line_is_read_in_linear_time() -> None:
    start = time.process_time()
    parse(b"FROM a\nENV " + b"A=b\\ c" * 100_000 + b"\nRUN " + b"'x' \\\n" * 100_000)
    assert time.process_time() - start < 30
