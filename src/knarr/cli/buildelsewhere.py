"""`knarr build` with a builder: who that is, and what of this machine it is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from knarr.cli.buildtokens import registry_client, token_source
from knarr.client.address import is_address, read_address
from knarr.client.builder import RemoteBuilder
from knarr.client.stored import Builders, Node, StoredBuilder, directory
from knarr.client.tls import Tls, read_directory
from knarr.content.store import Store
from knarr.errors import Unsupported
from knarr.record import replace

if TYPE_CHECKING:
    from knarr.cli.builderchoice import BuilderTls
    from knarr.cli.buildoptions import BuildOptions
    from knarr.client.farm import Farm
    from knarr.config import Settings

PLACE = "builders"  # below the working files: sockets of sessions, and what comes from builders


@contextmanager
def opened(options: BuildOptions, settings: Settings) -> Iterator[RemoteBuilder | Farm]:
    """The builder that `options` choose. Nothing is connected yet.

    Raises:
        UsageError: there is none of this name, or the address is none.
        Unsupported: a runtime or a trust policy is asked for, which only this process would go by.
    """
    if options.oci_runtime:
        raise Unsupported(
            "--oci-runtime: a builder elsewhere has a runtime of its own",
            hint="give it to the daemon (--oci-worker-binary), or leave out --builder",
        )
    if settings.verify:
        raise Unsupported(
            f"--verify: a builder elsewhere is not bound by {settings.verify}",
            hint="give the policy to the builder, or leave out --builder",
        )
    with ExitStack() as stack:

        def store() -> Store:
            found = Store(settings.content)
            stack.callback(found.close)
            return found

        builder = chosen_builder(options.builder, options.tls)
        tokens = token_source(stack)
        several = len(builder.nodes) > 1
        found = [
            RemoteBuilder(
                read_address(node.address),
                node.tls,
                settings.run / PLACE,
                store,
                tokens=tokens,
                prefix=f"[{node.name}] " if several else "",
            )
            for node in builder.nodes
        ]
        if not several:
            yield found[0]
            return
        from knarr.client.farm import Farm, FarmNode

        nodes = [FarmNode(node.name, one, node.platforms) for node, one in zip(builder.nodes, found, strict=True)]
        yield Farm(nodes, store, lambda: registry_client(stack))


def chosen_builder(text: str, tls: BuilderTls) -> StoredBuilder:
    """The stored builder of this name, or one for an address.

    Raises:
        UsageError: there is none.
    """
    if not is_address(text):
        return Builders(directory(os.environ)).get(text)
    read_address(text)
    return StoredBuilder(text, (Node(text, text, client_tls(tls)),))


def client_tls(given: BuilderTls) -> Tls:
    """The certificates that flags name; single files go before those of a directory.

    Raises:
        UsageError: the directory has none.
    """
    found = read_directory(given.directory) if given.directory else Tls()
    told = {"ca": given.ca, "cert": given.cert, "key": given.key, "server_name": given.server_name}
    return replace(found, **{name: value for name, value in told.items() if value})
