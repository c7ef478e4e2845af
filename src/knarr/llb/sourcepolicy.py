"""Source policies: rules that deny the sources of a build, let them pass, or put others in their place.

    policy = parse(Path("policy.json").read_bytes(), "policy.json")
    op = evaluate((policy,), SourceOp("docker-image://docker.io/library/busybox:latest"))

Of the rules of a policy that let pass or deny, the last that fits counts. A rule that
converts takes effect at once, and the result is looked at anew. Where no rule fits,
the source passes.

Spec: BuildKit's sourcepolicy/ at v0.33 (tried against buildctl with --source-policy-file).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from knarr.errors import KnarrError, UsageError
from knarr.llb import definition
from knarr.llb.ops import Edge, Graph, SourceOp, Vertex
from knarr.record import field, record, replace
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference

ALLOW, DENY, CONVERT = "ALLOW", "DENY", "CONVERT"
WILDCARD, EXACT, REGEX = "WILDCARD", "EXACT", "REGEX"
EQUAL, NOTEQUAL, MATCHES = "EQUAL", "NOTEQUAL", "MATCHES"
ACTIONS, MATCH_TYPES, CONDITIONS = (ALLOW, DENY, CONVERT), (WILDCARD, EXACT, REGEX), (EQUAL, NOTEQUAL, MATCHES)

_IMAGE, _GIT = "docker-image://", "git://"
_MOST_CHANGES = 20  # of one source, BuildKit's limit: beyond, two rules undo each other
_MOST_BYTES = 4 << 20
_TEMPLATE = re.compile(r"\$(?:\$|(?P<name>\w+)|\{(?P<braced>\w+)\})")


class SourceDenied(KnarrError):
    """A source that a policy denies."""


@record
class Constraint:
    """What an attribute of the source must be; one that is not there is empty."""

    key: str
    value: str
    condition: str = EQUAL

    def holds(self, attrs: Mapping[str, str]) -> bool:
        found = attrs.get(self.key, "")
        if self.condition == MATCHES:
            return re.search(self.value, found) is not None
        return (found == self.value) is (self.condition == EQUAL)


@record
class Rule:
    """One rule. `target` and `attrs` are of CONVERT; with an empty target only attributes change."""

    action: str
    identifier: str
    match_type: str = WILDCARD
    constraints: tuple[Constraint, ...] = ()
    target: str | None = None
    attrs: Mapping[str, str] = field(default_factory=dict, hash=False)

    def fits(self, op: SourceOp) -> bool:
        if not all(constraint.holds(op.attrs) for constraint in self.constraints):
            return False
        return self.identifier == op.identifier or (
            self.match_type != EXACT and self._pattern.search(op.identifier) is not None
        )

    @property
    def _pattern(self) -> re.Pattern[str]:
        if self.match_type == REGEX:
            return re.compile(self.identifier)
        return re.compile(r"\A" + "(.*)".join(map(re.escape, self.identifier.split("*"))) + r"\Z")

    def converted(self, op: SourceOp) -> SourceOp:
        """The source that takes the place of `op`."""
        written = identifier = self.target or op.identifier
        # BuildKit takes the selector's own text for want of a target, so that a pattern becomes the name of a source.
        if not self.target:
            return SourceOp(identifier, {**op.attrs, **self.attrs})
        if self.match_type == REGEX:
            identifier = self._pattern.sub(lambda match: _filled(written, match), op.identifier)
        elif self.match_type == WILDCARD:
            match = self._pattern.match(op.identifier)
            identifier = op.identifier if match is None else _filled(written, match)
        return SourceOp(identifier, {**op.attrs, **self.attrs})


@record
class SourcePolicy:
    """The rules of one file, in order."""

    rules: tuple[Rule, ...]


def parse(data: bytes, where: str) -> SourcePolicy:
    """The policy of a JSON text in BuildKit's form.

    Stricter than BuildKit, which passes over a member that it does not know: a rule whose
    `action` is misspelled would allow.

    Raises:
        UsageError: it is none, or a rule cannot be meant.
    """
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{where}: is larger than {_MOST_BYTES} bytes")
    try:
        document = _members(json.loads(data), ("version", "rules"), where)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not a source policy: {error}", hint="BuildKit's form is JSON") from None
    if document.get("version", 1) not in (0, 1):
        raise UsageError(f"{where}: version {document['version']!r} is not known", hint="write 1")
    rules = _list(document.get("rules"), where, "rules")
    return SourcePolicy(tuple(_rule(found, f"{where}: rule {number}") for number, found in enumerate(rules, 1)))


def checked(rule: Rule, where: str) -> Rule:
    """`rule`, when it can be meant.

    Raises:
        UsageError: a pattern is malformed, or a conversion leads nowhere.
    """
    if rule.match_type == WILDCARD and "**" in rule.identifier:
        raise UsageError(f"{where}: {rule.identifier!r}: ** is no wildcard")
    patterns = [one.value for one in rule.constraints if one.condition == MATCHES]
    for pattern in [*patterns, *([rule.identifier] if rule.match_type == REGEX else [])]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{where}: {pattern!r} is no regular expression: {error}") from None
    if rule.action == CONVERT and rule.target is None:
        raise UsageError(f"{where}: missing destination for convert rule", hint='write "updates": {"identifier": "…"}')
    return rule


def evaluate(policies: Sequence[SourcePolicy], op: SourceOp) -> SourceOp:
    """What is to be fetched where `op` was asked for; `op` itself when no rule changes it.

    Raises:
        SourceDenied: nothing is.
        UsageError: the rules have no end.
    """
    first = now = normalised(op)
    for _ in range(_MOST_CHANGES + 1):
        changed = _once(policies, now)
        if changed == now:
            return op if now == first else now
        now = normalised(changed)
    raise UsageError(f"{op.identifier}: too many operations: the rules of the source policy lead to each other")


def rewritten(graph: Graph, sources: Mapping[Digest, SourceOp]) -> Graph:
    """`graph` with other sources in some vertices; what reads a changed one has another digest, too."""
    changed: dict[Digest, Vertex] = {}
    for digest, vertex in graph.vertices.items():  # inputs come first
        inputs = tuple(
            Edge(changed[edge.digest].digest, edge.index) if edge.digest in changed else edge for edge in vertex.inputs
        )
        op = sources.get(digest, vertex.op)
        if op != vertex.op or inputs != vertex.inputs:
            changed[digest] = definition.vertex(
                op,
                inputs,
                platform=vertex.platform,
                metadata=vertex.metadata,
                spans=vertex.spans,
                filters=vertex.filters,
            )
    if not changed:
        return graph
    vertices = {new.digest: new for digest, vertex in graph.vertices.items() for new in (changed.get(digest, vertex),)}
    root = graph.root
    if root is not None and root.digest in changed:
        root = Edge(changed[root.digest].digest, root.index)
    return replace(graph, vertices=vertices, root=root)


def normalised(op: SourceOp) -> SourceOp:
    """`op` under the one name that rules are written for: an image's whole name, a repository without its ways around.

    Or else `…#main:../secret` would get past a rule about `…#main:secret`. Spec: `Identifier.String` of BuildKit.
    """
    if op.identifier.startswith(_GIT):
        return replace(op, identifier=_repository(op))
    if not op.identifier.startswith(_IMAGE):
        return op
    try:
        whole = str(Reference.parse(op.identifier.removeprefix(_IMAGE)).tagged())
    except KnarrError:
        return op  # told by who looks the image up
    return replace(op, identifier=_IMAGE + whole)


def _repository(op: SourceOp) -> str:
    """`git://host/path#ref:directory`, of what is really fetched: the attribute `git.fullurl` where there is one."""
    remote, _, fragment = op.identifier.removeprefix(_GIT).partition("#")
    remote = (op.attrs.get("git.fullurl") or remote).partition("#")[0].partition("?")[0]
    bare = remote.partition("://")[2] or remote
    host, slash, path = bare.partition("/")
    user, at, _ = host.partition("@")
    host = host[len(user) + len(at) :] if at else host
    if "://" not in remote and ":" in host and not host.partition(":")[2].isdigit():
        host, _, first = host.partition(":")  # as ssh writes it: git@host:path
        path = first + slash + path
    ref, _, directory = fragment.partition(":")
    directory = _joined(directory).lstrip("/")
    tail = f"#{ref}{':' if directory else ''}{directory}" if ref or directory else ""
    return f"{_GIT}{host}{_joined(path)}{tail}"


def _joined(path: str) -> str:
    """`path` below the root, with `.`, `..` and double slashes taken out."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _once(policies: Sequence[SourcePolicy], op: SourceOp) -> SourceOp:
    for policy in policies:
        denied = False
        for rule in policy.rules:
            if not rule.fits(op):
                continue
            if rule.action != CONVERT:
                denied = rule.action == DENY
                continue
            changed = rule.converted(op)
            if changed != op:
                return changed
        if denied:
            raise SourceDenied(f"source denied by policy: {op.identifier}", hint="a rule of the source policy says so")
    return op


