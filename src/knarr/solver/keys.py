"""Cache keys: what of a vertex counts, and how it becomes the name of its result.

A vertex is looked up by two keys:

    fast = H(op, [(identity of input, selector) …])
    slow = H(op, [content of the selected paths | (identity of input, selector) …])

The *identity* of an input is the id of the record it was found under, so that
equal content under different definitions ends in one identity, and the fast keys
of everything above it hit again. A vertex without content-based inputs has no
slow key. Each output has its own key, derived from the vertex's.

What is not in `op` because it must not count: proxy variables, the IPs of extra
hosts, the id and sharing of a cache mount (other than the default form), the
directory of a copied source (its content is hashed, its base name counts),
selectors of mounts (they are in the inputs), and all metadata. Secrets and ssh
are there by id, target, owner, mode and `required`; values never come near.

The rules are those of BuildKit 0.33 (solver/llbsolver/ops, CacheMap), with one
exception: an input that is mounted several times by one exec is known by content
only if every one of its mounts may be.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from hashlib import sha256

from knarr.errors import Bug, UsageError
from knarr.llb.ops import (
    NO_INPUT,
    NO_OUTPUT,
    CacheSharing,
    ChownOpt,
    ContentCache,
    Copy,
    ExecMount,
    ExecOp,
    FileAction,
    FileOp,
    MkDir,
    MkFile,
    MountType,
    SourceOp,
    UserOpt,
    Vertex,
)
from knarr.paths import clean
from knarr.patterns import has_wildcard
from knarr.record import fields, record, replace

_VERSION = "knarr.key.v1"  # a new meaning of any key needs a new version: old records are then never found


@record
class Selection:
    """Paths of an input whose content counts: one path, or what a wildcard and patterns leave below it.

    `include` and `exclude` are relative to `path` (to each match of it). Each of `required`
    must be the beginning of at least one path that was taken.
    """

    path: str  # "/" is the whole tree; a trailing slash leaves out the directory's own mode and owner
    follow: bool = False  # a symlink that is named itself is followed
    wildcard: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


@record
class Dep:
    """How one input counts: by identity together with `selector`, or by the content of `content`."""

    selector: str = ""
    content: tuple[Selection, ...] = ()  # empty: only by identity


@record
class CacheMap:
    """What of a vertex counts: the digest of its op, and one Dep per input."""

    digest: str
    deps: tuple[Dep, ...] = ()

    @property
    def by_content(self) -> tuple[int, ...]:
        """The inputs that are known by content."""
        return tuple(index for index, dep in enumerate(self.deps) if dep.content)


def cache_map(vertex: Vertex) -> CacheMap:
    """What of `vertex` counts, whatever its inputs turn out to be. Not for sources: see `source_map`.

    Raises:
        UsageError: a mount asks to be known by content, but writes back more than it selects.
    """
    op = vertex.op
    if isinstance(op, ExecOp):
        return CacheMap(_hash("exec", canonical(_exec_essence(op)), canonical(vertex.platform)), _exec_deps(vertex, op))
    if isinstance(op, FileOp):
        count = len(vertex.inputs)
        return CacheMap(_hash("file", canonical(_file_essence(op, count))), _file_deps(op, count))
    if isinstance(op, SourceOp):
        raise Bug("the key of a source comes from resolving it")
    return CacheMap(_hash(type(op).__name__, canonical(op)), (Dep(),) * len(vertex.inputs))


def source_map(key: str) -> CacheMap:
    """The cache map of a source that was resolved to `key` (a commit, a chain id, a checksum …)."""
    return CacheMap(_hash("source", key))


def fast_key(cache: CacheMap, identities: Sequence[str]) -> str:
    """The key by definition, for inputs of these identities."""
    return _hash("fast", cache.digest, [[i, dep.selector] for i, dep in zip(identities, cache.deps, strict=True)])


def slow_key(cache: CacheMap, identities: Sequence[str], contents: Mapping[int, str]) -> str:
    """The key by content: `contents` has the hash of every content-based input."""
    parts = [
        ["content", contents[index]] if dep.content else ["identity", identities[index], dep.selector]
        for index, dep in enumerate(cache.deps)
    ]
    return _hash("slow", cache.digest, parts)


def output_key(key: str, index: int) -> str:
    """The key of output `index` of the vertex that has `key`."""
    return key if index == 0 else _hash("output", key, index)


def fresh_id(key: str, nonce: str) -> str:
    """An identity that no earlier build has, for a result that was asked to be made anew."""
    return _hash("fresh", key, nonce)


def contents_key(hashes: Sequence[str]) -> str:
    """One hash for the selections of an input, from the hash of each, in their order."""
    return hashes[0] if len(hashes) == 1 else _hash("contents", list(hashes))


def _hash(*parts: object) -> str:
    """The sha256 of `parts` (nested lists of strings, bytes, numbers and None).

    `ascii` writes them as Python literals: every string is quoted and escaped, every list
    bracketed, so that two different values never have the same text. It is one call into C.
    """
    return sha256(ascii([_VERSION, *parts]).encode()).hexdigest()


# --- encoding


def canonical(value: object) -> object:
    """`value` as nested lists: records become [class name, field …], so that a new field counts by itself."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, int):  # bool and IntEnum too, which have texts of their own
        return int(value)
    if isinstance(value, tuple):
        return [canonical(item) for item in value]
    if isinstance(value, Mapping):
        return [[key, canonical(value[key])] for key in sorted(value)]
    kind = type(value)
    return [kind.__name__, *(canonical(getattr(value, name)) for name in fields(kind))]


