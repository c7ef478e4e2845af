"""The checks of a Dockerfile while it is compiled: which rules are heard, and what they have found.

Whoever compiles a line and sees something doubtful says so with `report`; the
`Linter` knows what the user does not want to hear. That is said by `# check=` at
the head of the file, by the build argument BUILDKIT_DOCKERFILE_CHECK in its place,
and by a comment `# check=skip=…` above an instruction for that instruction.

Spec: Dockerfile reference 1.26, "check"; BuildKit's frontend/dockerfile/linter.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from knarr.errors import DockerfileError, Excerpt, KnarrError, Span, UsageError
from knarr.frontend.dockerfile.directives import read_directives
from knarr.frontend.dockerfile.gotext import truth
from knarr.frontend.dockerfile.suggest import nearest
from knarr.frontend.request import FrontendRequest, Warning
from knarr.record import record, replace
from knarr.regex import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.frontend.dockerfile.instructions import Finding

CHECK_ARG = "BUILDKIT_DOCKERFILE_CHECK"
_ALL = "all"
_MOST_COMPARISONS = 200_000  # of names in search of a near one: a second's; no file a person wrote needs more
_DIRECTIVE_LINES = 4  # one for each directive there is, and one before them for `#!`

# Declared by ARG, these steer the scanner of an SBOM; no command sees them.
HIDDEN_ARGS = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))

_COMMENT = later(r"check\s*=\s*(\S.*)", re.IGNORECASE | re.ASCII)


@record
class CheckOptions:
    """What a `check` value asks for. `all` stands for every rule."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()  # rules that are silent unless asked for
    is_error: bool = False  # a finding fails the build

    def hears(self, rule: str, *, experimental: bool) -> bool:
        """Whether findings of `rule` are wanted."""
        if experimental:
            return _ALL in self.experimental or rule in self.experimental
        return _ALL not in self.skip and rule not in self.skip

    def merged(self, other: CheckOptions) -> CheckOptions:
        """With what `other` skips and asks for as well; `error` is a matter of the whole file."""
        return replace(self, skip=self.skip | other.skip, experimental=self.experimental | other.experimental)


def read_options(text: str) -> CheckOptions:
    """Read `skip=RULE,…;experimental=RULE,…;error=true`.

    Raises:
        UsageError: it is something else.
    """
    found: dict[str, frozenset[str]] = {}
    is_error = False
    for part in text.strip().split(";", 2) if text.strip() else ():
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in ("skip", "experimental", "error"):
            raise UsageError(
                f'failed to parse check options: invalid check option "{key if equals else part}"',
                hint="skip=RULE,RULE;experimental=RULE;error=true, in any order",
            )
        if key != "error":
            found[key] = frozenset(rule.strip() for rule in value.split(","))
        elif (said := truth(value)) is not None:
            is_error = said
        else:
            raise UsageError(f'failed to parse check options: failed to parse check option "{part}"', hint="error=true")
    return CheckOptions(found.get("skip", frozenset()), found.get("experimental", frozenset()), is_error)


class Linter:
    """The findings of one compilation, in the order in which they were made.

    `enter` says which instruction is looked at.
    """

    def __init__(self, options: CheckOptions, warnings: list[Warning] | None = None) -> None:
        self.options = options
        self.warnings = [] if warnings is None else warnings
        self._deaf = False
        self._names_to_compare = _MOST_COMPARISONS
        self._here = options
        self.span: Span | None = None  # of the line that is looked at
        self._declared: Iterable[tuple[str, str | None]] = ()

    @classmethod
    def deaf(cls) -> Linter:
        """For all but the first of several platforms: they would all find the same."""
        linter = cls(CheckOptions())
        linter._deaf = True
        return linter

    def enter(
        self, span: Span | None, comments: tuple[str, ...], declared: Iterable[tuple[str, str | None]] = ()
    ) -> None:
        """From here on the lines `span` are looked at, with `comments` above them; `declared` are the ARGs so far."""
        self.span = span
        self._declared = declared
        self._here = self._options_below(comments) if comments else self.options

    def leave(self) -> None:
        """What follows is about the file as a whole."""
        self.enter(None, ())

    def report(self, rule: str, *values: str, span: Span | None = None) -> None:
        """Note that `rule` is broken, here or at `span`; `values` are what its sentence is about."""
        if self._deaf:
            return
        from knarr.frontend.dockerfile.lintrules import RULES, page, sentence

        about = RULES[rule]
        if self._here.hears(rule, experimental=about.experimental):
            place = span or self.span
            self.warnings.append(Warning(rule, about.description, page(rule), sentence(rule, values), place))

    def unset(self, names: Iterable[str], env: Mapping[str, str]) -> None:
        """Report variables that an instruction used and nothing has set."""
        if self._deaf or not self._here.hears("UndefinedVar", experimental=False):
            return
        declared = {name for name, _ in self._declared}
        for name in sorted(set(names) - declared - HIDDEN_ARGS):
            self.report("UndefinedVar", name, self.guess(name, env, sign="$"))

    def guess(self, name: str, known: Collection[str], *, sign: str = "") -> str:
        """What a sentence about an unknown name ends with: the known one that was perhaps meant, or nothing."""
        self._names_to_compare -= len(known)
        near = nearest(name, known) if self._names_to_compare > 0 else ""
        return f" (did you mean {sign}{near}?)" if near else ""

    def take(self, findings: Collection[Finding]) -> None:
        """Report what the parser has seen; what concerns the lines as such comes first."""
        of_lines = [finding for finding in findings if finding.rule == "NoEmptyContinuation"]
        self.leave()
        for finding in of_lines:
            self.report(finding.rule, span=finding.span)
        for finding in findings:
            if finding.rule != "NoEmptyContinuation":
                self.enter(finding.span, finding.comments)
                self.report(finding.rule, *finding.values)
        self.leave()

    def settle(self) -> None:
        """Nothing more will be found.

        Raises:
            KnarrError: there are findings, and `error=true` says that they are errors.
        """
        if self.options.is_error and self.warnings:
            rules = ", ".join(dict.fromkeys(warning.rule for warning in self.warnings))
            raise KnarrError(
                f"lint violation found for rules: {rules}",
                hint="`# check=skip=RULE` at the head of the file or above the instruction lets it pass",
            )

    def _options_below(self, comments: tuple[str, ...]) -> CheckOptions:
        for comment in comments:
            match = _COMMENT.fullmatch(comment)
            if match is None:
                continue
            try:
                return self.options.merged(read_options(match[1].partition(" ")[0]))
            except UsageError:
                return self.options
        return self.options


def options_of(request: FrontendRequest) -> CheckOptions:
    """What the request says of checks, else the file.

    Raises:
        UsageError: something that means nothing.
    """
    told = request.build_args.get(CHECK_ARG)
    if told is not None:
        return read_options(told)
    head = request.dockerfile.split(b"\n", _DIRECTIVE_LINES)[:_DIRECTIVE_LINES]
    try:
        directives = read_directives(b"\n".join(head).decode("utf-8", "replace").split("\n"), request.filename)
    except DockerfileError:
        return CheckOptions()  # the parser tells it better
    written = next((directive for directive in directives if directive.name == "check"), None)
    if written is None:
        return CheckOptions()
    try:
        return read_options(written.value.partition(" ")[0])
    except UsageError as error:
        lines = request.dockerfile.decode("utf-8", "replace").split("\n")
        raise error.with_context(span=written.span, excerpt=Excerpt(tuple(lines))) from None
