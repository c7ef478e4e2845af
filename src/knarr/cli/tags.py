"""`knarr tags`: the tags of a repository."""

from __future__ import annotations

import json

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import quiet_transfer
from knarr.errors import UsageError

FLAGS = (
    Flag("filter", Kind.LIST, "PATTERN", "only tags like this: a wildcard, or with re: before it a regular expression"),
    Flag("all", Kind.SWITCH, "", "lists of referrers and digest tags (sha256-…), too", short="a"),
    Flag("format", Kind.TEXT, "TEMPLATE", "a Go template over .Name, .Digest and .Tags, or json"),
    Flag("digests", Kind.SWITCH, "", "ask for the digest of each tag"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr tags --help` prints."""
    return (
        "Usage: knarr tags [OPTIONS] REPOSITORY\n\n"
        "List the tags of a repository in a registry, or of a layout (oci:DIR) or an archive.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr tags ARGUMENTS`.

    Raises:
        KnarrError: there is no such repository.
    """
    from contextlib import ExitStack

    from knarr.cli.copy import trusting
    from knarr.cli.places import opened_place
    from knarr.image.copy import each
    from knarr.image.spot import spot
    from knarr.spec.referrers import is_digest_tag, is_fallback_tag

    given = parse(FLAGS, argv, command="knarr tags")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr tags needs one repository", hint="see `knarr tags --help`")
    where = spot(given.words[0])
    form = given.text("format")
    with quiet_transfer() as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        place = stack.enter_context(opened_place(world, where, registry))
        tags = [tag for tag in place.tags() if matches(tag, given.list("filter"))]
        if not given.switch("all"):
            tags = [tag for tag in tags if not is_fallback_tag(tag) and not is_digest_tag(tag)]
        digests: dict[str, str] = {}
        if given.switch("digests") or ".Digest" in form:
            found = each(lambda tag: str(place.resolve(tag).digest), tags, scope=world.scope, jobs=8)
            digests = dict(zip(tags, found, strict=True))
    for line in _lines(where.repository, tags, digests, form):
        print(line)
    return 0


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of the patterns of `--filter` is about `name`; all are, without any.

    Raises:
        UsageError: a regular expression that is none.
    """
    import re
    from fnmatch import fnmatchcase

    def one(pattern: str) -> bool:
        if not pattern.startswith("re:"):
            return fnmatchcase(name, pattern)
        try:
            return re.fullmatch(pattern[3:], name) is not None
        except re.error as error:
            raise UsageError(f"--filter {pattern}: {error}") from error

    return not patterns or any(map(one, patterns))


def _lines(repository: str, tags: list[str], digests: dict[str, str], form: str) -> list[str]:
    if not form:
        return [f"{tag}  {digests[tag]}" if digests else tag for tag in tags]
    if form == "json":
        data: dict[str, object] = {"name": repository, "tags": tags}
        return [json.dumps({**data, "digests": digests} if digests else data)]
    from knarr.gotemplate.render import Fields, render

    if ".Tags" in form:  # once over all of them
        return [render(form, Fields(Name=repository, Tags=tags, Digests=digests))]
    return [render(form, Fields(Repository=repository, Name=tag, Digest=digests.get(tag, ""))) for tag in tags]
