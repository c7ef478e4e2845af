"""Who makes an SBOM: the scanner that is built in, or an image that follows BuildKit's protocol for generators.

The names of BuildKit's own generator mean the scanner that is built in, so that no
image is pulled for it and an offline machine can make an SBOM; with `docker-image://`
before it a name means that image, also where it is a standard one.

A generator is run over the results, which it sees read-only, and writes in-toto
statements into a directory: `generated` gives that run as a graph.

Spec: BuildKit's docs/attestations/sbom-protocol.md and frontend/attestations/sbom at v0.33.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, UsageError
from knarr.frontend.gateway import GivenAttestation, Ref
from knarr.llb import definition
from knarr.llb.ops import MkDir
from knarr.llb.state import FileStep, Mount, Note, Process, State, graph, source
from knarr.record import field, record, replace
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.frontend.bridge import Bridge

CORE = "sbom"
EXTRA = f"{CORE}-"
PREDICATE = "https://spdx.dev/Document"
FORMATS = ("spdx-json", "cyclonedx-json")
_STANDARD = ("docker.io/docker/buildkit-syft-scanner",)
_IMAGE = "docker-image://"
_ASKING = ("attest:sbom", "build-arg:buildkit_attest_sbom")
_SOURCES, _OUT = "/run/src", "/run/out"


@record
class Scanner:
    """`generator` is None for the scanner that is built in; `params` are for whoever scans."""

    generator: Reference | None = None
    params: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def options(self) -> str:
        """A generator and what it is told, as the option `attest:sbom` has it."""
        import csv
        import io

        line = io.StringIO()
        fields = [f"generator={self.generator}", *(f"{key}={value}" for key, value in self.params.items())]
        csv.writer(line, lineterminator="").writerow(fields)
        return line.getvalue()

    @property
    def form(self) -> str:
        """The format that the built-in scanner is to write."""
        return self.params.get("format", FORMATS[0])


def scanner_of(attrs: Mapping[str, str]) -> Scanner:
    """The scanner that the options of `--sbom` and of `attest:sbom` ask for.

    Raises:
        UsageError: a generator that is no image, or an option of the built-in scanner that cannot be meant.
    """
    params = {key: value for key, value in attrs.items() if key != "generator"}
    name = attrs.get("generator")
    if name is None or _is_standard(name):
        built_in = Scanner(None, params)
        if built_in.form not in FORMATS:
            raise UsageError(f"sbom: format={built_in.form}: not known", hint=f"use one of: {', '.join(FORMATS)}")
        return built_in
    if not name.removeprefix(_IMAGE):
        raise UsageError("sbom generator cannot be empty", hint="leave it out for the scanner that is built in")
    try:
        return Scanner(Reference.parse(name.removeprefix(_IMAGE)).tagged(), params)
    except KnarrError as error:
        raise UsageError(f"failed to parse sbom generator {name}: {error.message}", hint=error.hint) from error


def _is_standard(name: str) -> bool:
    """Whether `name` is BuildKit's own generator, whatever its version; not if a digest says which it must be."""
    try:
        reference = Reference.parse(name)
    except KnarrError:
        return False
    return reference.digest is None and f"{reference.registry}/{reference.repository}" in _STANDARD


def for_others(options: Mapping[str, str], attrs: Mapping[str, str] | None) -> dict[str, str]:
    """The options of a frontend that is not ours. `attrs` are those of the SBOM, None when there is to be none.

    It does not know the built-in scanner, and would pull an image: what is scanned by
    that is no matter of its own.
    """
    if attrs is None or scanner_of(attrs).generator is not None:
        return dict(options)
    return {key: value for key, value in options.items() if key.lower() not in _ASKING}


def generated(
    scanner: Scanner,
    bridge: Bridge,
    core: State,
    extras: Mapping[str, State],
    *,
    shown: str,
    platform: Platform,
    anew: bool = False,
) -> GivenAttestation:
    """What the image `scanner.generator` says of `core`, and of `extras` by name, as an attestation to come.

    `shown` names the platform in the step; `platform` is that of the generator, which
    runs natively. With `anew` it is run whatever is in the cache.

    Raises:
        UsageError: the image says of itself no command.
        NotFound, RegistryError: the image cannot be had.
    """
    assert scanner.generator is not None
    image = bridge.image_config(scanner.generator, platform)
    config = image.config.config
    args = (*(config.entrypoint or ()), *(config.cmd or ()))
    if not args:
        raise UsageError(f"scanner {scanner.generator} does not have cmd", hint="give its image a CMD or an ENTRYPOINT")
    mounts = [Mount("/tmp", tmpfs=True), Mount(f"{_SOURCES}/core/{CORE}", core.output, readonly=True)]
    mounts += [Mount(f"{_SOURCES}/extras/{EXTRA}{name}", extras[name].output, readonly=True) for name in sorted(extras)]
    told = [("BUILDKIT_SCAN_DESTINATION", f"{_OUT}/"), ("BUILDKIT_SCAN_SOURCE", f"{_SOURCES}/core/{CORE}")]
    if extras:
        told.append(("BUILDKIT_SCAN_SOURCE_EXTRAS", f"{_SOURCES}/extras/"))
    told += [(f"BUILDKIT_SCAN_{key}", value) for key, value in sorted(scanner.params.items())]
    own = [(key, value) for key, equals, value in (line.partition("=") for line in config.env) if equals]
    pinned = f"docker-image://{scanner.generator}" + ("" if scanner.generator.digest else f"@{image.digest}")
    # BuildKit mounts an empty tree there. A graph of ours reads only the root of a step, so it is a directory of that.
    state = source(pinned, platform=platform).file([FileStep(MkDir(_OUT, 0o755, make_parents=True))])
    state = replace(state.with_env(*own, *told), cwd=config.working_dir or "/")
    name = f"[{shown}] generating sbom using {scanner.generator}"
    state = state.run(Process(args, tuple(mounts)), Note({"llb.customname": name}, ignore_cache=anew))
    made = graph(state, platform=platform)
    return GivenAttestation(
        Ref(made, definition.encode(made)),
        _OUT,
        PREDICATE,
        is_bundle=True,
        metadata={"reason": b"sbom", "sbom-core": CORE.encode()},
    )
