"""`knarr attest verify`: whether somebody who is trusted said what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from knarr.cli.attestations import SELECT_FLAGS, chosen_subjects, wanted_type
from knarr.cli.cosignflags import POLICY_OF_ATTESTATIONS, VERIFYING
from knarr.cli.flags import Parsed, parse, usage
from knarr.cli.sign import FORMAT_FLAG, HELP_FLAG, INSECURE_FLAG, check_format
from knarr.cli.transfer import platforms, words_of
from knarr.cli.trustflags import TRUST_FLAGS, wish_of
from knarr.cli.verify import tell

if TYPE_CHECKING:
    from knarr.cli.verdicts import Judged

FLAGS = (
    *TRUST_FLAGS,
    *SELECT_FLAGS,
    INSECURE_FLAG,
    FORMAT_FLAG,
    HELP_FLAG,
    *VERIFYING,
    *POLICY_OF_ATTESTATIONS,
)


def help_text() -> str:
    """What `knarr attest verify --help` prints."""
    return (
        "Usage: knarr attest verify [OPTIONS] IMAGE...\n\n"
        "Check that an attestation (of the type of --type, or any) is signed by whom you trust. It must be about\n"
        "what the name leads to, or about every platform below; with --platform, about those.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr attest verify ARGUMENTS`.

    Raises:
        KnarrError: there is no such attestation, or an image cannot be looked at.
    """
    given = parse(FLAGS, argv, command="knarr attest verify")
    if given.switch("help"):
        print(help_text())
        return 0
    check_format(given)
    words = words_of(given, "knarr attest verify", "an image")
    tell([one for word in words for one in _judged(word, given)], given)
    return 0


def _judged(word: str, given: Parsed) -> Iterator[Judged]:
    from knarr.attest.judge import judge
    from knarr.cli.signplace import opened_for_looking
    from knarr.cli.verdicts import Judged
    from knarr.image.spot import shown_name
    from knarr.trust.gather import ATTESTATIONS, gather

    wish = wish_of(given, predicate_type=wanted_type(given))
    with opened_for_looking(word, given) as (where, place, root):
        found = []
        for subject in chosen_subjects(place, root, given):
            pieces = gather(place, subject.descriptor, index=subject.index, wanted=ATTESTATIONS)
            verdict = judge(pieces, subject.descriptor.digest, wish)
            found.append(Judged(shown_name(where).partition("@")[0], verdict, subject.platform))
    whole = [one for one in found if one.verdict.digest == root.digest]
    if platforms(given) or not whole:
        yield from found
    elif whole[0].verdict.accepted or len(found) == 1:
        yield whole[0]
    else:
        yield from found[1:] if any(one.verdict.findings for one in found[1:]) else found[:1]
