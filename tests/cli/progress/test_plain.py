"""Plain lines: BuildKit's look, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.cli.progress.plain import Plain
from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned

START = 1_700_000_000_000_000_000


def at(seconds: float) -> int:
    return START + round(seconds * 1e9)


def shown(*batches: tuple[float, Sequence[Event]]) -> str:
    """What is printed when `events` come in batches, each (seconds, events)."""
    plain = Plain()
    out = b"".join(plain.render(events, at(seconds)) for seconds, events in batches)
    return (out + plain.close(at(batches[-1][0]))).decode()


def test_a_build_looks_as_with_buildkit() -> None:
    text = shown(
        (0.0, [VertexStarted("d", "[internal] load build definition from Dockerfile", at_ns=at(0))]),
        (0.1, [Status("d", "transferring dockerfile:", 264, done=True, started_ns=at(0), at_ns=at(0))]),
        (0.1, [Warned("d", "JSONArgsRecommended: JSON arguments recommended", line=11), VertexDone("d", at_ns=at(0))]),
        (0.2, [VertexStarted("r", "[build 2/3] RUN make", at_ns=at(0.2))]),
        (0.3, [Log("r", 1, b"one\ntwo\n", at(0.258))]),
        (0.9, [Log("r", 2, b"no newline", at(0.559)), VertexDone("r", at_ns=at(0.6))]),
        (1.0, [VertexStarted("c", "[build 3/3] COPY a /a", at_ns=at(1)), VertexDone("c", cached=True, at_ns=at(1))]),
    )
    assert text == (
        "#1 [internal] load build definition from Dockerfile\n"
        "#1 transferring dockerfile: 264B done\n"
        "#1 WARN: JSONArgsRecommended: JSON arguments recommended (line 11)\n"
        "#1 DONE 0.0s\n"
        "\n"
        "#2 [build 2/3] RUN make\n"
        "#2 0.058 one\n"
        "#2 0.058 two\n"
        "#2 0.359 no newline\n"
        "#2 DONE 0.4s\n"
        "\n"
        "#3 [build 3/3] COPY a /a\n"
        "#3 CACHED\n"
    )


def test_a_step_that_is_left_is_taken_up_again() -> None:
    text = shown(
        (0.0, [VertexStarted("a", "A", at_ns=at(0)), VertexStarted("b", "B", at_ns=at(0))]),
        (0.1, [Log("a", 1, b"first\n", at(0.1))]),
        (0.2, [VertexDone("b", at_ns=at(0.2))]),
        (0.3, [Log("a", 1, b"second\n", at(0.3)), VertexDone("a", at_ns=at(0.3))]),
    )
    assert text == ("#1 A\n#1 0.100 first\n#1 ...\n\n#2 B\n#2 DONE 0.2s\n\n#1 A\n#1 0.300 second\n#1 DONE 0.3s\n")


def test_the_output_of_another_step_waits_but_not_for_long() -> None:
    plain = Plain()
    plain.render([VertexStarted("a", "A", at_ns=at(0)), VertexStarted("b", "B", at_ns=at(0))], at(0))
    assert plain.render([Log("b", 1, b"hidden\n", at(1))], at(1)) == b""
    assert plain.render([], at(4)) == b""
    assert plain.render([], at(6.1)) == b"#1 ...\n\n#2 B\n#2 1.000 hidden\n"


def test_a_failed_step_says_why() -> None:
    text = shown((0, [VertexStarted("a", "A", at_ns=at(0)), VertexDone("a", error="exit code: 7", at_ns=at(0))]))
    assert text == "#1 A\n#1 ERROR: exit code: 7\n"


def test_a_cancelled_step_says_so() -> None:
    text = shown((0, [VertexStarted("a", "A", at_ns=at(0)), VertexDone("a", cancelled=True, at_ns=at(0))]))
    assert text.endswith("#1 CANCELED\n")


def test_bytes_are_told_now_and_then_and_at_the_end() -> None:
    plain = Plain()
    plain.render([VertexStarted("p", "pull", at_ns=at(0))], at(0))

    def counted(current: int, seconds: float, *, done: bool = False) -> bytes:
        event = Status("p", "sha256:abc", current, 2_100_000, done, at(0), at(seconds))
        return plain.render([event], at(seconds))

    assert counted(100, 0.5) == b""
    assert counted(1_040_000, 1.5) == b"#1 sha256:abc 1.04MB / 2.10MB 1.5s\n"
    assert counted(1_500_000, 3) == b""
    assert counted(1_600_000, 6.6) == b"#1 sha256:abc 1.60MB / 2.10MB 6.6s\n"
    assert counted(2_100_000, 7, done=True) == b"#1 sha256:abc 2.10MB / 2.10MB 7.0s done\n"


def test_a_counter_without_a_step_is_a_step() -> None:
    text = shown((0, [Status("pull busybox", "sha256:abc", 5, 5, True, at(0), at(0))]))
    assert text == "#1 pull busybox\n#1 sha256:abc 5B / 5B done\n#1 DONE 0.0s\n"


def test_a_question_without_a_newline_is_shown_after_a_second() -> None:
    plain = Plain()
    plain.render([VertexStarted("a", "A", at_ns=at(0)), Log("a", 1, b"Continue? [y/N] ", at(0.5))], at(0.5))
    assert plain.render([], at(1)) == b""
    assert plain.render([], at(1.6)) == b"#1 0.500 Continue? [y/N] \n"


def test_characters_cut_in_two_are_joined() -> None:
    heart = "❤\n".encode()
    text = shown(
        (0, [VertexStarted("a", "A", at_ns=at(0)), Log("a", 1, heart[:1], at(0))]),
        (0.1, [Log("a", 1, heart[1:], at(0.1)), VertexDone("a", at_ns=at(0.1))]),
    )
    assert "#1 0.000 ❤\n" in text


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(
        st.tuples(st.sampled_from("abc"), st.text("xy\n", max_size=8), st.floats(0, 3)), min_size=1, max_size=40
    )
)
def test_no_output_is_ever_lost(chunks: list[tuple[str, str, float]]) -> None:
    plain, out, now = Plain(), [], 0.0
    out.append(plain.render([VertexStarted(id, f"step {id}", at_ns=at(0)) for id in "abc"], at(0)))
    for id, text, pause in chunks:
        now += pause
        out.append(plain.render([Log(id, 1, text.encode(), at(now))] if text else [], at(now)))
    out.append(plain.render([VertexDone(id, at_ns=at(now)) for id in "abc"], at(now)))
    out.append(plain.close(at(now)))
    lines = b"".join(out).decode().splitlines()
    numbers = {line.split(" step ")[1]: line.split()[0] for line in lines if " step " in line}
    for id in "abc":
        told = [line.split(" ", 2)[2] for line in lines if line.startswith(f"{numbers[id]} ") and _is_log(line)]
        sent = "".join(text for other, text, _ in chunks if other == id)
        assert "".join(told) == sent.replace("\n", "")
        assert lines.count(f"{numbers[id]} DONE {now:.1f}s") == 1


def _is_log(line: str) -> bool:
    words = line.split(" ", 2)
    return len(words) == 3 and words[1].replace(".", "").isdigit()
