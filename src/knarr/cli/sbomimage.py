"""What `knarr sbom` scans: a directory as it is, or an image that is unpacked for it and thrown away."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Parsed
from knarr.errors import ContentError, DigestMismatch, KnarrError
from knarr.record import record, replace
from knarr.sbom.about import About
from knarr.sbom.package import Inventory
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.cli.places import Place
    from knarr.cli.transfer import Transfer
    from knarr.spec.manifest import Manifest


@record
class Scanned:
    """What was found, and where (with a time that is not set yet)."""

    inventory: Inventory
    about: About


def scanned_directory(path: str) -> Scanned:
    """Scan a directory of this machine.

    Raises:
        KnarrError: it is none, or cannot be read.
    """
    from knarr.sbom.scan import scan

    try:
        os.listdir(path)
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}", hint="give the directory to scan") from error
    root = os.path.realpath(path)
    found = replace(scan(root), scanned_s=int(time.time()))
    return Scanned(found, About(os.path.basename(root) or "/", 0, kind="directory"))


def scanned_image(given: Parsed, platform: Platform | None) -> Scanned:
    """Scan the image that the one word of the command line names.

    Raises:
        KnarrError: there is no such image, or a layer of it cannot be read.
    """
    from knarr.cli.copy import trusting
    from knarr.cli.places import opened_source
    from knarr.cli.transfer import quiet_transfer
    from knarr.engine import inventories
    from knarr.image.select import manifest_for
    from knarr.image.spot import shown_name, spot
    from knarr.sbom import kept
    from knarr.snapshot.namespace import take_rights
    from knarr.spec.platform import host_platform

    where = spot(given.words[0])
    take_rights(os.environ)  # files of an image have many owners
    with quiet_transfer() as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        place, root = stack.enter_context(opened_source(world, where, registry))
        descriptor, manifest = manifest_for(place, root, platform or host_platform())
        about = About(shown_name(where), 0, version=str(descriptor.digest))
        keeper = inventories.place(world.parts.settings.root)
        inventory = kept.recall(keeper, str(descriptor.digest))
        if inventory is None:
            inventory = _unpacked_and_scanned(world, place, manifest, platform)
            inventory = replace(inventory, scanned_s=int(time.time()))
            kept.keep(keeper, str(descriptor.digest), inventory)
    return Scanned(inventory, about)


def _unpacked_and_scanned(world: Transfer, place: Place, manifest: Manifest, platform: Platform | None) -> Inventory:
    from knarr.engine.engine import Engine
    from knarr.image.successors import read_config
    from knarr.layer.apply import apply
    from knarr.layer.decompress import open_compressed
    from knarr.sbom.scan import scan
    from knarr.session.dockerconfig import DockerConfig
    from knarr.session.local import LocalSession

    config = read_config(place, manifest)
    _check(manifest, config.platform, platform)
    session = LocalSession({}, {}, DockerConfig.from_environment(os.environ))
    engine = Engine(world.parts.settings)
    with engine.open(session, world.sink, scope=world.scope) as job, job.trees.active(None) as active:
        for number, layer in enumerate(manifest.layers):
            try:
                with place.open(layer) as stream:
                    diff_id = apply(open_compressed(stream), Path(active.root), check=world.scope.check)
            except ContentError as error:
                raise error.with_context(layer=str(layer.digest)) from error.__cause__
            if number < len(config.diff_ids) and diff_id != config.diff_ids[number]:
                raise DigestMismatch(
                    f"layer {layer.digest} unpacks to {diff_id}, but the image config says {config.diff_ids[number]}"
                )
        return scan(active.root, check=world.scope.check)


def _check(manifest: Manifest, found: Platform, wanted: Platform | None) -> None:
    """A bare manifest is one platform's; asking for another is a slip.

    Raises:
        ContentError: it is no image, or for another platform.
    """
    if manifest.config.media_type.endswith("empty.v1+json") or manifest.artifact_type:
        raise ContentError("this is an artifact, not an image", hint="give the image that it is about")
    if wanted is not None and (found.os, found.architecture) != (wanted.os, wanted.architecture):
        raise ContentError(f"the image is for {found}, not for {wanted}", hint="leave out --platform")
