"""Flags of instructions."""

from __future__ import annotations

import pytest

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.flags import KNOWN, Kind, read_flags

EVERY = [(keyword, name, kind) for keyword, flags in KNOWN.items() for name, kind in flags.items()]


@pytest.mark.parametrize(("keyword", "name", "kind"), EVERY)
def test_every_flag_is_read_as_its_kind_says(keyword: str, name: str, kind: Kind) -> None:
    if kind is Kind.BOOL:
        assert read_flags(keyword, [f"--{name}"]).truth(name) is True
        assert read_flags(keyword, [f"--{name}=FALSE"]).truth(name) is False
        assert read_flags(keyword, []).truth(name) is None
    elif kind is Kind.LIST:
        assert read_flags(keyword, [f"--{name}=a", f"--{name}=b"]).many(name) == ("a", "b")
    else:
        assert read_flags(keyword, [f"--{name}=a=b"]).text(name) == "a=b"
        assert read_flags(keyword, [f"--{name}="]).text(name, "default") == ""


@pytest.mark.parametrize(
    ("keyword", "words", "message", "hint"),
    [
        ("COPY", ["--form=x"], "unknown flag: --form", "did you mean from?"),
        ("COPY", ["--From=x"], "unknown flag: --From", "did you mean from?"),
        ("COPY", ["--checksum=x"], "unknown flag: --checksum", "COPY knows --chmod"),
        ("USER", ["--x"], "unknown flag: --x", "USER has no flags"),
        ("COPY", ["--from=a", "--from=b"], "duplicate flag specified: --from", ""),
        ("COPY", ["--link", "--link"], "duplicate flag specified: --link", ""),
        ("COPY", ["--from"], "missing a value on flag: --from", ""),
        ("COPY", ["--link="], "missing a value on flag: --link", ""),
        ("COPY", ["--link=yes"], "expecting boolean value for flag --link, not: yes", ""),
        ("COPY", ["--exclude"], "missing a value on flag: --exclude", ""),
    ],
)
def test_a_bad_flag_is_refused(keyword: str, words: list[str], message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        read_flags(keyword, words)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)
