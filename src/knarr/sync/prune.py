"""Delete at targets what nothing wants there any more: only after everything was copied, and within limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from knarr.errors import KnarrError, NotFound
from knarr.image.removal import remove_hanging, remove_tag
from knarr.image.spot import Spot
from knarr.record import record
from knarr.sync import plan
from knarr.sync.places import Place, Places, name_of, tag_of
from knarr.sync.row import DELETED, FAILED, WOULD_DELETE, Row
from knarr.sync.state import State
from knarr.sync.task import Task


@record
class _Asked:
    task: Task
    target: Spot


class Pruner:
    """What is wanted where, over all tasks of a run; then the deletions."""

    def __init__(self, places: Places, state: State, tell: Callable[[Row], None], *, dry_run: bool) -> None:
        self._places, self._state, self._tell, self._dry_run = places, state, tell, dry_run
        self._wanted: dict[str, set[str]] = {}
        self._asked: dict[str, _Asked] = {}
        self._spared: set[str] = set()
        self._spares_all = False

    def keep(self, target: Spot) -> None:
        """The tag of `target` is wanted."""
        self._wanted.setdefault(target.repository, set()).add(tag_of(target))

    def ask(self, task: Task, target: Spot) -> None:
        """Delete what is not wanted in the repository of `target`."""
        self._asked.setdefault(target.repository, _Asked(task, target))

    @property
    def asked(self) -> bool:
        """Whether anything may be deleted at all."""
        return bool(self._asked)

    def spare(self, target: Spot) -> None:
        """Nothing is deleted in the repository of `target`: it is not known what is wanted there."""
        self._spared.add(target.repository)

    def spare_all(self) -> None:
        """It is not known which repositories a task means."""
        self._spares_all = True

    def run(self, failed: Iterable[str]) -> None:
        """Delete; not where a copy has failed, as what it was to replace may still be needed."""
        spared = self._spared | set(failed)
        for name, asked in self._asked.items():
            if self._spares_all or name in spared:
                continue
            try:
                there = self._places.tags(asked.target, may_lack=True)
                found = plan.deletions(asked.task, asked.target, there, self._wanted.get(name, ()))
                self._delete(found, there, self._wanted.get(name, set()))
            except KnarrError as error:
                self._tell(Row("", name, FAILED, error=error.message, hint=error.hint))

    def _delete(self, found: list[plan.Deletion], there: tuple[str, ...], wanted: set[str]) -> None:
        if not found:
            return
        place = self._places.writer(found[0].target)
        kept: set[str] = set()
        if not self._dry_run:
            kept = {str(place.resolve(tag).digest) for tag in there if tag in wanted}
        for deletion in found:
            name, tag = name_of(deletion.target), tag_of(deletion.target)
            if self._dry_run:
                self._tell(Row("", name, WOULD_DELETE))
                continue
            try:
                digest = self._one(place, tag, there, kept)
            except KnarrError as error:
                self._tell(Row("", name, FAILED, error=error.message, hint=error.hint))
                continue
            self._state.forget(name)
            self._tell(Row("", name, DELETED, digest))

    def _one(self, place: Place, tag: str, there: tuple[str, ...], kept: set[str]) -> str:
        """Delete a tag, and what hangs on its digest when no other tag has it; the digest."""
        try:
            digest = remove_tag(place, tag, kept)
        except NotFound:
            return ""  # another tag of the same manifest took it along
        if digest not in kept:
            remove_hanging(place, digest, there)
        return str(digest)
