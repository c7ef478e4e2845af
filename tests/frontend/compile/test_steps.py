"""What single instructions become: the parts of an op, the history line, the config."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.llb import ops
from knarr.llb.ops import Graph


def last(graph: Graph) -> Any:
    assert graph.root is not None
    return graph.vertices[graph.root.digest].op


def history(result: Any) -> list[str]:
    return [line.created_by for line in result.results[0].config.history[1:]]


def context_attrs(graph: Graph) -> Any:
    return next(v.op.attrs for v in graph.vertices.values() if isinstance(v.op, ops.SourceOp) and "local" in str(v.op))


def test_workdir_is_made_for_the_user(graph: Any) -> None:
    op = last(graph("FROM x\nUSER 1234:1234\nWORKDIR /w/x\n"))

    owner = ops.ChownOpt(ops.UserOpt(1234), ops.UserOpt(1234))
    assert op.actions[0].action == ops.MkDir("/w/x", 0o755, make_parents=True, owner=owner)


def test_workdir_root_makes_no_layer(compiled: Any) -> None:
    config = compiled("FROM x\nWORKDIR /\n").results[0].config

    assert config.history[-1].empty_layer
    assert config.config.working_dir == "/"


def test_a_copied_file_keeps_its_mode_and_owner_unless_told(graph: Any) -> None:
    copy = last(graph("FROM x\nCOPY a /b\n")).actions[0].action

    assert (copy.mode, copy.owner, copy.timestamp) == (-1, None, -1)


def test_only_what_is_copied_is_asked_of_the_context(graph: Any) -> None:
    made = graph("FROM x\nCOPY b a/ ./\nADD https://h/f c /d/\nRUN --mount=source=m,target=/m y\n")

    assert context_attrs(made)["local.followpaths"] == '["a","b","c","m"]'


def test_the_whole_context_is_asked_for_by_its_root(graph: Any) -> None:
    assert "local.followpaths" not in context_attrs(graph("FROM x\nCOPY a /a\nCOPY . /all\n"))


def test_linked_copies_do_not_depend_on_the_stage(graph: Any) -> None:
    made = graph("FROM x\nRUN y\nCOPY --link a /a\n")

    assert isinstance(last(made), ops.MergeOp)
    copy = next(v for v in made.vertices.values() if isinstance(v.op, ops.FileOp))
    assert [made.vertices[e.digest].op.identifier for e in copy.inputs] == ["local://context"]
    group = copy.metadata.progress_group
    assert group is not None
    assert group.weak


def test_two_linked_copies_are_two_groups_of_progress(graph: Any) -> None:
    made = graph("FROM x\nCOPY --link a /a\nCOPY --link a /a\n")

    groups = {v.metadata.progress_group.id for v in made.vertices.values() if isinstance(v.op, ops.MergeOp)}
    assert len(groups) == 2


def test_a_mode_turns_link_off(graph: Any) -> None:
    assert isinstance(last(graph("FROM x\nCOPY --link --chmod=600 a /a\n")), ops.FileOp)


def test_names_of_a_linked_copy_have_nowhere_to_be_looked_up(graph: Any) -> None:
    made = graph("FROM x\nCOPY --link --chown=daemon a /a\n")

    copy = next(v.op for v in made.vertices.values() if isinstance(v.op, ops.FileOp)).actions[0].action
    assert copy.owner.user == ops.UserOpt(None, "daemon", ops.NO_INPUT)


@pytest.mark.parametrize(
    ("body", "content"),
    [("<<E", b'value "q" $v\n'), ("<<'E'", b'$v "q" \\$v\n')],
)
def test_inline_files_expand_unless_quoted(graph: Any, body: str, content: bytes) -> None:
    made = graph(f'FROM x\nENV v=value\nCOPY {body} /f\n$v "q" \\$v\nE\n')

    files = [a.action for v in made.vertices.values() if isinstance(v.op, ops.FileOp) for a in v.op.actions]
    assert next(f.data for f in files if isinstance(f, ops.MkFile)) == content


def test_a_heredoc_with_an_interpreter_is_a_script(graph: Any) -> None:
    op = last(graph("FROM x\nRUN <<E\n#!/bin/bash\necho $0\nE\n"))

    assert op.meta.args == ("/bin/sh", "-c", "/dev/pipes/E")
    script = next(mount for mount in op.mounts if mount.dest == "/dev/pipes/")
    assert script.readonly


def test_a_plain_heredoc_is_text_for_the_shell(graph: Any) -> None:
    assert last(graph("FROM x\nRUN <<-E\n\tfalse\n\techo x\n\tE\n")).meta.args == ("/bin/sh", "-c", "false\necho x\n")


def test_the_shell_is_the_last_one_said(graph: Any) -> None:
    assert last(graph('FROM x\nSHELL ["/bin/bash", "-c"]\nRUN y\n')).meta.args == ("/bin/bash", "-c", "y")


def test_values_of_secrets_are_named_nowhere(compiled: Any, graph: Any) -> None:
    text = "FROM x\nARG TOKEN=argument\nRUN --mount=type=secret,id=t,env=TOKEN use $TOKEN\n"

    made = graph(text)

    assert last(made).secret_env == (ops.SecretEnv("t", "TOKEN", optional=True),)
    assert made.vertices[made.root.digest].metadata.name.endswith("use ****")


def test_caches_are_separate_by_namespace(graph: Any) -> None:
    text = "FROM x\nRUN --mount=type=cache,target=/c/ y\n"

    ids = [
        mount.cache.id
        for args in ({}, {"BUILDKIT_CACHE_MOUNT_NS": "ns"})
        for mount in last(graph(text, build_args=args)).mounts
        if mount.cache
    ]
    assert ids == ["//c", "ns//c"]


def test_a_cache_with_an_owner_begins_as_a_directory_of_that_owner(graph: Any) -> None:
    made = graph("FROM x\nRUN --mount=type=cache,target=/c,uid=5,gid=6,mode=0777 y\n")

    mkdir = next(v.op for v in made.vertices.values() if isinstance(v.op, ops.FileOp)).actions[0].action
    assert mkdir == ops.MkDir("/cache", 0o777, owner=ops.ChownOpt(ops.UserOpt(5), ops.UserOpt(6)))
    assert next(m for m in last(made).mounts if m.cache).selector == "/cache"


def test_history_of_a_run_names_the_arguments_in_scope(compiled: Any) -> None:
    result = compiled("FROM x\nARG A=1\nARG B\nRUN y\nENV A=2\nRUN z\n")

    assert history(result) == [
        "ARG A=1",
        "ARG B",
        "RUN |2 A=1 B= /bin/sh -c y # buildkit",
        "ENV A=2",
        "RUN |2 A=2 B= /bin/sh -c z # buildkit",
    ]


def test_history_lines_have_a_layer_where_the_graph_has_one(compiled: Any) -> None:
    result = compiled("FROM x\nENV A=1\nCOPY a /a\nWORKDIR /w\nCMD x\nRUN y\nLABEL a=b\n")

    lines = result.results[0].config.history[1:]
    assert [not line.empty_layer for line in lines] == [False, True, True, False, True, False]
    assert {line.comment for line in lines} == {"buildkit.dockerfile.v0"}


def test_entrypoint_clears_the_cmd_of_the_base_only(compiled: Any) -> None:
    inherited = compiled('FROM x\nENTRYPOINT ["e"]\n').results[0].config.config
    own = compiled('FROM x\nCMD ["c"]\nENTRYPOINT ["e"]\n').results[0].config.config

    assert inherited.cmd is None
    assert own.cmd == ("c",)


def test_labels_of_the_request_win_and_leave_no_history(compiled: Any) -> None:
    result = compiled("FROM x\nLABEL a=file b=file\n", labels={"a": "request"})

    assert result.results[0].config.config.labels == {"a": "request", "b": "file"}
    assert history(result) == ["LABEL a=file b=file"]


def test_volume_makes_nothing(graph: Any) -> None:
    made = graph("FROM x\nVOLUME /v\nRUN y\n")

    assert len(made.vertices) == 2


def test_an_epoch_dates_history_and_directories(compiled: Any, graph: Any) -> None:
    text = "FROM x\nARG SOURCE_DATE_EPOCH\nWORKDIR /w\nRUN y\n"

    lines = compiled(text, source_date_epoch=1700000000).results[0].config.history
    made = graph(text, source_date_epoch=1700000000)

    assert [line.created for line in lines[1:]] == ["2023-11-14T22:13:20Z"] * 3
    assert "SOURCE_DATE_EPOCH=1700000000" in last(made).meta.env
    mkdir = next(v.op for v in made.vertices.values() if isinstance(v.op, ops.FileOp)).actions[0].action
    assert mkdir.timestamp == 1700000000 * 10**9


def test_a_downloaded_file_is_named_after_its_url(graph: Any) -> None:
    made = graph("FROM x\nADD https://h/dir/a%20b.txt?q=1 /d/\n")

    fetched = next(v.op for v in made.vertices.values() if isinstance(v.op, ops.SourceOp) and "https" in str(v.op))
    assert fetched.attrs == {"http.filename": "a b.txt"}
    assert last(made).actions[0].action.src == "/a b.txt"


def test_only_add_unpacks(graph: Any) -> None:
    unpacked = [
        last(graph(f"FROM x\n{line}\n")).actions[0].action.attempt_unpack
        for line in (
            "ADD a /a",
            "ADD --unpack=false a /a",
            "COPY a /a",
            "ADD http://h/a /a",
            "ADD --unpack http://h/a /",
        )
    ]

    assert unpacked == [True, False, False, False, True]


def test_parents_are_kept_from_the_pivot_on(graph: Any) -> None:
    actions = last(graph("FROM x\nCOPY --parents a/./b/c *.txt /d/\n")).actions

    first, second = (link.action for link in actions)
    assert (first.src, first.include_patterns, first.required_paths) == ("/a", ("b/c",), ("/a/b/c",))
    assert (second.src, second.include_patterns, second.required_paths) == ("/", ("*.txt",), ())
