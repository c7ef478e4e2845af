"""What is kept and why: pictures of repositories in, verdicts out."""

from __future__ import annotations

from knarr.registry.graph import ManifestItem, Picture, Verdict, judge
from knarr.registry.settings import Keep, Retention

DAY_NS = 86_400 * 10**9
NOW = 1000 * DAY_NS
STRICT = Retention(grace_s=3600, untagged_s=0.0)


def name(word: str) -> str:
    return "sha256:" + word.encode().hex().ljust(64, "0")


def item(*children: str, subject: str = "", pushed: int = 0, pulled: int = 0) -> ManifestItem:
    return ManifestItem(1, name(subject) if subject else "", pushed, pulled, tuple(map(name, children)))


def picture(manifests: dict[str, ManifestItem], blobs: str = "", tags: dict[str, str] | None = None) -> Picture:
    led = {tag: (name(digest), 0) for tag, digest in (tags or {}).items()}
    return Picture("team/app", {name(k): v for k, v in manifests.items()}, {name(b): 1 for b in blobs.split()}, led)


def gone(seen: Picture, retention: Retention = STRICT, *, used: str = "") -> set[str]:
    verdict = judge(seen, retention, NOW, lambda digest: NOW if digest in map(name, used.split()) else 0)
    words = {bytes.fromhex(digest[7:]).rstrip(b"\0").decode() for digest in (*verdict.manifests, *verdict.blobs)}
    return words | set(verdict.tags)


def test_a_tag_keeps_an_index_its_manifests_and_their_blobs() -> None:
    seen = picture(
        {"index": item("amd", "arm"), "amd": item("c", "l"), "arm": item("c", "l2"), "old": item("c", "l3")},
        "c l l2 l3 stray",
        {"v1": "index"},
    )
    assert gone(seen) == {"old", "l3", "stray"}


def test_without_a_rule_about_them_manifests_without_a_tag_stay() -> None:
    assert gone(picture({"old": item("l")}, "l stray"), Retention()) == {"stray"}


def test_referrers_stay_with_their_subject_and_theirs_with_them_and_go_with_it() -> None:
    manifests = {
        "index": item("amd"),
        "amd": item("l"),
        "sbom": item("s", subject="amd"),
        "signature": item("t", subject="sbom"),
        "lost": item("u", subject="nothing"),
    }
    assert gone(picture(manifests, "l s t u", {"v1": "index"})) == {"lost", "u"}
    assert gone(picture(manifests, "l s t u")) == {"index", "amd", "sbom", "signature", "lost", "l", "s", "t", "u"}


def test_a_referrer_with_a_tag_does_not_keep_its_subject() -> None:
    assert gone(picture({"app": item("l"), "note": item("n", subject="app")}, "l n", {"note": "note"})) == {"app", "l"}


def test_tags_made_of_a_digest_live_and_die_with_it() -> None:
    manifests = {"app": item("l"), "sig": item("s"), "list": item("sbom"), "sbom": item("b", subject="app")}
    stem = name("app").replace(":", "-")
    tags = {f"{stem}.sig": "sig", stem: "list"}
    assert gone(picture(manifests, "l s b", {"v1": "app", **tags})) == set()
    assert gone(picture(manifests, "l s b", tags)) == {"app", "sig", "list", "sbom", "l", "s", "b", *tags}


def test_a_tag_made_of_a_digest_that_is_not_here_stays() -> None:
    stem = name("elsewhere").replace(":", "-")
    assert gone(picture({"sig": item("s")}, "s", {f"{stem}.sig": "sig"})) == set()


def test_a_sparse_index_is_kept_whatever_it_lacks() -> None:
    assert gone(picture({"index": item("amd", "absent"), "amd": item("l")}, "l", {"v1": "index"})) == set()


def test_circles_end() -> None:
    manifests = {"a": item("b", subject="b"), "b": item("a", subject="a")}
    assert gone(picture(manifests, "", {"v1": "a"})) == set()
    assert gone(picture(manifests)) == {"a", "b"}


def test_what_is_young_or_was_looked_for_is_spared() -> None:
    manifests = {"new": item("l", pushed=NOW - DAY_NS // 48), "pulled": item("m", pulled=NOW)}
    assert gone(picture(manifests, "l m n"), used="n") == set()


def test_retention_keeps_the_newest_the_recent_and_what_no_rule_names() -> None:
    seen = picture({word: item(word + "l") for word in "abcdef"}, "al bl cl dl el fl")
    ages = {"v1": ("a", 40), "v2": ("b", 30), "v3": ("c", 20), "v4": ("d", 10), "latest": ("e", 90), "dev": ("f", 50)}
    tags = {tag: (name(word), NOW - days * DAY_NS) for tag, (word, days) in ages.items()}
    seen = Picture("team/app", seen.manifests, seen.blobs, tags)
    two = Retention(untagged_s=0.0, keep=(Keep(tags=("v*",), newest=2), Keep(repositories=("other/*",))))
    assert gone(seen, two) == {"v1", "v2", "a", "b", "al", "bl"}
    weeks = Retention(untagged_s=0.0, keep=(Keep(tags=("v*", "dev"), set_s=25 * 86_400),))
    assert gone(seen, weeks) == {"v1", "v2", "dev", "a", "b", "f", "al", "bl", "fl"}
    both = Retention(untagged_s=0.0, keep=(Keep(tags=("*",), newest=1), Keep(tags=("latest", "v1"))))
    assert {"latest", "v1", "v4"} & gone(seen, both) == set()


def test_what_was_pulled_lately_keeps_its_tag() -> None:
    seen = picture({"a": item(pulled=NOW - DAY_NS), "b": item()}, "", {"a": "a", "b": "b"})
    assert gone(seen, Retention(untagged_s=0.0, keep=(Keep(pulled_s=2 * 86_400),))) == {"b"}


def test_the_reason_is_a_chain_from_a_root() -> None:
    seen = picture({"index": item("amd"), "amd": item("l"), "sig": item("s", subject="index")}, "l s", {"v1": "index"})
    verdict: Verdict = judge(seen, STRICT, NOW, lambda digest: 0)
    assert verdict.why(name("l")) == [
        f"{name('l')} is part of",
        f"{name('amd')} is part of",
        f"{name('index')} has the tag v1",
    ]
    assert verdict.why(name("s"))[1] == f"{name('sig')} refers to"
    assert verdict.why(name("unknown")) == []