# --- exec


def _exec_essence(op: ExecOp) -> ExecOp:
    meta = op.meta
    if meta.proxy_env is not None or meta.extra_hosts:
        hosts = tuple(replace(host, ip="") for host in meta.extra_hosts)
        meta = replace(meta, proxy_env=None, extra_hosts=hosts)
    return replace(op, meta=meta, mounts=tuple(_mount_essence(mount) for mount in op.mounts))


def _mount_essence(mount: ExecMount) -> ExecMount:
    cache = mount.cache
    if cache is not None and not is_default_cache(mount):
        cache = replace(cache, id="", sharing=CacheSharing.SHARED)
    elif not mount.selector:
        return mount
    return replace(mount, selector="", cache=cache)


def is_default_cache(mount: ExecMount) -> bool:
    """Whether the id is the one a frontend derives from the target: `<target>` or `<namespace>/<target>`.

    BuildKit keeps this form in its keys, so that they stay what they were before ids were left out.
    """
    cache = mount.cache
    if cache is None or cache.sharing != CacheSharing.SHARED:
        return False
    return mount.dest in (cache.id, cache.id.partition("/")[2])


def _exec_deps(vertex: Vertex, op: ExecOp) -> tuple[Dep, ...]:
    deps = []
    for index in range(len(vertex.inputs)):
        mounts = [mount for mount in op.mounts if mount.input == index and mount.type in _READS_INPUT]
        paths = [clean(mount.selector) for mount in mounts]
        by_content = [_is_known_by_content(mount) for mount in mounts]
        selector = _hash("selector", paths) if paths else ""
        content = _whole_paths(paths) if mounts and all(by_content) else ()
        deps.append(Dep(selector, content))
    return tuple(deps)


_READS_INPUT = (MountType.BIND, MountType.CACHE)


def _is_known_by_content(mount: ExecMount) -> bool:
    """Whether the selected path alone decides what the step sees and leaves.

    A writable mount with an output does not allow it unless it selects the whole input: the
    output holds the unselected files as well, and those could differ ("sneaky" files).
    """
    safe = mount.output == NO_OUTPUT or mount.readonly or clean(mount.selector) == "/"
    if mount.content_cache == ContentCache.OFF:
        return False
    if mount.content_cache == ContentCache.ON:
        if not safe:
            raise UsageError(
                f"mount {mount.dest}: cannot be cached by content, since it is writable and selects only a part",
                hint="make the mount read-only, or select the whole input",
            )
        return True
    return safe and mount.dest != "/"  # hashing a whole root file system costs more than it saves


def _whole_paths(paths: Sequence[str]) -> tuple[Selection, ...]:
    """The paths to hash: none that lies below another one."""
    if "/" in paths:
        return (Selection("/"),)
    distinct = set(paths)
    tops = [path for path in distinct if not any(path.startswith(other + "/") for other in distinct)]
    return tuple(Selection(path, follow=True) for path in sorted(tops))


# --- file


def _file_essence(op: FileOp, inputs: int) -> FileOp:
    return replace(op, actions=tuple(_action_essence(action, inputs) for action in op.actions))


def _action_essence(action: FileAction, inputs: int) -> FileAction:
    copy = action.action
    if not isinstance(copy, Copy) or not 0 <= action.secondary_input < inputs:
        return action  # a source made by this same op is not hashed: all of its path counts
    return replace(action, action=replace(copy, src=_base(copy.src)))


def _base(path: str) -> str:
    """The last part of `path`, trailing slashes ignored: a copied file keeps its name, not its directory's."""
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def _file_deps(op: FileOp, count: int) -> tuple[Dep, ...]:
    selections: dict[int, list[Selection]] = {}
    written: set[int] = set()
    for action in op.actions:
        if action.input != NO_INPUT:
            written.add(action.input)  # all of it is in the result, so all of it counts
        what = action.action
        if isinstance(what, Copy) and 0 <= action.secondary_input < count:
            selections.setdefault(action.secondary_input, []).append(copied(what))
        if isinstance(what, Copy | MkFile | MkDir) and what.owner is not None:
            for index, path in owner_files(what.owner):
                selections.setdefault(index, []).append(Selection(path, follow=True))
    return tuple(
        _file_dep(selections[index]) if index in selections and index not in written else Dep()
        for index in range(count)
    )


def copied(copy: Copy) -> Selection:
    """What a copy reads of its source."""
    wildcard = copy.allow_wildcard and has_wildcard(copy.src)
    return Selection(
        copy.src, copy.follow_symlink, wildcard, copy.include_patterns, copy.exclude_patterns, copy.required_paths
    )


def owner_files(owner: ChownOpt) -> list[tuple[int, str]]:
    """Where the names of `owner` are looked up: (input, path)."""
    asked: tuple[tuple[UserOpt | None, str], ...] = ((owner.user, "/etc/passwd"), (owner.group, "/etc/group"))
    return [(who.input, path) for who, path in asked if who is not None and who.id is None and who.name]


def _file_dep(selections: Sequence[Selection]) -> Dep:
    selector = _hash("selector", sorted(selection.path for selection in selections))
    distinct = sorted(set(selections), key=lambda s: (s.path, s.wildcard, s.follow, s.include, s.exclude, s.required))
    return Dep(selector, tuple(distinct))