def _filled(template: str, match: re.Match[str]) -> str:
    """`template` with the groups of `match`, as Go's Expand fills it: $1, ${1}, ${name}, $$; unknown ones are empty."""

    def group(found: re.Match[str]) -> str:
        name = found["name"] or found["braced"]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except (IndexError, KeyError):
            return ""

    return _TEMPLATE.sub(group, template)


def _rule(found: Any, where: str) -> Rule:
    members = _members(found, ("action", "selector", "updates"), where)
    selector = _members(members.get("selector"), ("identifier", "match_type", "matchtype", "constraints"), where)
    updates = members.get("updates")
    given = None if updates is None else _members(updates, ("identifier", "attrs"), where)
    attrs = (given or {}).get("attrs") or {}
    if not isinstance(attrs, dict) or not all(isinstance(value, str) for value in attrs.values()):
        raise UsageError(f"{where}: attrs must be an object of texts")
    match_type = selector.get("match_type", selector.get("matchtype", WILDCARD))
    constraints = _list(selector.get("constraints"), where, "constraints")
    rule = Rule(
        _word(members.get("action", ALLOW), ACTIONS, where),
        _text(selector.get("identifier", ""), where),
        _word(match_type, MATCH_TYPES, where),
        tuple(_constraint(one, where) for one in constraints),
        None if given is None else _text(given.get("identifier", ""), where),
        attrs,
    )
    return checked(rule, where)


