"""What `knarr sync` does when there may be something to do: keep mirrors as a file says, once or for ever."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.transfer import PROGRESS_FLAGS, Transfer, transfer
from knarr.cli.trustflags import VERIFY_FLAG, check_spot, guard_of
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from knarr.image.copy import Watch
    from knarr.remote.repository import Registry
    from knarr.session.session import Credentials
    from knarr.spec.descriptor import Descriptor
    from knarr.sync.looked import Looked
    from knarr.sync.row import Row
    from knarr.sync.run import Runner
    from knarr.sync.task import SyncFile

FLAGS = (
    Flag("dry-run", Kind.SWITCH, "", "say what would be copied and deleted, and do nothing", short="n"),
    Flag("prune", Kind.SWITCH, "", "delete tags at targets that no task wants there (limits of the file hold)"),
    Flag("full", Kind.SWITCH, "", "look at everything, whatever is remembered"),
    Flag("fail-fast", Kind.SWITCH, "", "stop at the first failure"),
    Flag("state", Kind.TEXT, "FILE", "where to remember what is the same (default: in the state directory)"),
    Flag("to", Kind.LIST, "PLACE", "for skopeo's form: the registry and path to copy to"),
    Flag("scoped", Kind.SWITCH, "", "for skopeo's form: put the whole source name below it"),
    Flag("attestations", Kind.TEXT, "PLACE", "for every task: keep, drop, referrers, index or tag, as `knarr copy`"),
    VERIFY_FLAG,
    Flag("watch", Kind.SWITCH, "", "stay, run tasks by their interval or cron, and follow changes of the file"),
    Flag("metrics", Kind.TEXT, "ADDRESS", "with --watch: serve Prometheus metrics at HOST:PORT"),
    Flag("format", Kind.TEXT, "FORM", "table (the default) or json: one object for each image"),
    Flag("all", Kind.SWITCH, "", "show images that are unchanged, too", short="a"),
    *PROGRESS_FLAGS,
)


_LARGE = 4 << 20  # bytes


def help_text() -> str:
    """What `knarr sync --help` prints."""
    return (
        "Usage: knarr sync [OPTIONS] FILE\n\n"
        "Copy images as FILE says, with all that belongs to them: knarr's own form in TOML, regsync's YAML or\n"
        "skopeo's sync YAML. What is the same costs a HEAD at the source and at the target. A failure does not\n"
        "stop the others; the exit status is 1 when there was one.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def sync(argv: list[str]) -> int:
    """Carry out `knarr sync ARGUMENTS`; what was looked at is noted for the next time (`syncrecall`).

    Raises:
        UsageError: the file cannot be read or meant.
        KnarrError: with --fail-fast, the first failure.
    """
    given = parse(FLAGS, argv, command="knarr sync")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr sync needs one file", hint="see `knarr sync --help`")
    if given.text("format", "table") not in ("table", "json"):
        raise UsageError(f"--format {given.text('format')}: not known", hint="use table or json")
    if given.text("metrics") and not given.switch("watch"):
        raise UsageError("--metrics is for --watch")
    read = reader(given)
    started_ns = time.time_ns()
    file = read()
    with transfer(given) as world:
        if given.switch("watch"):
            from knarr.cli.syncwatch import watch

            watch(world, given, file, read)
            return 0
        return _once(world, given, file, lambda looked, count: _remember(argv, given, file, looked, count, started_ns))


def reader(given: Parsed) -> Callable[[], SyncFile]:
    """Reads the file that the command line names, as often as it is called.

    Raises:
        UsageError: the command line asks for a place of attestations that is none.
    """
    from knarr.record import replace
    from knarr.sync.read import read_file

    path = given.words[0]
    place = given.text("attestations")
    if place:
        from knarr.cli.copy import check_attestations

        check_attestations(place)

    def read() -> SyncFile:
        file = read_file(path, os.environ, destinations=given.list("to"), scoped=given.switch("scoped"))
        if not place:
            return file
        tasks = (replace(task, options=replace(task.options, attestations=place)) for task in file.tasks)
        return replace(file, tasks=tuple(tasks))

    return read


def _remember(argv: list[str], given: Parsed, file: SyncFile, looked: Looked, count: int, started_ns: int) -> None:
    """Note that there is nothing more to do, for a command that would only say so."""
    from knarr.cli import syncrecall
    from knarr.cli.syncreport import summary
    from knarr.config import Settings
    from knarr.sync.row import UNCHANGED

    if any(given.switch(name) for name in ("full", "all")) or given.text("format") == "json" or guard_of(given):
        return
    root = Settings.from_environment(os.environ).root
    state = str(state_path(given, root))
    syncrecall.remember(argv, given.words[0], state, file, looked, summary({UNCHANGED: count}), started_ns)


def _once(world: Transfer, given: Parsed, file: SyncFile, remember: Callable[[Looked, int], None]) -> int:
    from knarr.cli.syncreport import Printer
    from knarr.export.vertex import Vertex
    from knarr.sync.row import FAILED

    for note in file.notes:
        print(f"note: {note}", file=sys.stderr)
    printer = Printer(given)
    with (
        Vertex(world.sink, f"sync {given.words[0]}") as vertex,
        runner(world, given, file, printer, _large(vertex.watch("copying"))) as made,
    ):
        rows = made.run(file.tasks)
        remember(made.looked(), len(rows))
    printer.finish(rows)
    return 1 if any(row.result == FAILED for row in rows) else 0


def _large(watch: Watch) -> Watch:
    """Progress for what takes a while; images have lines of their own."""

    def about(blob: Descriptor, done: int, how: str) -> None:
        if blob.size >= _LARGE:
            watch(blob, done, how)

    return about


@contextmanager
def runner(
    world: Transfer,
    given: Parsed,
    file: SyncFile,
    tell: Callable[[Row], object],
    moving: Watch | None = None,
) -> Iterator[Runner]:
    """The runner for `file`, with the registries as the file and the user want them."""
    from knarr.sync.places import Places
    from knarr.sync.quota import Quotas
    from knarr.sync.run import Runner, RunOptions
    from knarr.sync.state import State

    options = RunOptions(
        dry_run=given.switch("dry-run"),
        prune=given.switch("prune"),
        full=given.switch("full"),
        fail_fast=given.switch("fail-fast"),
    )
    guard = guard_of(given)
    path = state_path(given, world.parts.settings.root)
    with ExitStack() as stack:
        registry = _registry(world, file, stack)
        yield Runner(
            file,
            Places(registry, world.scope),
            State(path),
            scope=world.scope,
            directory=world.parts.settings.run,
            options=options,
            quotas=Quotas(lambda: registry.quotas, world.scope, tell=lambda text: print(text, file=sys.stderr)),
            watch=tell,
            moving=moving,
            check=None if guard is None else lambda place, root, where: check_spot(guard, place, root, where),
        )


def state_path(given: Parsed, root: Path) -> Path:
    """One memory for each file, by where it is, unless --state names another."""
    from hashlib import sha256
    from pathlib import Path

    if given.text("state"):
        return Path(given.text("state"))
    where = sha256(os.path.abspath(given.words[0]).encode()).hexdigest()[:16]
    return root / "sync" / f"{where}.json"


def _registry(world: Transfer, file: SyncFile, stack: ExitStack) -> Registry:
    from knarr.record import replace
    from knarr.remote.repository import Registry

    base = world.parts.registry()
    if not file.registries:
        return base
    settings = base.transport.settings
    wishes = file.registries
    settings = replace(
        settings,
        insecure=settings.insecure | {host for host, wish in wishes.items() if wish.insecure},
        plain_http=settings.plain_http | {host for host, wish in wishes.items() if wish.plain_http},
        extra_ca=(*settings.extra_ca, *_certificates([ca for wish in wishes.values() for ca in wish.ca], world, stack)),
    )
    return stack.enter_context(Registry(settings, _credentials(file), scope=world.scope))


def _credentials(file: SyncFile) -> Callable[[str], Credentials]:
    """Logins of the file before those of the user."""
    from knarr.session.dockerconfig import DockerConfig
    from knarr.session.session import Credentials

    users = DockerConfig.from_environment(os.environ).credentials

    def find(name: str) -> Credentials:
        wish = file.registries.get(name.partition("/")[0])
        if wish is not None and wish.username:
            return Credentials(wish.username, wish.password)
        return users(name)

    return find


def _certificates(given: Sequence[str], world: Transfer, stack: ExitStack) -> Iterator[str]:
    """Paths of PEM files; a certificate that stands in the file itself becomes one."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    for text in given:
        if "BEGIN CERTIFICATE" not in text:
            yield text
            continue
        directory = stack.enter_context(TemporaryDirectory(prefix="ca-", dir=world.parts.settings.run))
        path = Path(directory) / "ca.pem"
        path.write_text(text)
        yield str(path)
