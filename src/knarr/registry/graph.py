"""What a repository must keep, and why. Pure: a picture of its tables goes in, a verdict comes out.

Roots are tags, and manifests that no tag leads to for as long as the settings
spare them. From a root, everything it names is kept; and whatever has a kept
manifest as its subject is kept with it: signatures, SBOMs and attestations need
no tag of their own, and go with what they are about. A subject is no dependency:
a referrer alone keeps nothing alive.

A tag made of a digest (`sha256-<hex>`, `.sig`, `.att`, `.sbom` behind it) is about
that manifest, too, and no root: it stays while the manifest does. Where the
manifest is not known at all, it stays: it may still come.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from knarr.record import field, record
from knarr.registry.rules import matches
from knarr.registry.settings import Keep, Retention

_DIGEST_TAG = re.compile(r"(sha256|sha384|sha512)-([0-9a-f]{32,128})(?:\.[a-z0-9]+)?")


@record
class ManifestItem:
    """A manifest in the picture."""

    size: int
    subject: str
    pushed_ns: int
    pulled_ns: int
    children: tuple[str, ...] = ()


@record
class Picture:
    """All that one repository shows, by digest and by tag."""

    repository: str
    manifests: Mapping[str, ManifestItem]
    blobs: Mapping[str, int]  # sizes
    tags: Mapping[str, tuple[str, int]]  # digest, and when it was set (ns)


@record
class Reason:
    """Why something is kept: `text`, and the digest that it hangs on, if it does."""

    text: str
    via: str = ""


@record
class Verdict:
    """What goes, and for everything else why it stays."""

    tags: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    kept: Mapping[str, Reason] = field(default_factory=dict)

    def why(self, digest: str) -> list[str]:
        """The chain from a root to `digest`, as lines; [] if it is not kept."""
        lines: list[str] = []
        while digest in self.kept:
            reason = self.kept[digest]
            lines.append(f"{digest} {reason.text}")
            if not reason.via:
                break
            digest = reason.via
        return lines


def judge(picture: Picture, retention: Retention, now_ns: int, last_used_ns: Callable[[str], int]) -> Verdict:
    """What may go from the repository. `last_used_ns` says when a blob was pushed or looked for last."""
    dropped = set(_expired(picture, retention, now_ns))
    about = {tag: subject for tag in picture.tags if (subject := _subject_of(tag)) in picture.manifests}
    kept: dict[str, Reason] = {}
    for tag, (digest, _) in picture.tags.items():
        if tag not in dropped and tag not in about:
            kept.setdefault(digest, Reason(f"has the tag {tag}"))
    for digest, item in picture.manifests.items():
        reason = _spared(item, retention, now_ns)
        if reason:
            kept.setdefault(digest, Reason(reason))
    _spread(picture, kept, {tag: subject for tag, subject in about.items() if tag not in dropped})
    gone_tags = [tag for tag in picture.tags if tag in dropped or (tag in about and about[tag] not in kept)]
    for digest in picture.blobs:
        if digest not in kept and now_ns - last_used_ns(digest) < retention.grace_s * 1e9:
            kept[digest] = Reason("was pushed or looked for lately")
    return Verdict(
        tuple(gone_tags),
        tuple(digest for digest in picture.manifests if digest not in kept),
        tuple(digest for digest in picture.blobs if digest not in kept),
        kept,
    )


def _spared(item: ManifestItem, retention: Retention, now_ns: int) -> str:
    """Why a manifest without a tag stays; "": it may go."""
    if retention.untagged_s is None:
        return "was pushed, and manifests without a tag are kept"
    if now_ns - max(item.pushed_ns, item.pulled_ns) < max(retention.untagged_s, retention.grace_s) * 1e9:
        return "was pushed or pulled lately"
    return ""


def _spread(picture: Picture, kept: dict[str, Reason], about: Mapping[str, str]) -> None:
    """Keep what hangs on what is kept."""
    referrers: dict[str, list[str]] = defaultdict(list)
    for digest, item in picture.manifests.items():
        if item.subject:
            referrers[item.subject].append(digest)
    tagged: dict[str, list[str]] = defaultdict(list)
    for tag, subject in about.items():
        tagged[subject].append(tag)
    todo = list(kept)
    while todo:
        digest = todo.pop()
        named = picture.manifests.get(digest)
        found: list[tuple[str, Reason]] = []
        if named is not None:
            found += [(child, Reason("is part of", digest)) for child in named.children]
        found += [(referrer, Reason("refers to", digest)) for referrer in referrers[digest]]
        found += [(picture.tags[tag][0], Reason(f"has the tag {tag}, about", digest)) for tag in tagged[digest]]
        for other, reason in found:
            if other not in kept:
                kept[other] = reason
                todo.append(other)


def _expired(picture: Picture, retention: Retention, now_ns: int) -> Iterable[str]:
    """The tags that a rule is about and no rule keeps."""
    rules = [
        rule for rule in retention.keep if any(matches(pattern, picture.repository) for pattern in rule.repositories)
    ]
    kept: set[str] = set()
    named: set[str] = set()
    for rule in rules:
        mine = [tag for tag in picture.tags if any(_fits(pattern, tag) for pattern in rule.tags)]
        named.update(mine)
        kept.update(_held(rule, mine, picture, now_ns))
    young = {tag for tag, (_, set_ns) in picture.tags.items() if now_ns - set_ns < retention.grace_s * 1e9}
    return named - kept - young


def _held(rule: Keep, tags: list[str], picture: Picture, now_ns: int) -> set[str]:
    held = set()
    if not (rule.newest or rule.set_s or rule.pulled_s):
        return set(tags)  # a rule without a limit keeps all it names
    if rule.newest:
        held.update(sorted(tags, key=lambda tag: (picture.tags[tag][1], tag), reverse=True)[: rule.newest])
    for tag in tags:
        digest, set_ns = picture.tags[tag]
        item = picture.manifests.get(digest)
        if rule.set_s and now_ns - set_ns < rule.set_s * 1e9:
            held.add(tag)
        if rule.pulled_s and item is not None and now_ns - item.pulled_ns < rule.pulled_s * 1e9:
            held.add(tag)
    return held


def _fits(pattern: str, tag: str) -> bool:
    return matches(pattern.replace("{user}", ""), tag)


def _subject_of(tag: str) -> str:
    """The digest that a tag is made of, or ""."""
    match = _DIGEST_TAG.fullmatch(tag)
    return f"{match[1]}:{match[2]}" if match else ""
