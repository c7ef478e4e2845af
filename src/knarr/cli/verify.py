"""`knarr verify`: who signed an image, and whether that is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.cli.cosignflags import VERIFYING, wants_json
from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.sign import FORMAT_FLAG, HELP_FLAG, INSECURE_FLAG, check_format
from knarr.cli.transfer import words_of
from knarr.cli.trustflags import TRUST_FLAGS, named, wish_of
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.cli.verdicts import Judged

FLAGS = (
    *TRUST_FLAGS,
    Flag("policy", Kind.TEXT, "FILE", "a trust policy: knarr's own form, or containers' policy.json"),
    Flag("recursive", Kind.SWITCH, "", "every platform of an index must be signed, too", short="r"),
    INSECURE_FLAG,
    FORMAT_FLAG,
    HELP_FLAG,
    *VERIFYING,
)


def help_text() -> str:
    """What `knarr verify --help` prints."""
    return (
        "Usage: knarr verify [OPTIONS] IMAGE...\n\n"
        "Check the signatures of images in a registry, a layout (oci:DIR:TAG), an archive or the store: cosign's\n"
        "tags, sigstore bundles, several of them. The status is 0 only if every image is signed as asked; for\n"
        f"all that does not count the reason is shown.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr verify ARGUMENTS`.

    Raises:
        KnarrError: an image is not signed as asked, or cannot be looked at.
    """
    given = parse(FLAGS, argv, command="knarr verify")
    if given.switch("help"):
        print(help_text())
        return 0
    words = words_of(given, "knarr verify", "an image")
    check_format(given)
    if given.text("policy") and (given.list("key") or given.text("trusted-root")):
        raise UsageError("--policy says whom to trust, so no --key or --trusted-root goes with it")
    judged = [one for word in words for one in (_by_policy if given.text("policy") else _by_wish)(word, given)]
    tell(judged, given)
    return 0


def tell(judged: Sequence[Judged], given: Parsed) -> None:
    """Print verdicts.

    Raises:
        KnarrError: one of them is no.
    """
    from knarr.cli.verdicts import as_json, as_text

    text = as_json(judged) if wants_json(given) else as_text(judged)
    if text:
        print(text)
    refused = [one for one in judged if not one.verdict.accepted]
    if refused:
        first = refused[0]
        raise KnarrError(f"{first.image}@{first.verdict.digest}: {first.verdict.reason}")


def _by_wish(word: str, given: Parsed) -> Iterator[Judged]:
    from knarr.attest.judge import judge
    from knarr.cli.signplace import opened_for_looking
    from knarr.cli.verdicts import Judged
    from knarr.image.spot import shown_name
    from knarr.record import replace
    from knarr.trust.gather import SIGNATURES, gather
    from knarr.trust.subjects import subjects_of

    wish = wish_of(given)
    with opened_for_looking(word, given) as (where, place, root):
        wish = replace(wish, signed_as=str(where.reference) if where.reference else "")
        for subject in subjects_of(place, root, recursive=given.switch("recursive")):
            verdict = judge(gather(place, subject.descriptor, wanted=SIGNATURES), subject.descriptor.digest, wish)
            yield Judged(shown_name(where).partition("@")[0], verdict, subject.platform)


def _by_policy(word: str, given: Parsed) -> Iterator[Judged]:
    from pathlib import Path

    from knarr.attest.judge import Verdict
    from knarr.cli.signplace import opened_for_looking
    from knarr.cli.verdicts import Judged
    from knarr.image.spot import shown_name
    from knarr.trust.guard import Guard, Untrusted
    from knarr.trust.policyfile import read
    from knarr.trust.subjects import subjects_of

    guard = Guard(read(Path(given.text("policy"))))
    with opened_for_looking(word, given) as (where, place, root):
        name = shown_name(where).partition("@")[0]
        for subject in subjects_of(place, root, recursive=given.switch("recursive")):
            try:
                verdicts = guard.check(place, subject.descriptor, *named(where))
            except Untrusted as error:
                verdicts = error.verdicts or (Verdict(subject.descriptor.digest, (), False, error.message),)
            for verdict in verdicts or (Verdict(subject.descriptor.digest, (), True),):
                yield Judged(name, verdict, subject.platform)
