"""Which stages are compiled, what they inherit, and what is looked up."""

from __future__ import annotations

from threading import Barrier
from typing import Any

import pytest

from knarr.errors import Unsupported
from knarr.llb import ops
from knarr.llb.ops import Graph
from knarr.spec.platform import Platform

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def execs(graph: Graph) -> dict[str, ops.ExecOp]:
    """The execs by the last word of their command."""
    return {v.op.meta.args[-1]: v.op for v in graph.vertices.values() if isinstance(v.op, ops.ExecOp)}


def names(graph: Graph) -> list[str]:
    return [v.metadata.name for v in graph.vertices.values()]


def test_only_needed_stages_are_compiled(graph: Any) -> None:
    made = graph("FROM x AS unused\nRUN no\nFROM x AS used\nRUN yes\nFROM scratch\nCOPY --from=used /f /f\n")

    assert list(execs(made)) == ["yes"]


def test_images_of_unneeded_stages_are_not_looked_up(compiled: Any, dict_bridge: Any) -> None:
    bridge = dict_bridge()

    compiled("FROM nowhere AS unused\nFROM here\nCOPY --from=there /f /f\n", bridge=bridge)

    assert sorted(name for name, _ in bridge.asked) == [
        "docker.io/library/here:latest",
        "docker.io/library/there:latest",
    ]


def test_an_image_is_looked_up_once_however_often_it_is_named(compiled: Any, dict_bridge: Any) -> None:
    bridge = dict_bridge()

    compiled("FROM a AS one\nFROM a:latest\nCOPY --from=a /f /f\nCOPY --from=one /g /g\n", bridge=bridge)

    assert len(bridge.asked) == 1


def test_images_are_looked_up_at_the_same_time(compiled: Any, dict_bridge: Any) -> None:
    together = Barrier(4, timeout=20)  # opens only when four lookups are under way

    class Slow(dict_bridge):  # type: ignore[misc]  # a fixture's class
        def image_config(self, *question: Any, **more: Any) -> Any:
            together.wait()
            return super().image_config(*question, **more)

    result = compiled("FROM a\nCOPY --from=b / /\n", bridge=Slow(), platforms=(AMD64, ARM64))

    assert [one.platform for one in result.results] == [AMD64, ARM64]


def test_arguments_and_variables_are_inherited_from_the_base_only(graph: Any) -> None:
    made = graph("FROM x AS a\nARG P=1\nENV Q=2\nRUN a\nFROM a AS b\nRUN b\nFROM x AS c\nCOPY --from=b /f /f\nRUN c\n")

    env = {name: dict(pair.split("=", 1) for pair in op.meta.env) for name, op in execs(made).items()}
    assert (env["b"]["P"], env["b"]["Q"]) == ("1", "2")
    assert not {"P", "Q"} & set(env["c"])


def test_env_beats_arg_of_the_same_name(graph: Any) -> None:
    made = graph("FROM x\nARG A=argument\nENV A=variable\nRUN run\n")

    assert "A=variable" in execs(made)["run"].meta.env


def test_one_instruction_sees_old_values(graph: Any) -> None:
    made = graph("FROM x\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\nRUN run\n")

    assert {"abc=bye", "def=hello", "ghi=bye"} <= set(execs(made)["run"].meta.env)


def test_a_bare_arg_imports_the_global_one(graph: Any) -> None:
    made = graph("ARG A=global\nFROM x\nRUN before\nARG A\nRUN after\n", build_args={"A": "given"})

    assert "A=given" not in execs(made)["before"].meta.env
    assert "A=given" in execs(made)["after"].meta.env


def test_platform_arguments_follow_the_target(graph: Any) -> None:
    made = graph(
        "FROM --platform=$BUILDPLATFORM x\nARG TARGETPLATFORM\nARG TARGETARCH TARGETVARIANT BUILDARCH\nRUN run\n",
        platforms=(Platform("linux", "arm", "v7"),),
    )

    assert {"TARGETPLATFORM=linux/arm/v7", "TARGETARCH=arm", "TARGETVARIANT=v7", "BUILDARCH=amd64"} <= set(
        execs(made)["run"].meta.env
    )
    assert {v.platform for v in made.vertices.values()} == {AMD64}


def test_proxies_are_given_and_leave_no_trace(compiled: Any, graph: Any) -> None:
    args = {"HTTP_PROXY": "http://proxy:1", "no_proxy": "local"}

    made = graph("FROM x\nRUN run\n", build_args=args)

    assert execs(made)["run"].meta.proxy_env == ops.ProxyEnv(http_proxy="http://proxy:1", no_proxy="local")
    config = compiled("FROM x\nRUN run\n", build_args=args).results[0].config
    assert "proxy" not in str(config)


def test_stage_names_are_found_in_any_case(graph: Any) -> None:
    made = graph("FROM x AS Build\nRUN b\nFROM scratch\nCOPY --from=BUILD /f /f\n", target="")

    assert "b" in execs(made)


def test_target_ends_the_build_there(graph: Any) -> None:
    assert list(execs(graph("FROM x AS a\nRUN a\nFROM a AS b\nRUN b\n", target="A"))) == ["a"]


def test_triggers_run_first_and_once(graph: Any) -> None:
    made = graph("FROM x AS a\nONBUILD RUN trigger\nRUN a\nFROM a AS b\nRUN b\nFROM b\nRUN c\n")

    assert list(execs(made)) == ["a", "trigger", "b", "c"]
    assert "[b 1/2] ONBUILD RUN trigger" in names(made)


