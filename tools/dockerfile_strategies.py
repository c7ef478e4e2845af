"""Random Dockerfiles for hypothesis, mostly well-formed: every instruction, every flag, variables, heredocs.

`dockerfiles()` gives whole texts. What they may be built with, and the base images
they name, is in `dockerfile_options`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

Text = st.SearchStrategy[str]


def mostly(good: Sequence[str], odd: Sequence[str]) -> Text:
    """One of `good`, now and then one of `odd`: what is refused ends a file, so it must be rare."""
    return st.integers(0, 29).flatmap(lambda number: st.sampled_from(odd if number == 0 else good))


names = st.sampled_from(
    ["A", "B", "C", "EMPTY", "Q", "PATH", "TARGETARCH", "TARGETPLATFORM", "BUILDPLATFORM", "HTTP_PROXY"]
)
stage_names = st.sampled_from(["base", "build", "Final", "x-1", "a.b", "rich", "busybox"])
_BARE = "a b/c /etc x.y 1 é *.go - a:b a=b ~ # % @ ! { } < = ,"
_atoms = st.sampled_from([*_BARE.split(), "a b"])
_operators = mostly([":-", "-", ":+", "+", "#", "##", "%", "%%"], [":?", "?", ":=", ":"])


@st.composite
def variables(draw: st.DrawFn) -> str:
    """`$A` and all that a brace form may say."""
    name = draw(names)
    kind = draw(st.integers(0, 9))
    if kind < 3:
        return f"${name}"
    if kind < 5:
        return f"${{{name}}}"
    word = draw(st.sampled_from(["", "w", "$B", "${C}", "a*", "?", "[a]", "\\*", '"q r"', "'s'", "${B:-n}", "b/"]))
    if kind < 8:
        return f"${{{name}{draw(_operators)}{word}}}"
    slash = draw(st.sampled_from(["/", "//"]))
    return f"${{{name}{slash}{draw(st.sampled_from(['a', '*', 'b?', '/', '$B']))}/{word}}}"


@st.composite
def words(draw: st.DrawFn, *, escape: str = "\\", blanks: bool = False) -> str:
    """One word of an instruction, with variables, quotes and escapes in it."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 11))
        if kind < 6:
            part = draw(_atoms)
            part = part if blanks else part.replace(" ", "_")
        elif kind < 9:
            part = draw(variables())
        elif kind == 9:
            part = f'"{draw(_atoms)}{draw(variables())}"'
        elif kind == 10:
            part = f"'{draw(_atoms)}$A'"
        else:
            part = escape + draw(st.sampled_from(["$A", '"', "'", " ", escape, "n"]))
        parts.append(part)
    return "".join(parts)


plain_paths = st.sampled_from(
    ["a", "./b", "/c/d", "dir/", "../up", ".", "/", "*.txt", "fil[e]", "d/**/e", "a/./b", "x y", "$A/x", "${B:-z}", "é"]
)
destinations = st.sampled_from([".", "./", "/", "/dst", "/dst/", "rel", "rel/", "$A/", "${C:-c}/d", "..", "/a/../b"])
owners = st.sampled_from(
    ["app", "1000:1000", "root", "0:app", "$A:$B", "a:", ":b", "$EMPTY", "4294967295", "-1", "user"]
)
modes = mostly(
    ["755", "0644", "u=rwX,go=rX", "$MODE", "a+x", "7777", "u+", "o-rwx,g+s", "", "+t"], ["8", "755 ", "10000", "x"]
)
blobs = st.sampled_from(
    [
        "https://example.com/a.tar.gz",
        "http://example.com/x/",
        "https://example.com/?q=1",
        "https://github.com/moby/buildkit.git#v0.10:docs",
        "git@github.com:moby/buildkit.git",
        "https://github.com/moby/buildkit.git?branch=main&subdir=x",
        "https://example.com/$A",
    ]
)
digests = mostly(["sha256:" + "a" * 64, "$SUM", "a" * 40], ["sha256:bad", "sha512:" + "a" * 128])
booleans = mostly(["", "=true", "=false", "=TRUE"], ["=", "=x"])


