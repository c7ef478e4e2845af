"""The list of components, and what is chosen from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.node import components

OWN = Path(components.__file__).with_name("components.toml").read_text()
SHA256 = "ab" * 32
SMALL = f"""
suite = "trixie"
python = "3.13"
system = ["dash"]
[[component]]
name = "tool"
version = "1.0"
url = "https://example.com/{{version}}/tool-{{arch}}.tar.gz"
files = {{ tool = "usr/local/bin/tool" }}
sha256 = {{ amd64 = "{SHA256}" }}
"""


def test_our_own_list_has_what_a_node_needs_for_both_architectures() -> None:
    listed = components.for_architectures(components.read(OWN), ("amd64", "arm64"))
    names = {each.name for each in listed.components}
    assert names >= {"containerd", "runc", "crun", "cni-plugins", "crictl", "nerdctl", "buildctl", "fuse-overlayfs"}
    assert all(set(each.sha256) >= {"amd64", "arm64"} for each in listed.components)


def test_an_archives_address_names_its_version_and_architecture() -> None:
    (tool,) = components.read(SMALL).components
    assert tool.address("amd64") == "https://example.com/1.0/tool-amd64.tar.gz"


@pytest.mark.parametrize(
    ("without", "versions", "words"),
    [
        ((), {"contanerd": "1"}, ("component contanerd: not in the list", "did you mean containerd?")),
        (("runk",), {}, ("component runk: not in the list", "did you mean runc?")),
        (("runc",), {"runc": "1"}, ("component runc: asked for, and left out", "")),
        ((), {"nerdctl": "9.9"}, ("component nerdctl=9.9: its checksum is not in the list", "--checksum nerdctl/ARCH")),
    ],
)
def test_what_cannot_be_chosen_is_told(
    without: tuple[str, ...], versions: dict[str, str], words: tuple[str, str]
) -> None:
    with pytest.raises(UsageError) as caught:
        components.choose(components.read(OWN), versions=versions, without=without)
    assert words[0] in caught.value.message
    assert words[1] in caught.value.hint


def test_another_version_of_a_package_has_no_checksum_of_ours() -> None:
    chosen = components.choose(components.read(OWN), versions={"runc": "1.2"}, without=("crun",))
    found = {each.name: each for each in chosen.components}
    assert (found["runc"].version, dict(found["runc"].sha256)) == ("1.2", {})
    assert "crun" not in found


def test_another_version_of_an_archive_comes_with_its_checksum() -> None:
    given = {("tool", "amd64"): "cd" * 32}
    chosen = components.choose(components.read(SMALL), versions={"tool": "2.0"}, checksums=given)
    assert chosen.components[0].sha256 == {"amd64": "cd" * 32}


def test_what_is_asked_for_by_name_is_not_left_out() -> None:
    chosen = components.choose(components.read(OWN), versions={"nerdctl": ""})
    assert not next(each for each in chosen.components if each.name == "nerdctl").optional


def test_an_architecture_that_is_not_listed_is_refused_or_for_what_is_optional_left_out() -> None:
    listed = components.read(SMALL)
    with pytest.raises(UsageError, match=r"component tool 1.0: not listed for arm64, only for amd64"):
        components.for_architectures(listed, ("amd64", "arm64"))
    optional = components.read(SMALL + "optional = true\n")
    assert components.for_architectures(optional, ("amd64", "arm64")).components == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("suite", "[suite", "list.toml: "),
        ('suite = "trixie"', "", "list.toml: suite is missing"),
        ("url =", "adress =", "component tool: adress is not known"),
        (SHA256, "ab", "the sha256 of amd64 has not 64 hexadecimal digits"),
        ('"usr/local/bin/tool"', '"../etc/passwd"', "is no place in an image"),
        ('"usr/local/bin/tool"', '"/etc/passwd"', "is no place in an image"),
        ('version = "1.0"', 'version = "1.0"\npackage = "a"', "needs a package or a url"),
        ("[[component]]", "[component]", "not as a list of components is written"),
    ],
)
def test_a_list_that_is_none_is_told(old: str, new: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        components.read(SMALL.replace(old, new, 1), "list.toml")
    assert words in caught.value.message
