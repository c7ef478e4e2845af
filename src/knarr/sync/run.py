"""Carry out the tasks of a file: list, compare, copy, delete; one failure does not stop the others.

    runner = Runner(file, places, state, scope=scope, directory=run)
    rows = runner.run(file.tasks)

What is the same at source and target costs a HEAD at each. What belongs to an image
beside it is looked at once more when `recheck` has passed, and after every change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from knarr.content.target import Fetcher
from knarr.errors import KnarrError, NotFound
from knarr.image.closurecopy import CopyOutcome, copy_closure
from knarr.image.copy import Watch as BlobWatch
from knarr.image.copy import each
from knarr.image.reshape import Reshaped
from knarr.image.spool import Spool
from knarr.image.spot import Spot
from knarr.image.wholecopy import gather
from knarr.record import record, replace
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.sync import plan
from knarr.sync.limits import HostLimits
from knarr.sync.looked import Looked, looked, place_of
from knarr.sync.places import Place, Places, host_of, locator_of, name_of, tag_of
from knarr.sync.prune import Pruner
from knarr.sync.quota import Quotas
from knarr.sync.row import COPIED, FAILED, SKIPPED, UNCHANGED, WOULD_COPY, Row
from knarr.sync.state import Known, State
from knarr.sync.task import IMAGE, REGISTRY, SyncFile, Task

Watch = Callable[[Row], object]
Check = Callable[[Place, Descriptor, Spot], object]
"""Asked about every source image before it is copied; raises a KnarrError where it may not be."""

_QUESTIONS = 16  # images looked at at a time


@record
class RunOptions:
    """How to run. `full`: look at everything, whatever is remembered."""

    dry_run: bool = False
    prune: bool = False  # also for tasks that do not ask for it
    full: bool = False
    fail_fast: bool = False


@record
class _Due:
    """One image, and the targets that need it."""

    copy: plan.Copy
    place: Place
    root: Descriptor
    targets: tuple[Spot, ...]
    bare: frozenset[Spot]  # those of them that had nothing under the name


class Runner:
    """The runs of one file in one process: what they saw of registries is shared."""

    def __init__(
        self,
        file: SyncFile,
        places: Places,
        state: State,
        *,
        scope: Scope,
        directory: Path,
        options: RunOptions | None = None,
        quotas: Quotas | None = None,
        watch: Watch | None = None,
        moving: BlobWatch | None = None,
        check: Check | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`directory` takes working files. `watch` is told of every row and `moving` of blobs, from several threads."""
        self._file, self._places, self._state = file, places, state
        self._scope, self._directory = scope, directory
        self._options = options or RunOptions()
        self._quotas = quotas or Quotas(dict, scope)
        self._watch, self._moving, self._check, self._clock = watch, moving, check, clock
        self._limits = HostLimits({host: wish.per_host for host, wish in file.registries.items()})
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._copies: list[plan.Copy] = []
        self._lists: dict[tuple[str, str], tuple[str, ...]] = {}

    def looked(self) -> Looked:
        """What the last run rested on; it is not whole where something failed or more than tags decides."""
        settled = all(row.result in (UNCHANGED, COPIED) for row in self._rows)
        options = self._options
        if not settled or options.prune or options.dry_run or any(t.kind == REGISTRY for t in self._file.tasks):
            return Looked(False)
        return looked(self._copies, self._lists, self._state)

    def run(self, tasks: Sequence[Task]) -> tuple[Row, ...]:
        """Do `tasks`; a row for every image and target.

        Raises:
            Cancelled: what was done until then is remembered.
            KnarrError: the first failure, with `fail_fast`; else failures are rows.
        """
        self._rows = []
        pruner = Pruner(self._places, self._state, self._tell, dry_run=self._options.dry_run)
        try:
            copies = self._copies = [copy for task in tasks for copy in self._listed(task, pruner)]
            if pruner.asked:
                # What other tasks bring to the same places is wanted, too, though it is not their turn.
                for task in self._file.tasks:
                    if task not in tasks:
                        self._listed(task, pruner, prunes=False)
            # Questions are small: more of them at a time than images.
            due = each(self._look, copies, scope=self._scope, jobs=max(_QUESTIONS, self._file.jobs))
            each(self._bring, [one for one in due if one is not None], scope=self._scope, jobs=self._file.jobs)
            pruner.run(failed={row.target.rpartition(":")[0] for row in self._rows if row.result == FAILED})
        finally:
            self._state.save()
        return tuple(self._rows)

    def _tell(self, row: Row) -> None:
        with self._lock:
            self._rows.append(row)
        if self._watch is not None:
            self._watch(row)

    def _failed(self, source: str, target: str, error: KnarrError) -> None:
        if self._options.fail_fast:
            raise error
        about = ", ".join(f"{key} {value}" for key, value in error.context.items() if value)
        text = f"{error.message} ({about})" if about else error.message
        self._tell(Row(source, target, FAILED, error=text, hint=error.hint))

    def _listed(self, task: Task, pruner: Pruner, *, prunes: bool = True) -> list[plan.Copy]:
        """The images of a task; what cannot be listed is a row, and is not pruned."""
        try:
            if task.kind == IMAGE:
                copy = plan.one_image(task)
                for target in copy.targets:
                    pruner.keep(target)
                return [copy]
            if task.kind == REGISTRY:
                host = task.source.removeprefix("docker://").strip("/")
                repositories = plan.repositories(task, self._places.catalog(host))
            else:
                repositories = [plan.one_repository(task)]
        except KnarrError as error:
            pruner.spare_all()
            self._failed(task.source, ", ".join(task.targets), error)
            return []
        return [copy for repository in repositories for copy in self._images(repository, pruner, prunes)]

    def _images(self, repository: plan.Repository, pruner: Pruner, prunes: bool) -> list[plan.Copy]:
        task = repository.task
        try:
            with self._limits.turn(host_of(repository.source))():
                tags = self._places.tags(repository.source)
            if repository.source.reference is not None:
                self._lists[place_of(repository.source)] = tags
        except KnarrError as error:
            for target in repository.targets:
                pruner.spare(target)
            self._failed(repository.source.repository, ", ".join(t.repository for t in repository.targets), error)
            return []
        copies = plan.copies(repository, tags)
        if prunes and (task.prune or self._options.prune):
            for target in repository.targets:
                pruner.ask(task, target)
        for copy in copies:
            for target in copy.targets:
                pruner.keep(target)
        return copies

    def _look(self, copy: plan.Copy) -> _Due | None:
        """What of one image has to be brought; tells what has not."""
        self._scope.check()
        source = name_of(copy.source)
        try:
            place, locator = self._places.reader(copy.source), locator_of(copy.source)
            with self._limits.turn(host_of(copy.source))():
                root = place.resolve(locator)
        except KnarrError as error:
            for target in copy.targets:
                self._failed(source, name_of(target), error)
            return None
        if copy.task.media_types and root.media_type not in copy.task.media_types:
            for target in copy.targets:
                self._tell(Row(source, name_of(target), SKIPPED, error=f"media type {root.media_type} is not wanted"))
            return None
        bare: list[Spot] = []
        due = tuple(target for target in copy.targets if not self._is_same(copy, root, target, bare))
        if due and self._check is not None and not self._is_allowed(copy, place, root, due):
            return None
        return _Due(copy, place, root, due, frozenset(bare)) if due and not self._options.dry_run else None

    def _is_allowed(self, copy: plan.Copy, place: Place, root: Descriptor, due: Sequence[Spot]) -> bool:
        """Whether the source may be copied; tells if it may not."""
        assert self._check is not None
        try:
            with self._limits.turn(host_of(copy.source))():
                self._check(place, root, copy.source)
        except KnarrError as error:
            for target in due:
                self._failed(name_of(copy.source), name_of(target), error)
            return False
        return True

    def _is_same(self, copy: plan.Copy, root: Descriptor, target: Spot, bare: list[Spot]) -> bool:
        """Whether nothing is to be done for one target; tells so. One that has nothing is added to `bare`."""
        source, name = name_of(copy.source), name_of(target)
        try:
            there = self._resolved(target)
        except KnarrError as error:
            self._failed(source, name, error)
            return True
        if not there:
            bare.append(target)
        known = self._state.get(name)
        same = known is not None and (known.source, known.target, known.wish) == (
            root.digest,
            there,
            plan.wish_of(copy.task),
        )
        fresh = known is not None and self._clock() - known.checked < copy.task.recheck_s
        never = copy.task.recheck_s == float("inf") and there == root.digest
        if there and not self._options.full and ((same and fresh) or never):
            self._tell(Row(source, name, UNCHANGED, there))
            return True
        if self._options.dry_run:
            result = UNCHANGED if there and (same or there == root.digest) else WOULD_COPY
            self._tell(Row(source, name, result, str(root.digest)))
        return False

    def _resolved(self, target: Spot) -> str:
        """The digest of a target now, or empty."""
        try:
            with self._limits.turn(host_of(target))():
                return str(self._places.reader(target).resolve(locator_of(target)).digest)
        except NotFound:
            return ""

    def _bring(self, work: _Due) -> None:
        copy, place, root, due = work.copy, work.place, work.root, work.targets
        source = name_of(copy.source)
        try:
            # A HEAD is no pull; what follows is.
            self._quotas.wait(host_of(copy.source), copy.task, lambda: work.place.resolve(locator_of(copy.source)))
            reshaped = gather(
                place,
                root,
                scope=self._scope,
                options=copy.task.options,
                turn=self._limits.turn(host_of(copy.source)),
                tags=copy.source_tags,
            )
        except KnarrError as error:
            for target in due:
                self._failed(source, name_of(target), error)
            return
        with ExitStack() as stack:
            content: Fetcher = place
            if len(due) > 1:
                directory = Path(stack.enter_context(TemporaryDirectory(prefix="sync-", dir=self._directory)))
                content = stack.enter_context(Spool(place, directory))
            each(
                lambda target: self._to(work, content, reshaped, target),
                due,
                scope=self._scope,
                jobs=len(due),
            )

    def _to(self, work: _Due, place: Fetcher, reshaped: Reshaped, target: Spot) -> None:
        """One image to one target."""
        copy, root = work.copy, work.root
        source, name, closure = name_of(copy.source), name_of(target), reshaped.closure
        began = time.monotonic()
        try:
            writer = self._places.writer(target)
            if copy.task.backup:
                self._back_up(copy.task, target, closure.root)
            tag = tag_of(target)
            outcome = copy_closure(
                closure,
                place,
                writer,
                tags=(tag,) if tag else (),
                scope=self._scope,
                jobs=copy.task.options.jobs,
                turn=self._limits.turn(host_of(copy.source), host_of(target)),
                watch=self._moving,
                mounts_of=lambda blob: self._mounts(copy.source, target, blob),
                once=lambda blob, send: self._places.once(target, blob.digest, send),
                verify=copy.task.options.verify,
                absent=target in work.bare,
            )
        except KnarrError as error:
            self._state.forget(name)
            self._failed(source, name, error)
            return
        self._places.note(target, {blob.digest for blob in closure.blobs})
        self._tell(self._done(copy, root, reshaped, outcome, target, time.monotonic() - began))

    def _done(
        self,
        copy: plan.Copy,
        root: Descriptor,
        reshaped: Reshaped,
        outcome: CopyOutcome,
        target: Spot,
        seconds: float,
    ) -> Row:
        source, name, digest = name_of(copy.source), name_of(target), str(reshaped.closure.root.digest)
        row = Row(source, name, COPIED if outcome.changed else UNCHANGED, digest, outcome.report.copied_bytes, seconds)
        if outcome.lost:
            self._state.forget(name)
            first = outcome.lost[0]
            text = f"{len(outcome.lost)} documents are not there after the copy: {first.node.kind} {first.why}"
            return replace(row, result=FAILED, error=text)
        known = Known(str(root.digest), digest, self._clock(), plan.wish_of(copy.task))
        self._state.set(name, known)
        return row

    def _mounts(self, source: Spot, target: Spot, blob: Descriptor) -> list[str]:
        found = self._places.siblings(target, blob.digest)
        same_host = host_of(source) and host_of(source) == host_of(target)
        if same_host and source.repository != target.repository and source.reference is not None:
            return [source.reference.repository, *found][:2]
        return found

    def _back_up(self, task: Task, target: Spot, new: Descriptor) -> None:
        """Copy what a target has to the place that the task's template names, when it is about to be replaced."""
        from knarr.sync.backup import backup_place

        there = self._resolved(target)
        if not there or there == new.digest or target.reference is None:
            return
        place = backup_place(task, target, there)
        old = self._places.reader(target)
        kept = gather(old, old.resolve(there), scope=self._scope, options=replace(task.options, attestations="keep"))
        tag = tag_of(place)
        copy_closure(kept.closure, old, self._places.writer(place), tags=(tag,) if tag else (), scope=self._scope)