def test_triggers_of_an_image_may_name_more_images(compiled: Any, dict_bridge: Any) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"OnBuild": ["COPY --from=other /f /f", "ONBUILD RUN never"][:1]},
        "rootfs": {"diff_ids": ["sha256:" + "1" * 64]},
    }
    bridge = dict_bridge({"t": {"config": config}})

    result = compiled("FROM t\nRUN run\n", bridge=bridge)

    assert ("docker.io/library/other:latest", "linux/amd64") in bridge.asked
    assert result.results[0].config.config.on_build == ()


def test_an_image_without_layers_is_scratch(graph: Any, dict_bridge: Any) -> None:
    config = {"architecture": "amd64", "os": "linux", "config": {}, "history": [{"empty_layer": True}]}

    made = graph("FROM empty\nCOPY f /f\n", bridge=dict_bridge({"empty": {"config": config}}))

    assert not any("docker-image" in str(v.op) for v in made.vertices.values())


def test_a_named_context_goes_before_an_image_and_a_stage(compiled: Any, dict_bridge: Any) -> None:
    bridge = dict_bridge()

    compiled(
        "FROM base AS a\nRUN x\nFROM unneeded AS deps\nRUN never\nFROM a\nCOPY --from=deps /f /f\n",
        bridge=bridge,
        contexts={"base:latest": "docker-image://alpine", "deps": "docker-image://busybox:1"},
    )

    assert sorted(name for name, _ in bridge.asked) == [
        "docker.io/library/alpine:latest",
        "docker.io/library/busybox:1",
    ]


def test_a_context_may_be_for_one_platform(compiled: Any, dict_bridge: Any) -> None:
    bridge = dict_bridge()

    compiled(
        "FROM base\n",
        bridge=bridge,
        platforms=(AMD64, ARM64),
        contexts={"base": "docker-image://plain", "base::linux/arm64": "docker-image://special"},
    )

    assert bridge.asked == [
        ("docker.io/library/plain:latest", "linux/amd64"),
        ("docker.io/library/special:latest", "linux/arm64"),
    ]


def test_nothing_uncached_but_the_stages_asked_for(graph: Any) -> None:
    made = graph("FROM x AS a\nRUN a\nFROM x AS b\nCOPY --from=a /f /f\nRUN b\n", no_cache_filter=("B",))

    uncached = {v.metadata.name for v in made.vertices.values() if v.metadata.ignore_cache}
    assert uncached == {"[b 2/3] COPY --from=a /f /f", "[b 3/3] RUN b"}


def test_an_index_is_wanted_for_two_platforms_or_when_asked(compiled: Any) -> None:
    assert not compiled("FROM x\n").multi_platform
    assert not compiled("FROM x\n", platforms=(ARM64,)).multi_platform
    assert compiled("FROM x\n", platforms=(AMD64, ARM64)).multi_platform
    assert compiled("FROM x\n", build_args={"BUILDKIT_MULTI_PLATFORM": "1"}).multi_platform


def test_places_point_into_the_dockerfile(graph: Any) -> None:
    made = graph("FROM x\nRUN <<E\none\ntwo\nE\n", filename="sub/Dockerfile")

    spans = {v.metadata.name: v.spans for v in made.vertices.values()}
    assert [(s.file, s.first, s.last) for s in spans["[2/2] RUN <<E (one...)"]] == [("sub/Dockerfile", 2, 5)]
    assert made.sources[0].file == "sub/Dockerfile"


def test_findings_of_the_parser_become_warnings(compiled: Any) -> None:
    warnings = compiled("FROM x AS Upper\nMAINTAINER me\n").warnings

    assert [w.rule for w in warnings] == ["StageNameCasing", "MaintainerDeprecated"]
    assert warnings[0].url.endswith("/stage-name-casing/")


def test_two_hundred_stages_are_quick(compiled: Any) -> None:
    from time import process_time

    lines = ["FROM x AS s0", "RUN 0"]
    for n in range(1, 200):
        lines += [f"FROM x AS s{n}", f"ENV A={n} B=$A", f"RUN {n}", f"COPY --from=s{n - 1} /a /b", f"COPY x{n} /x"]
    text = "\n".join(lines)
    compiled(text)
    start = process_time()

    compiled(text)

    assert process_time() - start < 0.5  # measured 0.08 s; the rest is for a busy machine


@pytest.mark.parametrize(
    ("where", "identifier"),
    [
        ("https://example.com/repo.git#main:sub", "git://example.com/repo.git#main:sub"),
        ("github.com/owner/name?tag=v1", "git://github.com/owner/name#refs/tags/v1"),
        ("https://example.com/context.tar.gz", "https://example.com/context.tar.gz"),
        ("local:elsewhere", "local://elsewhere"),
    ],
)
def test_the_main_context_may_be_elsewhere(graph: Any, where: str, identifier: str) -> None:
    made = graph("FROM scratch\nCOPY a /a\n", contexts={"context": where})

    assert [v.op.identifier for v in made.vertices.values() if isinstance(v.op, ops.SourceOp)] == [identifier]


@pytest.mark.parametrize(("query", "mtime"), [("", "commit"), ("?mtime=checkout", "checkout")])
def test_an_epoch_gives_a_repository_the_times_of_its_commit(graph: Any, query: str, mtime: str) -> None:
    where = f"https://example.com/repo.git{query}"
    made = graph("FROM scratch\nCOPY a /a\n", contexts={"context": where}, build_args={"SOURCE_DATE_EPOCH": "1"})

    sources = [vertex.op for vertex in made.vertices.values() if isinstance(vertex.op, ops.SourceOp)]
    assert [op.attrs["git.mtime"] for op in sources] == [mtime]


def test_a_main_context_of_no_known_kind_is_refused(compiled: Any) -> None:
    with pytest.raises(Unsupported, match=r"ftp://example\.com cannot be a build context"):
        compiled("FROM scratch\nCOPY a /a\n", contexts={"context": "ftp://example.com"})
