"""The document of a shared cache: BuildKit's spelling, equal bytes for equal caches, nothing taken on trust."""

from __future__ import annotations

import pytest

from knarr.cache.sharedconfig import (
    Config,
    Layer,
    Link,
    Record,
    Result,
    decode_config,
    decode_inline,
    encode_config,
    encode_inline,
)
from knarr.errors import ContentError
from knarr.spec.digest import Digest

A, B = (Digest("sha256:" + letter * 64) for letter in "ab")
TIME = "2024-05-06T07:08:09.5Z"
SMALL = Config(
    (Layer(B), Layer(A, 0)),
    (
        Record("sha256:root"),
        Record("sha256:op", ((Link(0, "sel"), Link(0)),), (Result((0, 1), TIME),)),
    ),
)
# As BuildKit wrote it: sorted, a parent or a link of 0 … a parent of 0 is left out, a link of 0 is not.
SMALL_JSON = (
    f'{{"layers":[{{"blob":"{A}","parent":1}},{{"blob":"{B}","parent":-1}}],'
    f'"records":[{{"layers":[{{"layer":0,"createdAt":"{TIME}"}}],"digest":"sha256:op",'
    '"inputs":[[{"link":1},{"selector":"sel","link":1}]]},{"digest":"sha256:root"}]}'
)


def test_the_text_is_buildkits() -> None:
    assert encode_config(SMALL).decode() == SMALL_JSON


def test_a_parent_that_is_left_out_is_the_first_layer() -> None:
    raw = b'{"layers":[{"blob":"%s","parent":-1},{"blob":"%s"}],"records":[{"digest":"x","layers":[{"layer":1}]}]}'
    config = decode_config(raw % (A.encode(), B.encode()))
    assert config.layers == (Layer(A), Layer(B, 0))
    assert config.layers_of(config.records[0].results[0]) == (Layer(A), Layer(B, 0))


def test_order_does_not_matter() -> None:
    shuffled = Config(
        (Layer(A, 1), Layer(B)),
        (Record("sha256:op", ((Link(1), Link(1, "sel")),), (Result((1, 0), TIME),)), Record("sha256:root")),
    )
    assert encode_config(shuffled) == encode_config(SMALL)


def test_what_is_written_is_read() -> None:
    assert encode_config(decode_config(encode_config(SMALL))) == encode_config(SMALL)


def test_inline_records_name_the_layers_of_their_image() -> None:
    records = (Record("x", (), (Result((0, 1), TIME), Result((1,), is_chain=True))),)
    raw = encode_inline(Config((), records))
    assert b'"chains":[{"layers":[1]' in raw
    config = decode_inline(raw, [B, A])
    assert config.layers == (Layer(B), Layer(A, 0))
    first, second = config.records[0].results
    assert config.layers_of(first) == (Layer(B), Layer(A, 0))
    assert config.layers_of(second) == (Layer(A, 0),)


def test_layers_upon_layers_are_refused() -> None:
    tower = ",".join(f'{{"blob":"{A}","parent":{at - 1}}}' for at in range(5_000))
    with pytest.raises(ContentError, match="on top of"):
        decode_config(f'{{"layers":[{tower}]}}'.encode())
    downward = ",".join(f'{{"blob":"{A}","parent":{at + 1}}}' for at in range(5_000))
    with pytest.raises(ContentError, match="on top of"):
        decode_config(f'{{"layers":[{downward}]}}'.encode())


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        '{"layers":7}',
        '{"layers":[{}]}',
        '{"layers":[{"blob":"sha256:short"}]}',
        f'{{"layers":[{{"blob":"{A}","parent":5}}]}}',
        f'{{"layers":[{{"blob":"{A}","parent":-2}}]}}',
        f'{{"layers":[{{"blob":"{A}"}}]}}',  # on top of itself
        f'{{"layers":[{{"blob":"{A}","parent":1}},{{"blob":"{B}"}}]}}',
        '{"records":[7]}',
        '{"records":[{"inputs":[[{"link":1}]]}]}',
        '{"records":[{"inputs":[[{"link":-1}]]}]}',
        '{"records":[{"inputs":[[{"link":"x"}]]}]}',
        '{"records":[{"layers":[{"layer":0}]}]}',
        '{"records":[{"layers":[{}]}]}',
        '{"records":[{"chains":[{"layers":[0]}]}]}',
        "[" * 100_000,
    ],
)
def test_a_wrong_document_is_refused(raw: str) -> None:
    with pytest.raises(ContentError):
        decode_config(raw.encode())