def _flag(name: str, values: Text) -> Text:
    return values.map(lambda value: f"--{name}={value}")


def _some(flags: Sequence[Text], most: int = 3) -> st.SearchStrategy[list[str]]:
    """A few of the flags: mostly none, so that what follows is reached."""
    return st.one_of(st.just([]), st.lists(st.one_of(*flags), max_size=most))


_sources = st.one_of(
    mostly(["0", "rich", "arm", "alpine:3", "ctx", "scratch"], ["1", "7", "-1", "$A", "Bad"]),
    mostly(["rich", "busybox", "base"], ["Final", "x-1", "a.b", "build"]),
)


def _transfers(
    keyword: str, flags: Sequence[Text], sources: Text
) -> st.SearchStrategy[tuple[str, list[str], list[str], str]]:
    chosen = st.lists(sources, min_size=1, max_size=3)
    return st.tuples(st.just(keyword), _some(flags), chosen, destinations)


_both = [
    _flag("chown", owners),
    _flag("chmod", modes),
    _flag("exclude", st.sampled_from(["*.md", "**/x", "!y", "$A", ""])),
    booleans.map(lambda value: f"--link{value}"),
    mostly(["--", "--link"], ["--unknown", "--=x"]),
]
_copy = _transfers(
    "COPY", [*_both, _flag("from", _sources), _flag("from", _sources), booleans.map("--parents{}".format)], plain_paths
)
_add = _transfers(
    "ADD",
    [
        *_both,
        _flag("checksum", digests),
        booleans.map("--keep-git-dir{}".format),
        booleans.map("--unpack{}".format),
    ],
    st.one_of(plain_paths, blobs),
)
_heredoc_names = st.sampled_from(["EOF", "'EOF'", '"E F"', "E$A", "f.txt", "E1"])
_bodies = st.sampled_from(
    [
        "",
        "line\n",
        "a $A ${B:-c}\n",
        "\tindented\n",
        "#!/bin/sh\necho\n",
        "\\$x \\\n",
        "# no comment\n",
        "<<x\n",
        "é\n\n",
    ]
)


@st.composite
def heredocs(draw: st.DrawFn) -> tuple[str, str]:
    """The word that opens one, and the lines that follow it."""
    name = draw(_heredoc_names)
    dash = draw(st.sampled_from(["", "", "-"]))
    descriptor = draw(st.sampled_from(["", "", "", "3"]))
    plain = name.strip("'\"")
    end = draw(st.sampled_from([plain] * 8 + ["\t" + plain, plain + " "]))
    return f"{descriptor}<<{dash}{name}", f"{draw(_bodies)}{end}\n"


@st.composite
def transfers(draw: st.DrawFn) -> str:
    keyword, flags, sources, dest = draw(st.one_of(_copy, _add))
    docs = draw(st.one_of(st.just([]), st.just([]), st.lists(heredocs(), min_size=1, max_size=2)))
    if not docs and draw(st.integers(0, 7)) == 0:
        listed = ", ".join(f'"{word}"' for word in [*sources, dest])
        return f"{keyword} {' '.join([*flags, f'[{listed}]'])}\n"
    if docs:
        sources = sources[: draw(st.integers(0, 1))]
    head = " ".join([keyword, *flags, *sources, *(word for word, _ in docs), dest])
    return head + "\n" + "".join(body for _, body in docs)


_mount_fields = st.one_of(
    st.sampled_from(["target=/m", "target=/n", "ro", "source=a"]),
    st.sampled_from(["type=bind", "type=cache", "type=tmpfs", "type=secret", "type=ssh", "type=x"]),
    _sources.map("from={}".format),
    plain_paths.map("source={}".format),
    st.sampled_from(["target=/m", "dst=m/n", "destination=$A/m", "target=/", "target=/run/secrets/x", "src=/"]),
    st.sampled_from(["ro", "rw", "readonly=false", "readwrite=true", "required", "required=false", "ro=maybe"]),
    st.sampled_from(
        ["id=i", "id=$A", "sharing=locked", "sharing=private", "sharing=x", "size=1m", "size=10", "size=x"]
    ),
    st.sampled_from(
        ["mode=0700", "mode=9", "uid=1000", "gid=$B", "uid=x", "env=SEC", "env", "env=", '"target=/q,r"', ""]
    ),
)


