"""What is asked about a source besides what it is now, and who may be asked whether it may be fetched.

A frontend asks when it pins what it found; a caller that judges sources by itself
(a policy that is a program, not rules) asks before it decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from knarr.errors import KnarrError
from knarr.llb.ops import SourceOp
from knarr.llb.sourcepolicy import SourceDenied
from knarr.record import record
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.frontend.gateway import SourceState


@record
class Checksum:
    """A digest of a file's content followed by `suffix`: what a signature over it is about."""

    algorithm: str  # sha256, sha384, sha512
    suffix: bytes = b""


@record
class SourceQuestion:
    """What is wanted to be known of a source. `predicates` are types of attestations that come with the chain."""

    platform: Platform | None = None
    mode: str = ""  # how an image is looked up: `default`, `pull`, `local`
    config: bool = True  # of an image
    chain: bool = False  # of an image: what attests it, and what signs that
    predicates: tuple[str, ...] = ()
    checksum: Checksum | None = None  # of a file
    objects: bool = False  # of a repository: the commit and the tag object as git keeps them


@record
class MoreWanted:
    """A judge wants to know more about the source first."""

    source: SourceOp  # as it was shown
    question: SourceQuestion


@record
class Answered:
    """What a judge wanted to know."""

    question: SourceQuestion
    state: SourceState


@record
class Verdict:
    """What a judge decides: the source may be used, or `instead` of it another one, or none."""

    allowed: bool = True
    instead: SourceOp | None = None
    reasons: tuple[str, ...] = ()  # of a refusal, for the user


class Judge(Protocol):
    """Decides about each source of a build."""

    def judge(self, source: SourceOp, platform: Platform, known: Answered | None) -> Verdict | MoreWanted:
        """`known` answers what it wanted to know the last time. May block; may be called from several threads at once.

        Raises:
            KnarrError: there is no verdict, so that the source may not be used.
        """
        ...


class Refused(SourceDenied):
    """A source that a judge refuses, with its reasons."""

    def __init__(self, source: SourceOp, reasons: tuple[str, ...]) -> None:
        super().__init__(f'source "{source.identifier}" not allowed by policy: action DENY')  # BuildKit's words
        self.reasons = reasons


class TooManyQuestions(KnarrError):
    """A judge that comes to no verdict."""
