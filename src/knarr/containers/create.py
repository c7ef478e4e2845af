"""An image becomes a container: found or fetched, unpacked, and written down with all that it shall be.

What the command line did not say, the image says (image-spec v1.1, config.md), as docker run has it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from knarr.containers import networking, volumes
from knarr.containers.names import made_up
from knarr.containers.spec import ContainerMount, ContainerSpec, Limit, Port
from knarr.containers.store import Container, Containers
from knarr.errors import ContentError, KnarrError, NotFound, Unsupported, UsageError
from knarr.paths import clean
from knarr.record import field, record, replace
from knarr.spec.config import RunConfig
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform, host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.engine.job import Job
    from knarr.ops.images import Found, Images

    _Unpacked = tuple[Found, str, str | None]

GATEWAY = "host-gateway"  # an address in `extra_hosts`: this machine's, as the container meets it
Pull = Literal["missing", "always", "never"]


@record
class Asked:
    """What somebody wants of a container; None: as the image says."""

    image: str
    args: tuple[str, ...] = ()
    name: str = ""
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    hostname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    terminal: bool = False
    stdin: bool = False
    detached: bool = False
    remove: bool = False
    readonly: bool = False
    privileged: bool = False
    init: bool = False
    mounts: tuple[ContainerMount, ...] = ()
    network: str = ""
    ports: tuple[Port, ...] = ()
    all_ports: bool = False
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    shm_size_bytes: int = 64 << 20
    limits: tuple[Limit, ...] = ()
    resources: Mapping[str, int | str] = field(default_factory=dict, hash=False)
    stop_signal: str = ""
    stop_timeout_s: float = 10.0
    detach_keys: str = "ctrl-p,ctrl-q"


def create(job: Job, asked: Asked, containers: Containers, *, pull: Pull, digest: Digest | None = None) -> Container:
    """Make the container. `digest` is of an image that was put into the store for this; else it is found by its name.

    Raises:
        NotFound: there is no such image, or none for the platform.
        UsageError: the name is taken, or the image and what was asked for do not fit.
        KnarrError: it cannot be fetched or unpacked; nothing stays of the container.
    """
    id = os.urandom(32).hex()
    name = asked.name or made_up()
    containers.claim(name, id)
    path = None
    try:
        found, record, snapshot = _found(job, asked, pull, digest)
        spec = described(asked, found.config.config, id=id, name=name)
        network = _network(job, spec)
        blobs = (found.manifest.descriptor, *found.manifest.successors)
        spec = replace(
            spec,
            network=network,
            extra_hosts=_hosts(job, spec, network),
            digest=str(found.manifest.descriptor.digest),
            platform=str(found.config.platform),
            record=record,
            snapshot=snapshot or "",
            blobs=tuple(str(blob.digest) for blob in blobs),
        )
        path = containers.directory_of(id)
        return containers.add(path, spec)
    except BaseException:
        containers.give_up(name, id)
        if path is not None:
            with suppress(OSError):
                os.rmdir(path)
        raise


def tree_of(job: Job, spec: ContainerSpec) -> None:
    """Unpack the image's layers again, if they are not there any more: a power cut may cost them.

    Raises:
        KnarrError: they cannot be had.
    """
    job.trees.snapshot(spec.record)


def described(asked: Asked, image: RunConfig, *, id: str, name: str) -> ContainerSpec:
    """What the container is, by what was asked for and what the image says.

    Raises:
        UsageError: there is nothing to run.
        ContentError: the image's config is no good.
    """
    _check(image)
    shared = asked.network == "host"
    labels = {**image.labels, **asked.labels}
    mounts = _mounts(asked, image)
    return ContainerSpec(
        id=id,
        name=name,
        created_ns=time.time_ns(),
        image=asked.image,
        digest="",
        platform="",
        record="",
        snapshot="",
        blobs=(),
        args=_args(asked, image),
        env=_environment(image.env, asked.env),
        cwd=clean(asked.cwd or image.working_dir or "/"),
        user=asked.user or image.user,
        hostname=asked.hostname or (os.uname().nodename if shared else id[:12]),
        labels=labels,
        terminal=asked.terminal,
        stdin=asked.stdin,
        detached=asked.detached,
        remove=asked.remove,
        readonly=asked.readonly,
        privileged=asked.privileged,
        init=asked.init,
        mounts=mounts,
        network=asked.network,
        ports=(*asked.ports, *(_exposed(image) if asked.all_ports else ())),
        extra_hosts=asked.extra_hosts,
        dns=asked.dns,
        dns_search=asked.dns_search,
        dns_options=asked.dns_options,
        cap_add=asked.cap_add,
        cap_drop=asked.cap_drop,
        security=asked.security,
        shm_size_bytes=asked.shm_size_bytes,
        limits=asked.limits,
        resources=asked.resources,
        stop_signal=asked.stop_signal or image.stop_signal or "SIGTERM",
        stop_timeout_s=asked.stop_timeout_s,
        detach_keys=asked.detach_keys,
    )


def _network(job: Job, spec: ContainerSpec) -> str:
    """The network's name, which is looked for now: a container that could never start is not made."""
    settings = job.parts.settings
    name = spec.network or networking.usual(settings.network)
    if name not in ("host", "none"):
        networking.network(name, settings.network, settings.root)
    elif spec.ports:
        raise UsageError(
            f"network {name} publishes no ports" + (": the container has the machine's own" if name == "host" else ""),
            hint="leave out --publish" if name == "host" else "use --network bridge",
        )
    return name