def _constraint(found: Any, where: str) -> Constraint:
    members = _members(found, ("key", "value", "condition"), where)
    condition = _word(members.get("condition", EQUAL), CONDITIONS, where)
    return Constraint(_text(members.get("key", ""), where), _text(members.get("value", ""), where), condition)


def _members(found: Any, known: tuple[str, ...], where: str) -> dict[str, Any]:
    """The members of an object by name in small letters, as Go reads them."""
    if not isinstance(found, dict):
        raise UsageError(f"{where}: an object is expected, with {', '.join(known)}")
    members = {name.lower(): value for name, value in found.items()}
    for name in members:
        if name not in known:
            raise UsageError(f"{where}: {name!r} is not known", hint=f"known are: {', '.join(known)}")
    return members


def _list(found: Any, where: str, name: str) -> list[Any]:
    if found is not None and not isinstance(found, list):
        raise UsageError(f"{where}: {name} must be a list")
    return found or []


def _text(found: Any, where: str) -> str:
    if not isinstance(found, str):
        raise UsageError(f"{where}: {found!r} is no text")
    return found


def _word(found: Any, known: tuple[str, ...], where: str) -> str:
    """One of the words of an enum, or its number."""
    if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < len(known):
        return known[found]
    if found not in known:
        raise UsageError(f"{where}: {found!r} is not known", hint=f"use one of: {', '.join(known)}")
    return str(found)
