"""The small texts: paths, ports, git URLs, Go's formatting."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.filesteps import owner_of
from knarr.frontend.dockerfile.giturl import GitURL, parse_git_url
from knarr.frontend.dockerfile.gotext import duration, listed, quoted, quoted_list
from knarr.frontend.dockerfile.imagepath import base_name, clean, in_tree, join, under
from knarr.frontend.dockerfile.ports import exposed_ports
from knarr.llb.ops import ChownOpt, UserOpt


@pytest.mark.parametrize(
    ("path", "result"), [("", "."), ("a//b/../c/", "a/c"), ("//x", "/x"), ("/..", "/"), ("./.", "."), ("../a", "../a")]
)
def test_clean_is_go_s(path: str, result: str) -> None:
    assert clean(path) == result


@settings(deadline=None, max_examples=200)
@given(st.text("ab./", max_size=12))
def test_in_tree_never_leaves_the_root(path: str) -> None:
    result = in_tree(path, keep_slash=True)

    assert result.startswith("/")
    assert ".." not in result.split("/")
    assert posixpath.normpath(result) == in_tree(path)


@pytest.mark.parametrize(
    ("directory", "path", "result"),
    [
        ("/w", "x", "/w/x"),
        ("/w", "x/", "/w/x/"),
        ("/w", "./", "/w/"),
        ("/w", "..", "/"),
        ("/w", "/abs/../x", "/abs/../x"),
        ("/w", "x/.", "/w/x/."),
        ("", "x", "/x"),
        ("rel", "x", "/rel/x"),
    ],
)
def test_under_keeps_the_ending_that_says_directory(directory: str, path: str, result: str) -> None:
    assert under(directory, path, keep_slash=True) == result


def test_join_never_starts_over() -> None:
    assert join("/", "/a") == "/a"
    assert join("", "") == ""
    assert join(".", "/a") == "a"


@pytest.mark.parametrize(("path", "name"), [("", "."), ("/", "/"), ("/a/b/", "b"), ("a", "a")])
def test_base_name_is_go_s(path: str, name: str) -> None:
    assert base_name(path) == name


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (90 * 10**9, "1m30s"),
        (3600 * 10**9, "1h0m0s"),
        (3661 * 10**9 + 1, "1h1m1.000000001s"),
        (-90 * 10**9, "-1m30s"),
    ],
)
def test_durations_are_shown_as_go_shows_them(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_lists_are_shown_as_go_shows_them() -> None:
    assert listed(["a", "b c"]) == "[a b c]"
    assert quoted_list(["a", 'b"c']) == '["a" "b\\"c"]'
    assert quoted_list([]) == "[]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb", '"a\\tb"'),
        ("\\", '"\\\\"'),
        ("\x01\x7f", '"\\x01\\x7f"'),
        ("é日", '"é日"'),
        ("\u200b\u00a0", '"\\u200b\\u00a0"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert quoted(text) == shown


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        (["80"], ["80/tcp"]),
        (["53/UDP", "1/sctp"], ["53/udp", "1/sctp"]),
        (["8000-8002"], ["8000/tcp", "8001/tcp", "8002/tcp"]),
        (["1.2.3.4:80:90"], ["90/tcp"]),
        (["[::1]:80:90/udp"], ["90/udp"]),
        (["80:90"], ["90/tcp"]),
        (["8000-8001:90-91"], ["90/tcp", "91/tcp"]),
    ],
)
def test_ports_are_what_the_config_names(words: list[str], ports: list[str]) -> None:
    assert exposed_ports(words) == ports


@pytest.mark.parametrize(
    "word", ["", "/tcp", "x", "80-", "90-80", "65536", "80/ftp", "1.2.3:1:2", "1-3:80-81", "x:80", "²"]
)
def test_other_words_are_no_ports(word: str) -> None:
    with pytest.raises(DockerfileError):
        exposed_ports([word])


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("1:2", ChownOpt(UserOpt(1), UserOpt(2))),
        ("root", ChownOpt(UserOpt(0))),
        ("daemon:staff", ChownOpt(UserOpt(None, "daemon", 0), UserOpt(None, "staff", 0))),
        ("u:", ChownOpt(UserOpt(None, "u", 0), UserOpt(0))),
        ("-1", ChownOpt(UserOpt(2**32 - 1))),
        ("4294967296", ChownOpt(UserOpt(None, "4294967296", 0))),
    ],
)
def test_owners_are_numbers_or_names(text: str, owner: ChownOpt) -> None:
    assert owner_of(text, 0) == owner


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://h/o/r.git", GitURL("https://h/o/r.git", "https", "h", "/o/r.git")),
        ("https://h/r.git#main:a/../b", GitURL("https://h/r.git", "https", "h", "/r.git", "main", "b")),
        ("https://h/r.git#:sub", GitURL("https://h/r.git", "https", "h", "/r.git", "", "sub")),
        ("git://h/r", GitURL("git://h/r", "git", "h", "/r")),
        ("ssh://git@h:22/r", GitURL("ssh://git@h:22/r", "ssh", "h:22", "/r")),
        ("git@h:o/r.git#v1", GitURL("git@h:o/r.git", "ssh", "h", "o/r.git", "v1")),
        (
            "https://h/r.git?branch=b&keep-git-dir&submodules=0&commit=abc&mtime=commit&fetch-by-commit=true",
            GitURL(
                "https://h/r.git",
                "https",
                "h",
                "/r.git",
                "refs/heads/b",
                checksum="abc",
                keep_git_dir=True,
                submodules=False,
                mtime="commit",
                fetch_by_commit=True,
            ),
        ),
        ("https://h/r.git?tag=refs/tags/v1", GitURL("https://h/r.git", "https", "h", "/r.git", "refs/tags/v1")),
        ("https://h/r.git?ref=v1&subdir=/sub", GitURL("https://h/r.git", "https", "h", "/r.git", "v1", "/sub")),
        ("https://h/r.git?subdir=/s#v1", GitURL("https://h/r.git", "https", "h", "/r.git", "v1", "/s")),
        ("https://h/r.git?branch=refs/heads/b", GitURL("https://h/r.git", "https", "h", "/r.git", "refs/heads/b")),
        ("https://h/r.git?ref=v1#v1", GitURL("https://h/r.git", "https", "h", "/r.git", "v1")),
        ("git@h:o/r?subdir=/s#v1", GitURL("git@h:o/r", "ssh", "h", "o/r", "v1", "/s")),
        ("u-1_x@h-1.y:/abs/r.git", GitURL("u-1_x@h-1.y:/abs/r.git", "ssh", "h-1.y", "/abs/r.git")),
        ("ssh://u@h:456/~/r.git", GitURL("ssh://u@h:456/~/r.git", "ssh", "h:456", "/~/r.git")),
        ("HTTPS://u:p@h/r.git", GitURL("https://u:p@h/r.git", "https", "h", "/r.git")),
        ("https://[::1]:8/r.git", GitURL("https://[::1]:8/r.git", "https", "[::1]:8", "/r.git")),
        ("https://h/a b.git", GitURL("https://h/a%20b.git", "https", "h", "/a b.git")),
        ("https://h/a%20b.git", GitURL("https://h/a%20b.git", "https", "h", "/a b.git")),
        ("https://h/r.git#a%20b:c+d", GitURL("https://h/r.git", "https", "h", "/r.git", "a b", "c+d")),
        ("https://h/r.git#v1:../../x", GitURL("https://h/r.git", "https", "h", "/r.git", "v1", "x")),
        ("https://h/r.git#a:b:c", GitURL("https://h/r.git", "https", "h", "/r.git", "a", "b:c")),
    ],
)
def test_git_urls_say_what_to_take(text: str, url: GitURL) -> None:
    assert parse_git_url(text) == url


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("github.com/o/r", "git://github.com/o/r"),
        ("github.com/o/o.github.io#main:docs", "git://github.com/o/o.github.io#main:docs"),
        ("github.com/o/r.git?tag=v1", "git://github.com/o/r.git#refs/tags/v1"),
    ],
)
def test_a_context_at_github_may_go_without_a_scheme(text: str, identifier: str) -> None:
    url = parse_git_url(text, as_context=True)
    assert url is not None
    assert (url.identifier, url.remote) == (identifier, "https://" + text.partition("#")[0].partition("?")[0])


@pytest.mark.parametrize(
    "text",
    [
        *("a", "./git@h:x", "../x", "https://h/r", "ftp://h/r.git", "github.com/o/r", "/abs", ".git", "./.git"),
        *("https://h/r.git/", "https://h/r.git.x", "h/o/r.git", "https://github.com/o/r", "file:///r.git"),
    ],
)
def test_other_words_are_no_git_urls(text: str) -> None:
    assert parse_git_url(text) is None


@pytest.mark.parametrize(
    "query",
    [
        *("branch=a&tag=b", "ref=a&ref=b", "ref=", "depth=1", "submodules=maybe", "mtime=now", "subdir=", "Ref=a"),
        *("ref=a;b", "tag=%zz", "tag=a&tag=a", "checksum=ab&commit=cd", "subdir=a#:b", "ref=a#b", "fetch-by-commit=2"),
    ],
)
def test_queries_that_cannot_be_meant_are_refused(query: str) -> None:
    with pytest.raises(DockerfileError):
        parse_git_url(f"https://h/r.git?{query}")


@pytest.mark.parametrize("text", ["https://h:bad/r.git", "ssh://git@h:bad/r.git", "https://[::1/r.git"])
def test_a_host_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError, match="is not a URL"):
        parse_git_url(text)


def test_https_and_ssh_share_what_was_fetched() -> None:
    urls = [parse_git_url(text) for text in ("https://h/o/r.git#v1:d", "git@h:o/r.git#v1:d")]

    assert [url.identifier for url in urls if url] == ["git://h/o/r.git#v1:d"] * 2