def _hosts(job: Job, spec: ContainerSpec, network: str) -> tuple[tuple[str, str], ...]:
    if not any(address == GATEWAY for _, address in spec.extra_hosts):
        return spec.extra_hosts
    address = "127.0.0.1"
    if network == "bridge":
        from ipaddress import ip_network

        address = str(ip_network(job.parts.settings.network.subnet)[1])
    elif network != "host":
        raise UsageError(f"network {network}: nobody knows the address of {GATEWAY} in it", hint="write the address")
    return tuple((name, address if known == GATEWAY else known) for name, known in spec.extra_hosts)


def _found(job: Job, asked: Asked, pull: Pull, digest: Digest | None) -> _Unpacked:
    """The image, the record of its tree, and the name of that tree unpacked (None: it has no files)."""
    platform = asked.platform or host_platform()
    _check_platform(platform)
    if digest is not None:
        return _nameless(job, digest, platform)
    failure: KnarrError | None = None
    if pull != "always":
        try:
            return _here(job, asked, platform)
        except NotFound as error:
            failure = error
    if pull == "never":
        raise NotFound(
            f"{asked.image} is not in the store" + (f" for {platform}" if asked.platform else ""),
            hint="pull it first, or leave out --pull never",
        ) from failure
    reference = Reference.parse(asked.image).tagged()
    images = job.parts.images("pull")
    found = images.find(reference, platform)
    unpacked = _unpacked(job, images, found)
    top = job.parts.store.resolve(str(found.digest))
    if reference.tag:
        job.parts.store.tag(top, str(replace(reference, digest=None)))
    return unpacked


def _here(job: Job, asked: Asked, platform: Platform) -> _Unpacked:
    """The image as the store has it.

    Raises:
        NotFound: it is not there, or not whole.
    """
    from knarr.image.stored import images_here, lookup

    name = lookup(job.parts.store, asked.image)
    if asked.platform is None:
        here = [image.platform for image in images_here(job.parts.store, name.descriptor)]
        if len(here) == 1:  # what was built for another platform is what is meant, too
            platform = here[0]
    if name.name.startswith("<none>"):
        return _nameless(job, name.descriptor.digest, platform)
    images = job.parts.images("never")
    found = images.find(Reference.parse(name.name), platform)
    return _unpacked(job, images, found)


def _nameless(job: Job, digest: Digest, platform: Platform) -> _Unpacked:
    from knarr.image.stored import StoreAsLent

    images = job.parts.images("never")
    found = images.find_lent(StoreAsLent(job.parts.store), digest, Reference("local", "image"), platform)
    return _unpacked(job, images, found)


def _unpacked(job: Job, images: Images, found: Found) -> _Unpacked:
    made = images.records(found)
    return found, made, job.trees.snapshot(made)


def _check_platform(platform: Platform) -> None:
    from knarr.runtime import binaryformat, emulate

    if platform.os != "linux":
        raise Unsupported(f"containers for {platform} do not run on Linux", hint="use --platform linux/…")
    if not emulate.runs_natively(platform.architecture) and platform.architecture not in binaryformat.FORMATS:
        raise Unsupported(f"containers for {platform} cannot run here: there is no emulator for it")


def _check(image: RunConfig) -> None:
    """The config is an image's, and may say anything."""
    texts = [*image.env, *(image.entrypoint or ()), *(image.cmd or ()), *image.volumes, *image.exposed_ports]
    texts += [image.user, image.working_dir, image.stop_signal, *image.labels, *image.labels.values()]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ContentError("the image's config has something else where texts should be")


def _args(asked: Asked, image: RunConfig) -> tuple[str, ...]:
    """Entrypoint and command, by docker's rule: a new entrypoint forgets the image's command."""
    if asked.entrypoint is not None:
        args = (*([asked.entrypoint] if asked.entrypoint else ()), *asked.args)
    else:
        args = (*(image.entrypoint or ()), *(asked.args or image.cmd or ()))
    if not args:
        raise UsageError(f"{asked.image} says nothing of what to run", hint="write a command behind the image's name")
    return args


def _environment(first: tuple[str, ...], then: tuple[str, ...]) -> tuple[str, ...]:
    table = {}
    for pair in (*first, *then):
        name, equals, value = pair.partition("=")
        if equals:
            table[name] = value
        else:
            table.pop(name, None)  # `--env NAME` of one that is not set here takes it away
    return tuple(f"{name}={value}" for name, value in table.items())


def _mounts(asked: Asked, image: RunConfig) -> tuple[ContainerMount, ...]:
    """What was asked for, and a volume of its own for each that the image wants and nobody gave."""
    taken = {clean(mount.target) for mount in asked.mounts}
    wanted = [clean(target) for target in image.volumes if clean(target) not in taken | {"/"}]
    own = [ContainerMount("volume", os.urandom(32).hex(), target, anonymous=True) for target in dict.fromkeys(wanted)]
    for mount in asked.mounts:
        if mount.kind == "volume":
            volumes.check_name(mount.source)
    return (*asked.mounts, *own)


def _exposed(image: RunConfig) -> tuple[Port, ...]:
    found = []
    for text in image.exposed_ports:
        number, _, protocol = text.partition("/")
        if number.isascii() and number.isdigit() and 0 < int(number) < 65536 and protocol in ("", "tcp", "udp"):
            found.append(Port(int(number), protocol=protocol or "tcp"))
    return tuple(found)
