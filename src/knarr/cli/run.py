"""`knarr run` and `knarr create`: an image becomes a container.

What needs rights (fetching, unpacking, mounting) is done by children of this process, so that it
stays what it is: in a user namespace everything would end with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from knarr.cli.flags import Parsed, parse, usage
from knarr.cli.leadingflags import split
from knarr.cli.runflags import FLAGS, asked, cidfile, pull_of
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from knarr.cli.transfer import Transfer
    from knarr.containers.create import Asked, Pull
    from knarr.containers.store import Container, Containers
    from knarr.spec.digest import Digest

REFUSED = 125  # of knarr, where 126 and 127 are the command's own


def help_text(name: str = "run") -> str:
    """What `knarr run --help` prints."""
    what = (
        "Create a container of an image, and run it." if name == "run" else "Create a container, to be started later."
    )
    return (
        f"Usage: knarr {name} [OPTIONS] IMAGE [COMMAND [ARGUMENT...]]\n\n{what}\n\n"
        "IMAGE is a name in the store, pulled if it is not there, or oci:DIR[:TAG], oci-archive:FILE,\n"
        "docker-archive:FILE, containerd://[NAMESPACE/]NAME. The exit status is the command's; 125: knarr could not\n"
        f"run it; 126: it cannot be executed; 127: there is no such command.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr run ARGUMENTS`."""
    return told(lambda: _run(argv))


def told(act: Callable[[], int]) -> int:
    """The status of `act`; a failure is shown, and is 125, or what the command itself is to blame for."""
    from knarr.cli.inchild import Failed
    from knarr.errors import RuntimeFailed

    try:
        return act()
    except Failed as error:  # who failed has shown it
        return error.status if error.status > REFUSED else REFUSED
    except KnarrError as error:
        sys.stdout.flush()
        print(error.render(), file=sys.stderr)
        return (error.program_status if isinstance(error, RuntimeFailed) else 0) or REFUSED


def _run(argv: list[str]) -> int:
    from knarr.cli.attached import need_terminal

    given, words = parsed(argv, "run")
    if given.switch("help"):
        print(help_text())
        return 0
    wish = asked(given, words, os.environ)
    if wish.terminal and not wish.detached:
        need_terminal()
    container = created(given, wish)
    if wish.detached:
        from knarr.cli.containerstart import start

        start(container)
        print(container.id)
        return 0
    return attached(container)


def parsed(argv: list[str], name: str) -> tuple[Parsed, list[str]]:
    """The flags, and the image with its command.

    Raises:
        UsageError: a flag cannot be meant, or there is no image.
    """
    flags, words = split(FLAGS, argv)
    given = parse(FLAGS, flags, command=f"knarr {name}")
    if not words and not given.switch("help"):
        raise UsageError(f"knarr {name} needs an image", hint=f"see `knarr {name} --help`")
    return given, words


def created(given: Parsed, wish: Asked) -> Container:
    """The container that was asked for, made by a child of this process; `--cidfile` has its ID."""
    from knarr.cli.inchild import value_of
    from knarr.config import Settings
    from knarr.containers.store import Containers

    pull = pull_of(given)
    written = cidfile(given.text("cidfile")) if given.text("cidfile") else None
    containers = Containers(Settings.from_environment(os.environ).root)
    try:
        id = value_of(lambda: _create(given, wish, containers, pull).id)
    except BaseException:
        if written is not None:
            with suppress(OSError):
                os.unlink(given.text("cidfile"))
        raise
    if written is not None:
        os.write(written, id.encode())
        os.close(written)
    return containers.find(id)


def _create(given: Parsed, wish: Asked, containers: Containers, pull: Pull) -> Container:
    from knarr.cli.transfer import transfer
    from knarr.config import Settings
    from knarr.containers.create import create as create_container
    from knarr.engine.engine import Engine
    from knarr.record import replace
    from knarr.remote.settings import RegistrySettings
    from knarr.session.dockerconfig import DockerConfig
    from knarr.session.local import LocalSession
    from knarr.snapshot.namespace import take_rights

    settings = Settings.from_environment(os.environ)
    if "verify" in given.values:
        from knarr.config import trust_policy

        settings = replace(settings, verify=trust_policy(given.text("verify")))
    take_rights(os.environ)
    with transfer(given) as world:
        digest = _brought(given, wish, world)
        engine = Engine(settings, registry_settings=lambda: RegistrySettings.from_environment(os.environ))
        session = LocalSession({}, {}, DockerConfig.from_environment(os.environ))
        with engine.open(session, world.sink, scope=world.scope) as job:
            return create_container(job, wish, containers, pull=pull, digest=digest)


def _brought(given: Parsed, wish: Asked, world: Transfer) -> Digest | None:
    """The digest of an image that lies elsewhere (a layout, an archive, containerd), copied into the store."""
    from knarr.image.spot import REGISTRY, STORE, spot

    if wish.image.startswith("sha256:") or spot(wish.image).kind in (REGISTRY, STORE):
        return None
    from contextlib import ExitStack

    from knarr.cli.copy import trusting
    from knarr.cli.places import opened_source
    from knarr.image.copy import copy_graph
    from knarr.spec.platform import host_platform

    with ExitStack() as stack:
        registry = trusting(world, given, stack)
        place, root = stack.enter_context(opened_source(world, spot(wish.image), registry))
        wanted = (wish.platform or host_platform(),)
        copy_graph(place, world.store, root, scope=world.scope, platforms=wanted, sparse_target=True)
        return root.digest


def attached(container: Container) -> int:
    """Start the container and be its terminal or its pipes; its exit status, or 0 if it was left running."""
    from knarr.cli.attached import LEFT, Attached, size
    from knarr.containers.call import NotRunning, answer
    from knarr.containers.launch import launch

    spec = container.spec
    request = {
        "do": "attach",
        "stdin": spec.stdin,
        "once": not spec.terminal,
        "size": size() if spec.terminal else None,
    }

    def forward(number: int) -> None:
        with suppress(NotRunning, KnarrError):
            answer(container, {"do": "signal", "number": number})

    with launch(container, request) as connection:
        try:
            watching = Attached(
                connection,
                stdin=spec.stdin,
                terminal=spec.terminal,
                detach_keys=spec.detach_keys,
                forward=forward,
            )
            status = watching.run()
        except BrokenPipeError:
            return 1
    return 0 if status == LEFT else status
