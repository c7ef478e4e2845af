"""What a frontend is asked, and what it answers: the records between the engine and any frontend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr.errors import Span
from knarr.llb.ops import Graph, LinuxResources, ResolveMode, UlimitOpt
from knarr.record import field, record
from knarr.spec.config import ImageConfig
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from knarr.frontend.gateway import GivenAttestation
    from knarr.frontend.scanner import Scanner


@record
class Input:
    """A result that the caller lends as a context: its graph, and the image config where it is an image."""

    graph: Graph
    config: ImageConfig | None = None


@record
class FrontendRequest:
    """The options of one build, as BuildKit's `dockerfile.v0` has them (build.md §1.4)."""

    dockerfile: bytes
    filename: str = "Dockerfile"  # for spans and messages
    dockerignore: bytes | None = None
    dockerignore_name: str = ".dockerignore"
    target: str = ""
    platforms: tuple[Platform, ...] = ()  # empty: the user gave none
    build_platform: Platform | None = None  # BUILDPLATFORM; None: this machine's
    build_args: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    contexts: Mapping[str, str] = field(
        default_factory=dict, hash=False
    )  # named: name → "local:NAME", "docker-image://…"
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    resolve_mode: ResolveMode = "default"
    extra_hosts: tuple[tuple[str, str], ...] = ()  # (name, address)
    network: str = "default"  # default, none, host
    shm_size_bytes: int = 0  # 0: default
    ulimits: tuple[UlimitOpt, ...] = ()
    cgroup_parent: str = ""
    resources: LinuxResources | None = None  # what each step may take of the machine
    hostname: str = ""
    source_date_epoch: int | None = None
    context_directory: str = ""  # the part of a context that is no directory of the caller's
    context_excludes: tuple[str, ...] = ()
    inputs: Mapping[str, Input] = field(default_factory=dict, hash=False)  # that contexts name as `input:NAME`
    sessions: Mapping[str, str] = field(default_factory=dict, hash=False)  # who lends a directory, if not the caller
    scanner: Scanner | None = None  # of the SBOM that was asked for
    definition: bytes = field(default=b"", repr=False)  # the graph by which the Dockerfile was read, if there was one


@record
class Warning:
    """A lint finding."""

    rule: str
    description: str
    url: str
    message: str
    span: Span | None = None


@record
class PlatformResult:
    """One platform's answer: the graph and the image config around it.

    `config` has everything but diff IDs; `config.history` has one line per
    instruction, `empty_layer` set where no layer comes of it; the lines of the
    base image come first. `base_layers` counts the layers that belong to the base.
    """

    platform: Platform
    graph: Graph
    config: ImageConfig
    base_config: ImageConfig | None = None
    epoch: int | None = None  # the SOURCE_DATE_EPOCH that was gone by, seconds since 1970
    attestations: tuple[GivenAttestation, ...] = ()
    scans: tuple[tuple[str, Graph], ...] = ()  # what the SBOM is to tell of besides the result, by name


@record
class FrontendResult:
    """A frontend's whole answer, platforms in the order asked for."""

    results: tuple[PlatformResult, ...]
    warnings: tuple[Warning, ...] = ()
    multi_platform: bool = False  # an index is wanted even for one
    empty_names: Mapping[int, str] = field(default_factory=dict)  # line → what to say of variables without a value
