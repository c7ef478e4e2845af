"""What a task means, given lists of tags: images to copy, tags to delete. Pure.

Deletion is planned for a whole target repository at once, from what all tasks of
the file want there: what one task brings another must not take away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from knarr.errors import KnarrError, UsageError
from knarr.image.spot import LAYOUT, REGISTRY, Spot, spot, tagged
from knarr.record import record, replace
from knarr.spec.referrers import is_digest_tag, is_fallback_tag
from knarr.sync.tagfilter import choose
from knarr.sync.task import Task


@record
class Copy:
    """One image and where it goes."""

    task: Task
    source: Spot
    targets: tuple[Spot, ...]
    source_tags: tuple[str, ...] | None = None  # of the repository, when they were listed


@record
class Repository:
    """One repository of a task and where it goes, without tags."""

    task: Task
    source: Spot
    targets: tuple[Spot, ...]


@record
class Deletion:
    """A tag that nothing wants at a target any more."""

    task: Task
    target: Spot


def place(text: str, task: Task) -> Spot:
    """A place of a task: a registry or a layout.

    Raises:
        UsageError: it is neither, or malformed.
    """
    found = spot(text)
    if found.kind not in (REGISTRY, LAYOUT):
        raise UsageError(f"{task.where}: {text}: must be in a registry or an OCI layout")
    return found


def one_image(task: Task) -> Copy:
    """The copy that a task of kind `image` is. A target without a tag gets the source's."""
    source = place(task.source, task)
    targets = []
    for text in task.targets:
        target = place(text, task)
        bare = not _has_tag(text)
        tag = source.reference.tag if source.reference is not None else source.tag
        if bare and source.reference is not None and source.reference.digest and target.reference is not None:
            digest = source.reference.digest
            target = replace(target, reference=replace(target.reference, tag=tag, digest=digest))
        elif bare and tag:
            target = tagged(target, tag)
        targets.append(target)
    return Copy(task, source, tuple(targets))


def repositories(task: Task, names: Sequence[str]) -> list[Repository]:
    """The repositories of a task of kind `registry`, whose registry has `names`."""
    source, targets = task.source.removeprefix("docker://").rstrip("/"), [text.rstrip("/") for text in task.targets]
    return [
        Repository(task, place(f"{source}/{name}", task), tuple(place(f"{text}/{name}", task) for text in targets))
        for name in task.repositories.choose(list(names))
    ]


def one_repository(task: Task) -> Repository:
    """The repository that a task of kind `repository` is."""
    return Repository(task, place(task.source, task), tuple(place(text, task) for text in task.targets))


def copies(repository: Repository, tags: Sequence[str]) -> list[Copy]:
    """The images of `repository`, which has `tags`."""
    return [
        Copy(
            repository.task,
            tagged(repository.source, tag),
            tuple(tagged(target, tag) for target in repository.targets),
            tuple(tags),
        )
        for tag in choose(repository.task.tags, tags)
    ]


def deletions(task: Task, target: Spot, there: Iterable[str], wanted: Iterable[str]) -> list[Deletion]:
    """The tags at `target` that are not `wanted`; what hangs on digests goes with its image, and is not listed.

    Raises:
        KnarrError: more than the limit of the task allows, or nothing is wanted at all.
    """
    have = [tag for tag in there if not is_fallback_tag(tag) and not is_digest_tag(tag)]
    keep = set(wanted)
    gone = [tag for tag in have if tag not in keep]
    if gone and not keep:
        raise KnarrError(
            f"{target.repository}: nothing is wanted there, and {len(gone)} tags would be deleted",
            hint="an empty source is more often a mistake than a wish; delete them by hand",
        )
    if not task.prune_limit.allows(len(gone), len(have)):
        raise KnarrError(
            f"{target.repository}: {len(gone)} of {len(have)} tags would be deleted; the limit is {task.prune_limit}",
            hint="look with --dry-run; a larger prune-limit in the file lets it happen",
        )
    return [Deletion(task, tagged(target, tag)) for tag in gone]


def wish_of(task: Task) -> str:
    """What form of its sources a task asks for, as a short text that changes with it."""
    wanted, options = task.options.wanted, task.options
    parts: Mapping[str, object] = {
        "platforms": ",".join(map(str, wanted.platforms)),
        "sparse": wanted.sparse,
        "referrers": wanted.referrers,
        "filters": ";".join(f"{one.artifact_type}{sorted(one.annotations.items())}" for one in wanted.filters),
        "digest-tags": wanted.digest_tags,
        "attestations": options.attestations,
    }
    usual = {
        "platforms": "",
        "sparse": False,
        "referrers": True,
        "filters": "",
        "digest-tags": True,
        "attestations": "keep",
    }
    return " ".join(f"{name}={value}" for name, value in parts.items() if value != usual[name])


def _has_tag(text: str) -> bool:
    name = text.removeprefix("docker://").removeprefix("ocidir://").removeprefix("oci:")
    return "@" in name or ":" in name.rpartition("/")[2]
