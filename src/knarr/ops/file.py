"""The file op: copy, mkfile, mkdir, rm and symlink, without a process.

A chain of actions works on one active snapshot. The values are numbered first
through the op's inputs, then through its actions, as in LLB. Semantics: BuildKit
solver/llbsolver/file/backend.go (tried against a real daemon, tests/ops).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from knarr import virtual
from knarr.cache.record import RecordId
from knarr.errors import Bug, ContentError, KnarrError, NotFound, Remains
from knarr.llb.ops import NO_INPUT, ChownOpt, Copy, FileAction, FileOp, MkDir, MkFile, Rm, Symlink, UserOpt
from knarr.ops import copytree
from knarr.ops.world import Active, World, leaving
from knarr.paths import clean, inside
from knarr.progress import Warned


def run(world: World, op: FileOp, inputs: Sequence[RecordId | None], names: Mapping[int, RecordId]) -> list[RecordId]:
    """Carry out `op` and commit the outputs that have a name in `names`; returns those names.

    Raises:
        KnarrError: a source is missing, a target cannot be made.
    """
    return _Run(world, op, inputs, names).go()


class _Run:
    def __init__(
        self, world: World, op: FileOp, inputs: Sequence[RecordId | None], names: Mapping[int, RecordId]
    ) -> None:
        self._world = world
        self._op = op
        self._inputs = inputs
        self._names = names
        self._actives: dict[int, Active] = {}  # by action
        self._stack = ExitStack()

    def go(self) -> list[RecordId]:
        done: dict[int, RecordId] = {}
        with self._stack:
            for index, action in enumerate(self._op.actions):
                self._world.scope.check()
                with leaving(self._world, partial(self._remains, index)):
                    active = self._begin(index, action)
                    self._act(action, active.root)
                if action.output in self._names:
                    done[action.output] = active.commit(self._names[action.output])
        return [done[output] for output in sorted(done)]

    def _remains(self, failed: int) -> Remains:
        """What the action and the one it copies from had made so far, each under its own number."""
        outputs = [""] * len(self._op.actions)
        kept: dict[int, RecordId] = {}
        for index in (failed, self._op.actions[failed].secondary_input - len(self._inputs)):
            active = self._actives.get(index)
            if active is not None and not active.committed:
                kept[id(active)] = self._world.trees.keep(active)
            if active is not None:
                outputs[index] = kept.get(id(active), "")
        return Remains(tuple(record or "" for record in self._inputs), tuple(outputs), action=failed)

    def _begin(self, index: int, action: FileAction) -> Active:
        """The active snapshot that this action changes: its input's own, or a new one on top of it."""
        before = action.input - len(self._inputs)
        if action.input == NO_INPUT:
            active = self._stack.enter_context(self._world.trees.active(None))
        elif before < 0:
            active = self._stack.enter_context(self._world.trees.active(self._inputs[action.input]))
        else:
            active = self._actives[before]
            if active.committed or self._used_later(before, index):
                raise Bug("a file op's action is read by two others")
        self._actives[index] = active
        return active

    def _used_later(self, producer: int, consumer: int) -> bool:
        number = producer + len(self._inputs)
        return any(number in (a.input, a.secondary_input) for a in self._op.actions[consumer + 1 :])

    def _act(self, action: FileAction, root: str) -> None:
        what = action.action
        try:
            if isinstance(what, Copy):
                self._copy(action, what, root)
            elif isinstance(what, MkFile):
                self._mkfile(what, root)
            elif isinstance(what, MkDir):
                self._mkdir(what, root)
            elif isinstance(what, Symlink):
                self._symlink(what, root)
            else:
                _rm(what, root)
        except OSError as error:
            place = str(error.filename or "").removeprefix(root)
            raise KnarrError(f"{place or 'file operation'}: {error.strerror}") from error

    def _copy(self, action: FileAction, copy: Copy, root: str) -> None:
        with self._source(action.secondary_input) as tree:
            options = copytree.CopyOptions(
                owner=self._owner(copy.owner),
                mode=None if copy.mode == -1 or copy.mode_str else copy.mode,
                mode_text=copy.mode_str,
                time_ns=None if copy.timestamp == -1 else copy.timestamp,
                contents=copy.dir_copy_contents,
                follow=copy.follow_symlink,
                replace=copy.always_replace_existing,
                include=copy.include_patterns,
                exclude=copy.exclude_patterns,
            )
            sources = [clean(copy.src)]
            if copy.allow_wildcard:
                sources = copytree.expand(tree, copy.src, follow=copy.follow_symlink)
                if not sources:
                    if copy.allow_empty_wildcard:
                        return
                    raise ContentError(f"{copy.src.lstrip('/')}: nothing matches")
            for source in sources:
                self._require_shown(tree, source)
            if not copy.create_dest_path:
                _require_parent(root, copy.dest)
            # The destination keeps its trailing slash: it says "a directory".
            target = clean(copy.dest) + ("/" if copy.dest.endswith(("/", "/.")) and clean(copy.dest) != "/" else "")
            if copy.attempt_unpack:
                sources = [s for s in sources if not self._unpacked(tree, s, root, target, options)]
            copytree.copy_all(tree, sources, root, target, options, check=self._world.scope.check)

    @staticmethod
    def _require_shown(tree: copytree.Tree, source: str) -> None:
        hidden = tree.hidden
        if hidden is not None and not tree.shows(source) and not hidden.may_contain_match(source[1:]):
            raise ContentError(f"{source.lstrip('/')}: not found", hint="an ignore pattern hides it")

    def _unpacked(
        self, tree: copytree.Tree, source: str, root: str, target: str, options: copytree.CopyOptions
    ) -> bool:
        from knarr.ops import unpackarchive

        return unpackarchive.unpack(tree, source, root, target, options, check=self._world.scope.check)

    @contextmanager
    def _source(self, number: int) -> Iterator[copytree.Tree]:
        if number < len(self._inputs):
            with self._world.trees.readable(None if number == NO_INPUT else self._inputs[number]) as tree:
                yield tree
        else:
            yield copytree.Tree(self._actives[number - len(self._inputs)].root)

    def _mkfile(self, what: MkFile, root: str) -> None:
        path = inside(root, what.path)
        existed = os.path.lexists(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(what.data)
            if not existed:
                os.fchmod(descriptor, what.mode & 0o777)  # whatever the umask of who builds
        self._dress(path, what.owner, what.timestamp)

    def _mkdir(self, what: MkDir, root: str) -> None:
        path = inside(root, what.path)
        mode = what.mode & 0o777
        stamp = None if what.timestamp == -1 else what.timestamp
        if what.make_parents:
            made = copytree.make_parents(path, mode, self._owner(what.owner), stamp)
            for directory in reversed(made if stamp is not None else ()):  # each made the one above it younger
                self._dress(directory, None, what.timestamp)
            return
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            return
        os.chmod(path, mode)
        self._dress(path, what.owner, what.timestamp)

    def _symlink(self, what: Symlink, root: str) -> None:
        path = inside(root, what.newpath, follow_last=False)
        os.symlink(what.oldpath, path)
        self._dress(path, what.owner, what.timestamp)

    def _dress(self, path: str, owner: ChownOpt | None, timestamp: int) -> None:
        numbers = self._owner(owner)
        if numbers is not None:
            virtual.chown(path, *numbers)
        if timestamp != -1:
            os.utime(path, ns=(timestamp, timestamp), follow_symlinks=False)

    def _owner(self, owner: ChownOpt | None) -> tuple[int, int] | None:
        """The numbers of a chown. Without a group a name gives that of its entry, a number itself."""
        if owner is None:
            return None
        uid, gid = (0, 0) if owner.user is None else self._ids(owner.user, "user", otherwise=0)
        if owner.group is not None:
            gid, _ = self._ids(owner.group, "group", otherwise=gid)
        return uid, gid

    def _ids(self, who: UserOpt, kind: str, *, otherwise: int) -> tuple[int, int]:
        if who.id is not None:
            return who.id, who.id
        if who.input == NO_INPUT:
            raise KnarrError(
                f"--chown={who.name}: there is no passwd to look the {kind} up in",
                hint="with --link the layer knows nothing of its base: use numbers, such as --chown=1000:1000",
            )
        from knarr.runtime import users

        with self._source(who.input) as tree:
            try:
                if kind == "user":
                    return users.lookup_user(tree.root, who.name)
                gid = users.lookup_group(tree.root, who.name)
                return gid, gid
            except NotFound as error:
                # So does BuildKit, and a USER that nothing uses is no reason to fail the WORKDIR behind it.
                self._world.sink.send(Warned(f"{kind} {who.name}", f"{error.message}: {otherwise} is taken"))
                return otherwise, otherwise


def _require_parent(root: str, dest: str) -> None:
    if not os.path.lexists(os.path.dirname(inside(root, dest))):
        raise ContentError(f"{os.path.dirname(clean(dest))}: no such directory in the image")


def _rm(what: Rm, root: str) -> None:
    paths = [clean(what.path)]
    if what.allow_wildcard:
        paths = copytree.expand(copytree.Tree(root), what.path, follow=False)
    for path in paths:
        if path == "/":
            raise KnarrError("the root directory cannot be removed")
        real = inside(root, path, follow_last=False)
        if os.path.lexists(real):
            copytree.remove(real)
        elif not what.allow_not_found:
            raise ContentError(f"{path}: no such file in the image")