@st.composite
def mounts(draw: st.DrawFn) -> str:
    good = [
        "type=bind,source=a,target=/m",
        "type=bind,from=rich,target=/m,rw",
        "target=/ctx",
        "type=cache,target=/root/.cache",
        "type=cache,id=x,target=c,sharing=locked,uid=5,mode=0700",
        "type=cache,target=/c,from=busybox,source=/x",
        "type=tmpfs,target=/t,size=1m",
        "type=secret,id=s",
        "type=secret,id=s,env=SEC,required",
        "type=secret,src=s,target=/s,uid=1,gid=2,mode=0444",
        "type=ssh",
        "type=ssh,id=default,required,target=/agent",
    ]
    if draw(st.integers(0, 9)):
        return draw(st.sampled_from(good))
    return ",".join(draw(st.lists(_mount_fields, min_size=1, max_size=4)))


_run_flags = [
    mounts().map("--mount={}".format),
    mounts().map("--mount={}".format),
    mostly(["--network=none", "--network=host", "--network=default"], ["--network=x"]),
    mostly(["--security=insecure", "--security=sandbox"], ["--security=x"]),
    mostly(
        ["--device=vendor.com/class=dev", "--device=name=v/c=d,required"], ["--device=a,b", "--device=a,required=x"]
    ),
]
_commands = mostly(
    [
        "echo $A",
        'echo "a" \\\n  b',
        '["sh", "-c", "x"]',
        "[not json",
        "true && \\\n# comment\n\n  false",
        "x | y > z",
        ": ${B}",
    ],
    ['["a", 1]', "[]", ""],
)


@st.composite
def runs(draw: st.DrawFn) -> str:
    flags = draw(_some(_run_flags, 2))
    docs = draw(st.one_of(st.just([]), st.just([]), st.lists(heredocs(), min_size=1, max_size=2)))
    command = draw(_commands)
    if docs:
        command = draw(st.sampled_from(["", "cat ", "python3 - "])) + " ".join(word for word, _ in docs)
        command += draw(st.sampled_from(["", "", " > x", " && y"]))
    return " ".join(["RUN", *flags, command]).rstrip() + "\n" + "".join(body for _, body in docs)


def _pairs(keyword: str) -> Text:
    pair = st.tuples(names, words()).map("=".join)
    many = st.lists(pair, min_size=1, max_size=3).map(lambda found: f"{keyword} {' '.join(found)}\n")
    legacy = st.tuples(names, words(blanks=True)).map(lambda found: f"{keyword} {found[0]} {found[1]}\n")
    return st.one_of(
        many, many, legacy, mostly([f"{keyword} a=b\n"], [f"{keyword} A\n", f"{keyword} =b\n", f"{keyword} a=b c\n"])
    )


def _with_words(keyword: str) -> Text:
    return words(blanks=True).map(lambda word: f"{keyword} {word}\n")


_args = st.one_of(
    names.map("ARG {}\n".format),
    st.tuples(names, words()).map(lambda found: f"ARG {found[0]}={found[1]}\n"),
    st.tuples(names, names).map(lambda found: f"# {found[1]} says what\nARG {found[0]}=1 {found[1]}\n"),
    mostly(["ARG a b=c d='e f'\n"], ["ARG\n", "ARG =x\n"]),
)
_fixed = mostly(
    [
        "EXPOSE 80 443/udp\n",
        "EXPOSE 8000-8002/TCP $A\n",
        "EXPOSE 127.0.0.1:80:80\n",
        "VOLUME /v $A\n",
        'VOLUME ["/a b", "$C"]\n',
        "STOPSIGNAL SIGTERM\n",
        "STOPSIGNAL $A\n",
        "HEALTHCHECK NONE\n",
        "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=1ms --start-interval=2s --retries=3 CMD curl $A\n",
        'HEALTHCHECK CMD ["a", "b"]\n',
        'SHELL ["/bin/bash", "-ec"]\n',
        "MAINTAINER some body\n",
        'CMD ["a", "b"]\n',
        "CMD a $B\n",
        'ENTRYPOINT ["a"]\n',
        "ENTRYPOINT a b\n",
        "CMD []\n",
        "USER app\n",
        "USER ${A}:1000\n",
        "WORKDIR /w\n",
        "WORKDIR rel/$A\n",
        "WORKDIR /\n",
        "WORKDIR ../x\n",
    ],
    [
        "EXPOSE x\n",
        "STOPSIGNAL 70\n",
        "HEALTHCHECK --interval=1ns CMD x\n",
        "HEALTHCHECK --retries=-1 CMD x\n",
        "SHELL bash\n",
        "SHELL []\n",
        "UNKNOWN x\n",
        "COPY\n",
        "COPY a\n",
        "WORKDIR\n",
    ],
)
plain_instructions = st.one_of(
    transfers(),
    transfers(),
    runs(),
    runs(),
    _pairs("ENV"),
    _pairs("LABEL"),
    _args,
    _fixed,
    _fixed,
    _with_words("WORKDIR"),
    _with_words("USER"),
)


