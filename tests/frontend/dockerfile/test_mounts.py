"""`RUN --mount` and `--device`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.instructions import RunDevice, RunMount
from knarr.frontend.dockerfile.mounts import csv_fields, read_device, read_mount, read_mount_text


def mount(text: str, **env: str) -> RunMount:
    return read_mount(text, lambda value: env.get(value.removeprefix("$"), value))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("target=/x", {"target": "/x"}),
        ("dst=/x,src=y,from=stage", {"target": "/x", "source": "y", "from_": "stage"}),
        ("destination=/x,rw", {"target": "/x", "readonly": False}),
        ("readwrite=false", {}),
        ("TYPE=Cache,Target=/x", {"type": "cache", "target": "/x", "readonly": False}),
        ("type=cache,id=a,sharing=Locked,ro", {"type": "cache", "id": "a", "sharing": "locked"}),
        ("type=cache,mode=0755,uid=5,gid=6", {"type": "cache", "mode": 0o755, "uid": 5, "gid": 6, "readonly": False}),
        ("type=tmpfs,size=1m", {"type": "tmpfs", "size_bytes": 2**20, "readonly": False}),
        ("type=tmpfs,size=1.5GiB", {"type": "tmpfs", "size_bytes": 3 * 2**29, "readonly": False}),
        ("type=tmpfs,size=512", {"type": "tmpfs", "size_bytes": 512, "readonly": False}),
        ("type=secret,id=a,required", {"type": "secret", "id": "a", "required": True}),
        ("type=secret,id=a,env=TOKEN", {"type": "secret", "id": "a", "env": "TOKEN"}),
        ("type=secret,src=a,required=0", {"type": "secret", "source": "a"}),
        ("type=ssh,mode=0600,required=true", {"type": "ssh", "mode": 0o600, "required": True}),
        ('"target=/a,b"', {"target": "/a,b"}),
    ],
)
def test_a_mount_reads_as(text: str, fields: dict[str, Any]) -> None:
    assert mount(text) == RunMount(**fields)


def test_values_are_expanded_and_keys_are_not() -> None:
    assert mount("type=$T,target=$D", T="cache", D="/c") == RunMount(type="cache", target="/c", readonly=False)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("type=bnd", 'unsupported mount type "bnd"', "did you mean bind?"),
        ("type=volume", 'unsupported mount type "volume"', "known are bind"),
        ("type=cache,sharing=lock", 'unsupported sharing value "lock"', "did you mean locked?"),
        ("taget=/x", "unexpected key 'taget' in 'taget=/x'", "did you mean target?"),
        ("target", "invalid field 'target' must be a key=value pair", ""),
        ("", "empty value", ""),
        ("target=/x,", "invalid field ''", ""),
        ("required", "unexpected key 'required' for mount type 'bind'", "type=secret"),
        ("required,type=secret,id=a", "unexpected key 'required' for mount type 'bind'", "it belongs to"),
        ("type=cache,size=1m", "unexpected key 'size' for mount type 'cache'", "type=tmpfs"),
        ("type=tmpfs,size=big", "invalid value for size: big", ""),
        ("type=cache,mode=0888", "invalid value 0888 for mode", "octal"),
        ("type=cache,uid=-1", "invalid value -1 for uid", ""),
        ("type=cache,uid=4294967296", "invalid value 4294967296 for uid", ""),
        ("ro=yes", "invalid value for ro: yes", "true or false"),
        ("mode=0755", 'mode not allowed for "bind" type mounts', ""),
        ("type=secret", "one of source, target required", "id="),
        ("type=secret,id=a,src=b", "both source and id can't be set", ""),
        ("type=secret,id=a,from=b", "secret mount should not have a from", ""),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing", ""),
        ("sharing=shared", "invalid cache sharing set for bind mount", ""),
        ('a"b', 'bare " in a field', ""),
        ('"a', "quoted field", ""),
        ('"a"b', "quoted field", ""),
    ],
)
def test_a_bad_mount_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        mount(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_where_a_mount_comes_from_is_known_before_variables_are() -> None:
    assert read_mount_text("type=$T,from=base,target=$X").from_ == "base"
    assert read_mount_text("from=a,FROM=b").from_ == "b"
    assert read_mount_text("target=/x").from_ == ""
    with pytest.raises(DockerfileError, match="doesn't support variable expansion"):
        read_mount_text("from=$BASE")


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("vendor.com/class=name", RunDevice("vendor.com/class=name")),
        ("name=vendor.com/class,required", RunDevice("vendor.com/class", required=True)),
        ("vendor.com/class,required=false", RunDevice("vendor.com/class")),
    ],
)
def test_a_device_reads_as(text: str, device: RunDevice) -> None:
    assert read_device(text) == device


@pytest.mark.parametrize("text", ["a,b", "a,name=b", "a,requierd=1", "", "a,required=maybe"])
def test_a_bad_device_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError):
        read_device(text)


@given(st.lists(st.text(alphabet='a", =', max_size=5), min_size=1, max_size=4).filter(lambda fields: fields != [""]))
@settings(deadline=None, max_examples=200)
def test_csv_gives_back_what_was_quoted(fields: list[str]) -> None:
    text = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert csv_fields(text) == fields


TYPES = ["type=cache", "type=secret", "type=ssh", "type=tmpfs", "type=x"]
OTHERS = ["target=/x", "id=a", "src=b", "from=c", "ro", "rw", "required", "size=1k", "mode=0700", "uid=1", "env=E"]
FIELDS = st.sampled_from([*TYPES, *OTHERS, "sharing=private", "x", "="])


@given(st.lists(FIELDS, min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
def test_what_is_accepted_goes_together(fields: list[str]) -> None:
    try:
        read = mount(",".join(fields))
    except DockerfileError:
        return
    assert read.sharing == "" or read.type == "cache"
    assert read.type != "secret" or (read.from_ == "" and (read.id or read.source or read.target))
    assert read.mode is None or read.type in ("cache", "secret", "ssh")
