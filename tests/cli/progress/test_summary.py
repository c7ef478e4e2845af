"""The last lines of a build."""

from __future__ import annotations

from knarr.cli.progress.steps import Steps
from knarr.cli.progress.summary import Result, summary_text, warnings_text
from knarr.progress import VertexDone, VertexStarted, Warned

START = 1_700_000_000_000_000_000


def steps() -> Steps:
    """A build of three steps and one of knarr's own: one cached, one long."""
    known = Steps()
    for id, name, seconds, cached in (
        ("i", "[internal] load build context", 9, False),
        ("a", "[1/3] FROM base", 0, True),
        ("b", "[2/3] RUN make   all \\\n " + "x" * 200, 4.2, False),
        ("c", "[3/3] COPY a /a", 0.1, False),
    ):
        known.apply(VertexStarted(id, name, at_ns=START), START)
        known.apply(VertexDone(id, cached=cached, at_ns=START + int(seconds * 1e9)), START)
    return known


def test_what_was_built_and_where_the_time_went() -> None:
    result = Result("sha256:abc", ("r.example/a:1",), pushed=True, size_bytes=1_040_000, platforms=("linux/arm64",))
    lines = summary_text(steps(), result, {"compile": 0.1, "solve": 4.3}, 4.5).splitlines()
    assert lines[:6] == [
        "",
        "Built linux/arm64 in 4.5s (3 steps, 1 cached)",
        "  pushed  r.example/a:1",
        "  digest  sha256:abc",
        "  size    1.04MB",
        "  time    compile 0.1s, solve 4.3s",
    ]
    assert lines[6].startswith("          4.2s [2/3] RUN make all \\ xxx")
    assert len(lines[6]) < 110


def test_without_names_the_digest_stands_alone() -> None:
    assert summary_text(Steps(), Result("sha256:abc"), {}, 0.04).splitlines() == [
        "",
        "Built in 0.0s",
        "  digest  sha256:abc",
    ]


def test_warnings_are_listed_once_more() -> None:
    known = Steps()
    assert warnings_text(known) == ""
    known.apply(Warned("d", "StageNameCasing: lower-case it", line=1), START)
    assert warnings_text(known) == "\n 1 warning found:\n - StageNameCasing: lower-case it (line 1)"
    known.apply(Warned("d", "Other"), START)
    assert warnings_text(known).splitlines()[1:] == [
        " 2 warnings found:",
        " - StageNameCasing: lower-case it (line 1)",
        " - Other",
    ]