@st.composite
def instructions(draw: st.DrawFn) -> str:
    """One instruction with all its lines, perhaps with a comment before it or in odd letters."""
    text = draw(plain_instructions)
    odd = draw(st.integers(0, 19))
    if odd == 0:
        text = "ONBUILD " + text
    elif odd == 1:
        keyword, _, rest = text.partition(" ")
        text = f"{keyword.lower()} {rest}"
    elif odd == 2:
        text = f"# A comment\n\n  {text}"
    elif odd == 3:
        text = text.replace(" ", " \\\n  # inside\n ", 1)
    elif odd == 4:
        text = text.replace(" ", " \t ", 1)
    elif odd == 5:
        text = text.replace("\n", "\r\n")
    return text


@st.composite
def stages(draw: st.DrawFn) -> str:
    base = draw(
        st.one_of(
            st.sampled_from(["busybox", "rich", "scratch", "bare", "arm", "triggers", "mounting", "both"]),
            mostly(["base", "build", "x-1", "a.b", "rich"], ["Final"]),
            mostly(["${BASE:-rich}", "busybox:1.2", "ctx", f"rich@sha256:{1:064x}", "busybox$TAG"], ["Bad", "$BASE"]),
        )
    )
    platform = draw(
        mostly([""] * 8 + ["$BUILDPLATFORM", "$TARGETPLATFORM", "linux/arm64", "linux/arm/v7"], ["nope/x/y/z", "$P"])
    )
    name = draw(st.one_of(st.just(""), stage_names))
    as_ = draw(st.sampled_from(["AS", "AS", "as"]))
    head = " ".join(["FROM", *([f"--platform={platform}"] if platform else []), base, *([as_, name] if name else [])])
    doc = f"# {name} is good\n" if name and draw(st.booleans()) else ""
    return f"{doc}{head}\n" + "".join(draw(st.lists(instructions(), max_size=5)))


_headers = mostly(
    [""] * 10
    + ["# escape=`\n", "# check=skip=all\n", "#!/usr/bin/env x\n", "\ufeff", "# syntax=docker/dockerfile:1\n"]
    + ["# Escape = \\\n# comment\n", "# check=skip=UndefinedVar;experimental=all\n", "\n# escape=`\n"],
    ["# escape=x\n", "# check=error=true\n", "# check=x\n", "# escape=`\n# escape=`\n"],
)
_globals = st.lists(
    mostly(
        [
            "ARG BASE=busybox\n",
            "ARG TAG\n",
            "ARG A=1\n",
            "ARG P=linux/arm64 C='c d'\n",
            "ARG B=$A\n",
            "ARG TARGETARCH\n",
        ],
        ["RUN x\n"],
    ),
    max_size=2,
).map("".join)


@st.composite
def dockerfiles(draw: st.DrawFn) -> str:
    """A whole file of one to four stages."""
    header = draw(_headers)
    text = draw(_globals) + "".join(draw(st.lists(stages(), min_size=1, max_size=4)))
    if "escape=`" in header and draw(st.booleans()):
        text = text.replace("\\", "`")
    return header + text
