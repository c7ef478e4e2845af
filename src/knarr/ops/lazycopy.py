"""A COPY that no RUN reads: written straight into the layer, without a copy of the files in between.

`COPY . /app` at the end of a Dockerfile only has to become a tar. Making 50,000
files on an overlay and reading them again takes four times as long as reading the
context once, and a large file is written once more for nothing. So when nothing in
the graph mounts the result, and the destination is new or an empty directory (then
nothing below can be in the way), the op leaves a `LazyLayer`: the tar is written when
an exporter packs it. If somebody asks for the tree after all, the ordinary file op
makes it; both ways give the same layer (tests/engine/test_lazycopy.py).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from knarr import virtual
from knarr.cache.record import Record, RecordId
from knarr.llb.ops import NO_INPUT, Copy, FileOp
from knarr.ops.blobs import Deferred, Packed
from knarr.ops.copyfilter import CopyFilter
from knarr.ops.copytree import CopyOptions, Tree, expand
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World
from knarr.paths import clean, inside
from knarr.record import record, replace
from knarr.streams import Writable

_NO_OWNER = (0, 0)


@record
class Parent:
    """A directory above the destination, as the layer has it."""

    name: str  # relative to the root of the image
    status: os.stat_result


@record
class LazyLayer:
    """The layer of one COPY of a directory, or of one file, not yet written."""

    source: RecordId
    path: str  # of the directory or file, on this machine, when the source is mounted: below the tree's root
    target: str  # relative to the root of the image
    top: os.stat_result | None  # of the destination, when it exists and keeps its owner and mode
    parents: tuple[Parent, ...]
    options: CopyOptions
    is_file: bool = False


def defer(
    world: World,
    trees: DiskTrees,
    op: FileOp,
    inputs: Sequence[RecordId],
    name: RecordId,
    keys: Sequence[str],
    description: str,
    make: Callable[[], None],
    blame: Callable[[BaseException], BaseException],
) -> bool:
    """Note record `name` as the result of `op`, to be written when it is packed; False: the op must run.

    `keys` lead to the record once it is there; `make` runs the op after all, for who needs the tree; `blame` adds
    the step's place to a failure that comes while it is written.
    """
    layer = plan(world, op, inputs)
    if layer is None:
        return False
    action = op.actions[0]
    now = time.time_ns()
    parent = None if action.input == NO_INPUT else inputs[action.input]
    noted = Record(name, parent, description=description, created_ns=now, used_ns=now, uses=1)

    def write_tar(out: Writable) -> None:
        with trees.readable(layer.source) as tree:
            write(layer, tree, out, check=world.scope.check)

    def save(packed: Packed) -> None:
        world.cache.save(replace(noted, blob=packed.descriptor, diff_id=packed.diff_id), keys)

    trees.defer(noted, Deferred(write_tar, save, blame), make)
    return True


def plan(world: World, op: FileOp, inputs: Sequence[RecordId]) -> LazyLayer | None:
    """The layer that `op` would give, if it can be written lazily; None: run the op.

    Raises:
        KnarrError: as the op itself would.
    """
    if len(op.actions) != 1:
        return None
    action = op.actions[0]
    copy = action.action
    if not isinstance(copy, Copy) or not _is_plain(copy) or not 0 <= action.secondary_input < len(inputs):
        return None
    source = inputs[action.secondary_input]
    base = None if action.input == NO_INPUT else inputs[action.input]
    options = CopyOptions(
        owner=_numbers(copy),
        mode=None if copy.mode == -1 or copy.mode_str else copy.mode,
        mode_text=copy.mode_str,
        time_ns=None if copy.timestamp == -1 else copy.timestamp,
        contents=True,
        include=copy.include_patterns,
        exclude=copy.exclude_patterns,
    )
    with world.trees.readable(source) as tree, world.trees.readable(base) as below:
        names = expand(tree, copy.src, follow=copy.follow_symlink) if copy.allow_wildcard else [clean(copy.src)]
        if len(names) != 1:
            return None
        if (found := _file(tree, names[0], copy)) is not None:
            return _beside(below.root, source, found, names[0], copy, options)
        path = inside(tree.root, names[0])[len(tree.root) :]
        if not os.path.isdir(tree.root + path) or (path and not tree.shows(path)):
            return None
        return _onto(below.root, source, path, copy, options)


def _file(tree: Tree, name: str, copy: Copy) -> str | None:
    """Where the source is below the tree's root, if it is one regular file that may be seen."""
    path = inside(tree.root, name, follow_last=copy.follow_symlink)[len(tree.root) :]
    try:
        found = virtual.seen(tree.root + path, os.lstat(tree.root + path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode) or copy.include_patterns or copy.exclude_patterns:
        return None
    return path if tree.shows(path) and tree.shows(name) else None


def _beside(root: str, source: RecordId, path: str, name: str, copy: Copy, options: CopyOptions) -> LazyLayer | None:
    """The plan for a file called `name` whose place below the mounted `root` is free (see `Copier.copy`)."""
    shown = clean(copy.dest)
    where = inside(root, shown)
    if copy.dest.endswith(("/", "/.")) or os.path.isdir(where):
        where = inside(root, f"{shown}/{os.path.basename(name)}", follow_last=False)
    if os.path.lexists(where):
        return None
    target = where[len(root) :].strip("/")
    parents = _parents(root, os.path.dirname(target), options, touched=True)
    if parents is None:
        return None
    return LazyLayer(source, path, target, None, parents, options, is_file=True)


def _is_plain(copy: Copy) -> bool:
    """Whether it copies the contents of a directory or one file, needs no user names, and looks into no archive."""
    owner = copy.owner
    who = (owner.user, owner.group) if owner is not None else ()
    named = any(part is not None and part.id is None for part in who)
    return copy.dir_copy_contents and copy.create_dest_path and not (copy.attempt_unpack or named)


def _numbers(copy: Copy) -> tuple[int, int] | None:
    owner = copy.owner
    if owner is None or owner.user is None or owner.user.id is None:
        return None if owner is None or owner.group is None or owner.group.id is None else (0, owner.group.id)
    uid = owner.user.id
    return uid, uid if owner.group is None or owner.group.id is None else owner.group.id


def _onto(root: str, source: RecordId, path: str, copy: Copy, options: CopyOptions) -> LazyLayer | None:
    """The plan for a destination that is new or empty below the mounted `root`."""
    where = inside(root, copy.dest)
    target = where[len(root) :].strip("/")
    if not target:
        return None
    top: os.stat_result | None = None
    if os.path.lexists(where):
        top = os.lstat(where)
        if not stat.S_ISDIR(top.st_mode) or os.listdir(where):
            return None
    parents = _parents(root, os.path.dirname(target), options, touched=top is None)
    if parents is None:
        return None
    return LazyLayer(source, path, target, top, parents, options)


def _parents(root: str, directory: str, options: CopyOptions, *, touched: bool) -> tuple[Parent, ...] | None:
    """The directories above the destination: those that exist as they are, the last of them with a new time."""
    now = time.time() if options.time_ns is None else options.time_ns / 1e9
    mode = 0o755 if options.mode is None else options.mode
    owner = options.owner or _NO_OWNER
    found: list[Parent] = []
    names: list[str] = []
    parts = directory.split("/") if directory else []
    for number, part in enumerate(parts):
        names.append(part)
        name = "/".join(names)
        try:
            status = virtual.seen(f"{root}/{name}", os.lstat(f"{root}/{name}"))
        except FileNotFoundError:
            status = _status(stat.S_IFDIR | mode, owner, 0, now)
        else:
            if not stat.S_ISDIR(status.st_mode):
                return None
            below = "/".join((*names, parts[number + 1])) if number + 1 < len(parts) else ""
            if (below and not os.path.lexists(f"{root}/{below}")) or (not below and touched):
                status = _changed(status, mtime=time.time())  # something is made in it
        found.append(Parent(name, status))
    return tuple(found)


def write(layer: LazyLayer, tree: Tree, out: Writable, *, check: Callable[[], None]) -> None:
    """Write the layer's tar. `tree` is the source, readable while this runs.

    Raises:
        ContentError: a file changes while it is read.
    """
    from knarr.layer.samefile import in_layer
    from knarr.layer.tree_write import TreeWriter

    writer = TreeWriter(out, attributes=None if tree.zero_owner else in_layer)
    # Attributes of directories below are theirs already: a layer that repeats a directory without them keeps them.
    plain = TreeWriter(out, attributes=None)
    for parent in layer.parents:
        writer.put(plain.directory(parent.name, "", parent.status))
    if not layer.is_file:
        writer.put(plain.directory(layer.target, "", _top(layer, tree)))
    for name, path, status, header in _Walk(layer, tree, writer.directory, check).run():
        if header is not None:
            writer.put(header)
        else:
            writer.file(name, path, status)
    writer.close()


def _top(layer: LazyLayer, tree: Tree) -> os.stat_result:
    """The destination: made as a parent is when it is new, and with the source's time in any case."""
    options = layer.options
    if options.time_ns is not None:
        mtime = options.time_ns // 10**9
    elif tree.zero_owner and not layer.path:
        mtime = int(time.time())  # the root of a client's context has no time of its own
    else:
        mtime = int(os.lstat(tree.root + layer.path)[8])
    if layer.top is not None:
        return _changed(layer.top, mtime=mtime)
    mode = 0o755 if options.mode is None else options.mode
    return _status(stat.S_IFDIR | mode, options.owner or _NO_OWNER, 0, mtime)


Found = tuple[str, str, os.stat_result, bytes | None]
"""(name in the layer, path here, status as the layer shall have it, header of a directory)."""


class _Walk:
    """Walks the source in the order of a layer, and says of each entry how the image shall have it."""

    def __init__(
        self,
        layer: LazyLayer,
        tree: Tree,
        directory: Callable[[str, str, os.stat_result], bytes],
        check: Callable[[], None],
    ) -> None:
        options = layer.options
        self._layer = layer
        self._tree = tree
        self._directory = directory
        self._check = check
        self._owner = options.owner or (_NO_OWNER if tree.zero_owner else None)
        self._filter = CopyFilter(layer.path, tree.hidden, options.include, options.exclude)
        self._pending: list[Found] = []

    def run(self) -> Iterator[Found]:
        path = self._tree.root + self._layer.path
        if self._layer.is_file:
            yield self._layer.target, path, self._dressed(virtual.seen(path, os.lstat(path))), None
        else:
            yield from self._contents(path, "", self._layer.target)

    def _contents(self, path: str, relative: str, target: str) -> Iterator[Found]:
        """Everything below `path`. `_pending` are directories above that count only if something below them does."""
        self._check()
        chosen = self._filter
        with os.scandir(path) as scan:
            entries = sorted(scan, key=_name)
        for entry in entries:
            inner = f"{relative}/{entry.name}" if relative else entry.name
            status = virtual.seen(entry.path, entry.stat(follow_symlinks=False))
            is_dir = stat.S_ISDIR(status.st_mode)
            name = f"{target}/{entry.name}"
            kept = not chosen.leaves_out or chosen.keeps(inner)
            if not is_dir:
                if kept:
                    yield from self._released()
                    yield name, entry.path, self._dressed(status), None
                continue
            if not kept and not chosen.may_keep_below(inner):
                continue
            dressed = self._dressed(status)
            if not kept and not chosen.selects(inner):  # as `Copier._sparse_directory` has it
                dressed = _changed(dressed, mtime=time.time())
            found = (name, entry.path, dressed, self._directory(name, entry.path, dressed))
            if kept:
                yield from self._released()
                yield found
            else:
                self._pending.append(found)
            yield from self._contents(entry.path, inner, name)
            if self._pending and self._pending[-1] is found:
                self._pending.pop()

    def _released(self) -> list[Found]:
        pending, self._pending = self._pending, []
        return pending

    def _dressed(self, status: os.stat_result) -> os.stat_result:
        """The status with the owner, mode and time that the copy gives."""
        options = self._layer.options
        mode = status.st_mode
        if not stat.S_ISLNK(mode):
            if options.mode_text:
                from knarr.ops.symbolicmode import apply_symbolic

                bits = apply_symbolic(options.mode_text, mode, is_dir=stat.S_ISDIR(mode))
                mode = stat.S_IFMT(mode) | bits
            elif options.mode is not None:
                mode = stat.S_IFMT(mode) | options.mode
        owner = self._owner
        mtime = int(status[8]) if options.time_ns is None else options.time_ns // 10**9
        if owner is None:
            owner = (status.st_uid, status.st_gid)
        if (mode, owner, mtime) == (status.st_mode, (status.st_uid, status.st_gid), status[8]):
            return status
        return _with(status, mode, owner, mtime)


def _name(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)


def _with(status: os.stat_result, mode: int, owner: tuple[int, int], mtime: int) -> os.stat_result:
    fields = list(status[:10])
    fields[0], fields[4], fields[5], fields[8] = mode, owner[0], owner[1], mtime
    return os.stat_result((*fields, 0.0, float(mtime), 0.0, 0, mtime * 10**9, 0, 0, 0, status.st_rdev))


def _changed(status: os.stat_result, *, mtime: float) -> os.stat_result:
    return _with(status, status.st_mode, (status.st_uid, status.st_gid), int(mtime))


def _status(mode: int, owner: tuple[int, int], size: int, mtime: float) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, owner[0], owner[1], size, int(mtime), int(mtime), int(mtime)))
