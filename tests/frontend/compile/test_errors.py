"""What a person is told: the line, the fact, the way out."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.errors import DockerfileError, KnarrError, NotFound, RegistryError, Unsupported, UsageError
from knarr.frontend.bridge import ResolvedImage
from knarr.spec.platform import Platform

# text, the line, the message, the hint (or a part of it)
WRONG = {
    "later stage": (
        "FROM x AS a\nCOPY --from=b /f /f\nFROM x AS b\nRUN y\nFROM a\n",
        2,
        'cannot copy from stage "b", it needs to be defined before current stage "a"',
        "move that stage up",
    ),
    "mount of a later stage": (
        "FROM x AS a\nRUN --mount=from=b,target=/m y\nFROM x AS b\nFROM a\n",
        2,
        'cannot mount from stage "b" to "/m", stage needs to be defined before current command',
        "move that stage up",
    ),
    "circle": (
        "FROM x AS a\nCOPY --from=b /f /f\nFROM x AS b\nRUN --mount=from=a,target=/m y\n",
        4,
        "circular dependency detected on stage: a",
        "before it only",
    ),
    "itself": ("FROM x AS a\nCOPY --from=a /f /f\n", 2, "circular dependency detected on stage: a", "before it only"),
    "no such index": ("FROM x\nCOPY --from=7 /f /f\n", 2, "invalid stage index 7", "count from 0"),
    "variable in from": (
        "FROM x\nARG V=a\nCOPY --from=$V /f /f\n",
        3,
        "variable expansion is not supported for --from",
        "FROM $V AS some-name",
    ),
    "empty base": ("FROM $NOPE\n", 1, "base name ($NOPE) should not be blank", "declare it with ARG"),
    "misspelt base": ("ARG IMAGE\nFROM $IMAGES\n", 2, "base name ($IMAGES) should not be blank", "declare it"),
    "misspelt declared base": (
        "ARG IMAGE=x\nFROM $IMAGES\n",
        2,
        "base name ($IMAGES) should not be blank",
        "did you mean IMAGE?",
    ),
    "base in capitals": ("FROM BusyBox\n", 1, "neither a stage nor the name of an image", ""),
    "misspelt platform": (
        "FROM --platform=$BUILDPLATFROM x\n",
        1,
        "empty platform value from expression $BUILDPLATFROM",
        "did you mean BUILDPLATFORM?",
    ),
    "no platform": ("FROM --platform=linux/a/b/c x\n", 1, "failed to parse platform linux/a/b/c", "os/arch"),
    "mode": ("FROM x\nCOPY --chmod=99999 a b\n", 2, "invalid chmod parameter: '99999'", "u=rwX"),
    "symbolic mode": ("FROM x\nCOPY --chmod=u~x a b\n", 2, "invalid chmod parameter: 'u~x'", "u=rwX"),
    "COPY of a URL": ("FROM x\nCOPY https://h/f /\n", 2, "source can't be a URL for COPY", "ADD downloads"),
    "COPY of git": ("FROM x\nCOPY https://h/f.git /\n", 2, "source can't be a git ref for COPY", "ADD fetches"),
    "checksum of a file": ("FROM x\nADD --checksum=sha256:00 a b\n", 2, "checksum requires HTTP(S) or Git", ""),
    "short checksum": ("FROM x\nADD --checksum=sha256:00 http://h/a b\n", 2, "is not a sha256 digest", ""),
    "two checksums": (
        "FROM x\nADD --checksum=a https://h/r.git?checksum=b /\n",
        2,
        'checksum mismatch "a" != "b"',
        "",
    ),
    "git directory kept or not": (
        "FROM x\nADD --keep-git-dir=false https://h/r.git?keep-git-dir /\n",
        2,
        "inconsistent keep-git-dir configuration",
        "",
    ),
    "port": ("FROM x\nEXPOSE 70000\n", 2, "invalid containerPort: 70000", "0 to 65535"),
    "protocol": ("FROM x\nEXPOSE 80/icmp\n", 2, "invalid proto: icmp", "tcp, udp or sctp"),
    "signal": ("FROM x\nSTOPSIGNAL SIGFOO\n", 2, "invalid signal: SIGFOO", "SIGTERM"),
    "signal zero": ("FROM x\nSTOPSIGNAL 0\n", 2, "invalid signal: 0", "SIGTERM"),
    "empty volume": ("FROM x\nVOLUME $NOPE\n", 2, "VOLUME specified can not be an empty string", ""),
    "mount over the root": ("FROM x\nRUN --mount=type=cache,target=/ y\n", 2, 'invalid mount target "/"', "target="),
    "ssh source": ("FROM x\nRUN --mount=type=ssh,source=s y\n", 2, "ssh does not support source", "id=NAME"),
    "required variable": ("FROM x\nENV A=${B:?needed}\n", 2, "B: needed", ""),
    "global argument": ("ARG A=${B:?needed}\nFROM x\n", 1, "B: needed", ""),
    "no stage": ("ARG A\n", 1, "dockerfile contains no stages to build", "one FROM"),
}


@pytest.mark.parametrize(("text", "line", "message", "hint"), WRONG.values(), ids=WRONG.keys())
def test_wrong_lines_are_named_and_quoted(compiled: Any, text: str, line: int, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        compiled(text)

    error = caught.value
    assert message in error.message
    assert hint in error.hint
    assert error.span is not None
    assert error.span.first == line
    assert f">>> {text.splitlines()[line - 1]}" in error.render()


def test_a_target_that_is_no_stage_names_the_nearest(compiled: Any) -> None:
    with pytest.raises(UsageError, match='target stage "prd" could not be found') as caught:
        compiled("FROM x AS prod\n", target="prd")

    assert caught.value.hint == "did you mean prod?"


def test_a_target_that_is_like_no_stage_lists_them(compiled: Any) -> None:
    with pytest.raises(UsageError) as caught:
        compiled("FROM x AS one\nFROM x AS two\n", target="elsewhere")

    assert caught.value.hint == "the stages are one, two"


def test_a_missing_image_may_be_a_misspelt_stage(compiled: Any, dict_bridge: Any) -> None:
    bridge = dict_bridge({"busybox": {}}, any_image=False)

    with pytest.raises(NotFound) as caught:
        compiled("FROM busybox AS builder\nFROM busybox\nCOPY --from=bulder /f /f\n", bridge=bridge)

    assert caught.value.hint == "did you mean builder?"
    assert caught.value.span is not None
    assert caught.value.span.first == 3


def test_what_a_registry_says_gets_the_line(compiled: Any) -> None:
    class Deaf:
        def image_config(self, reference: object, platform: object) -> ResolvedImage:
            raise RegistryError(f"{reference}: no answer", temporary=True)

        def read(self, source: str, path: str) -> bytes | None:
            return None

    with pytest.raises(RegistryError) as caught:
        compiled("FROM a\nCOPY --from=b / /\nCOPY --from=c / /\n", bridge=Deaf())

    assert caught.value.span is not None
    assert caught.value.span.first == 1
    assert caught.value.temporary


def test_a_trigger_that_cannot_be_read_is_told_at_the_from(compiled: Any, dict_bridge: Any) -> None:
    config = {"architecture": "amd64", "os": "linux", "config": {"OnBuild": ["FOO bar"]}}

    with pytest.raises(DockerfileError, match="ONBUILD trigger of t: unknown instruction: FOO") as caught:
        compiled("FROM t\n", bridge=dict_bridge({"t": {"config": config}}))

    assert caught.value.span is not None
    assert caught.value.span.first == 1


def test_devices_are_refused_by_name(compiled: Any) -> None:
    with pytest.raises(Unsupported, match="--device") as caught:
        compiled("FROM x\nRUN --device=vendor.com/class=name y\n")

    assert caught.value.span is not None


def test_a_context_of_an_unknown_kind_is_refused(compiled: Any) -> None:
    with pytest.raises(Unsupported, match="build context ctx=tape:/dev/st0") as caught:
        compiled("FROM ctx\n", contexts={"ctx": "tape:/dev/st0"})

    assert "docker-image://" in caught.value.hint


def test_an_epoch_must_be_seconds(compiled: Any) -> None:
    with pytest.raises(UsageError, match="invalid SOURCE_DATE_EPOCH: yesterday"):
        compiled("FROM x\n", build_args={"SOURCE_DATE_EPOCH": "yesterday"})


def test_nothing_but_messages_reaches_a_person(compiled: Any) -> None:
    with pytest.raises(KnarrError) as caught:
        compiled("FROM x\nEXPOSE http\n", platforms=(Platform("linux", "arm64"),))

    assert "Traceback" not in caught.value.render()


def test_an_exception_of_nothing_in_the_ignore_file_is_refused(compiled: Any) -> None:
    with pytest.raises(UsageError, match=r'illegal exclusion pattern "!" in \.dockerignore'):
        compiled("FROM x\n", dockerignore=b"*.md\n!\n")
