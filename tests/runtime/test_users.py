from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import KnarrError, LayerInvalid, NotFound
from knarr.runtime.users import User, lookup_group, lookup_user, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
+@nis
broken line
short:x:5
notanumber:x:abc:1::/:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
nohome:x:1002:1002:::
1003:x:2003:2003:a name that looks like a number:/h:/bin/sh
twin:x:1000:9:second of the same number:/other:/bin/sh
"""
GROUP = """root:x:0:
app:x:1001:
extra:x:2000:other,app
empty:x:2001:
last:x:2002:app
broken
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, (), "/root")),
        ("root", User(0, 0, (), "/root")),
        ("app", User(1000, 1001, (2000, 2002), "/home/app")),
        ("1000", User(1000, 1001, (2000, 2002), "/home/app")),
        ("app:", User(1000, 1001, (2000, 2002), "/home/app")),
        ("app:extra", User(1000, 2000, (), "/home/app")),
        ("app:77", User(1000, 77, (), "/home/app")),
        ("nohome", User(1002, 1002, (), "/")),
        ("4711", User(4711, 0, (), "/")),
        ("4711:4712", User(4711, 4712, (), "/")),
        ("0:0", User(0, 0, (), "/root")),
    ],
)
def test_who_a_user_is(image: Path, text: str, expected: User) -> None:
    assert resolve_user(image, text) == expected


@pytest.mark.parametrize("text", ["nobody", "app:nogroup", "short", "notanumber", "broken line", "#"])
def test_unknown_names_are_named(image: Path, text: str) -> None:
    with pytest.raises(NotFound, match=r"not in the image's /etc/(passwd|group)"):
        resolve_user(image, text)


def test_an_image_without_files_knows_root_and_numbers(tmp_path: Path) -> None:
    assert resolve_user(tmp_path, "") == User(0, 0, (), "/")
    assert resolve_user(tmp_path, "5:6") == User(5, 6, (), "/")
    with pytest.raises(NotFound):
        resolve_user(tmp_path, "app")


def test_lookups_for_chown(image: Path) -> None:
    assert (lookup_user(image, "app"), lookup_user(image, "77")) == ((1000, 1001), (77, 77))
    assert (lookup_group(image, "extra"), lookup_group(image, "78")) == (2000, 78)
    with pytest.raises(NotFound, match="group nobody"):
        lookup_group(image, "nobody")


@pytest.mark.parametrize("text", ["4294967295", "99999999999999999999", "1:4294967295"])
def test_numbers_beyond_the_kernels_are_refused(image: Path, text: str) -> None:
    with pytest.raises(KnarrError, match="not a user or group number"):
        resolve_user(image, text)


def test_a_passwd_that_points_outside_is_looked_for_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("evil:x:0:0::/:/bin/sh\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    os.symlink(outside, root / "etc/passwd")
    with pytest.raises(NotFound):
        resolve_user(root, "evil")
    (root / "etc/passwd").unlink()
    os.symlink("../../../../../usr/lib/passwd", root / "etc/passwd")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/passwd").write_text("good:x:7:7::/:/bin/sh\n")
    assert resolve_user(root, "good").uid == 7


def test_hostile_files_neither_hang_nor_fill_the_memory(image: Path) -> None:
    passwd = image / "etc/passwd"
    passwd.unlink()
    os.mkfifo(passwd)
    with pytest.raises(KnarrError, match="not a regular file"):
        resolve_user(image, "app")
    passwd.unlink()
    passwd.mkdir()
    with pytest.raises(KnarrError, match="not a regular file"):
        resolve_user(image, "app")
    passwd.rmdir()
    os.symlink("passwd", passwd)
    with pytest.raises(LayerInvalid, match="symbolic links"):
        resolve_user(image, "app")
    passwd.unlink()
    with open(passwd, "wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(KnarrError, match="larger than 10 MiB"):
        resolve_user(image, "app")


@given(
    st.binary(max_size=300), st.text(st.characters(blacklist_characters=":", blacklist_categories=["Cs"]), max_size=9)
)
@settings(max_examples=80, deadline=None)
def test_no_passwd_breaks_the_parser(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    root = tmp_path_factory.mktemp("image")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_bytes(data)
    (root / "etc/group").write_bytes(data)
    try:
        user = resolve_user(root, name)
    except KnarrError:
        return
    assert 0 <= user.uid < 2**32 - 1
