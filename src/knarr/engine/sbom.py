"""The SBOM of a build: what its frontend has not told already is scanned, or a generator's image is run over it.

The built-in scanner reads the results where they lie, mounted. Its inventories are
kept by the record of what was scanned: a result that came from the cache is not
scanned again, and its SBOM stays the same to the last byte, its time included.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from knarr.attest.statement import CYCLONEDX, MAX_BYTES, SPDX, Attestation
from knarr.errors import ContentError
from knarr.export.vertex import Vertex
from knarr.frontend.scanner import CORE, EXTRA, Scanner, generated, scanner_of
from knarr.image.copy import each
from knarr.llb.state import given
from knarr.record import record, replace
from knarr.scope import Scope
from knarr.spec.platform import host_platform

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.engine.attesting import Solved
    from knarr.engine.job import Job
    from knarr.frontend.request import PlatformResult
    from knarr.sbom.about import About
    from knarr.sbom.package import Inventory

_JOBS = 2  # scans at a time: each is bound by one core


def make(solved: Solved, attrs: Mapping[str, str]) -> Sequence[Sequence[Attestation]]:
    """The SBOMs of each platform's result, in the frontend's order. `attrs` are the options that were given.

    Raises:
        UsageError: options that cannot be meant.
        KnarrError: a result cannot be read, or the generator failed.
    """
    results = solved.frontend.results
    if any(one.predicate_type == SPDX for result in results for one in result.attestations):
        return [()] * len(results)
    scanner = scanner_of(attrs)
    todo = list(zip(results, solved.records, strict=True))
    anew = solved.request.options.get("no-cache") == ""
    if scanner.generator is not None:
        mode = solved.request.options.get("image-resolve-mode", "")
        return [_generated(solved.job, scanner, result, mode=mode, anew=anew) for result in results]
    return each(
        lambda one: _scanned(solved.job, scanner, *one, anew=anew),
        todo,
        scope=solved.job.world.scope,
        jobs=_JOBS,
    )


def _generated(job: Job, scanner: Scanner, result: PlatformResult, *, mode: str, anew: bool) -> Sequence[Attestation]:
    """What the generator says of a result whose frontend has not run it: a graph, a client's own frontend.

    `mode` says how the generator's image is resolved.
    """
    from knarr.engine.given import given as read_given

    if result.graph.root is None:
        return ()
    said = generated(
        scanner,
        job.gateway.bridge(mode or "default"),
        given(result.graph),
        {},
        shown=str(result.platform),
        platform=host_platform(),
        anew=anew,
    )
    return read_given(job, replace(result, attestations=(said,)))


def _scanned(
    job: Job, scanner: Scanner, result: PlatformResult, record: RecordId | None, *, anew: bool
) -> Sequence[Attestation]:
    """What the built-in scanner finds in a result, and in what is to be told of besides."""
    found = [_attestation(job, scanner, result, CORE, record, anew=anew)]
    for name, graph in job.scans_of(result):
        with Scope() as scope, job.world.scope.on_cancel(scope.cancel):
            other = job.evaluate(graph, scope)
        found.append(_attestation(job, scanner, result, EXTRA + name, other, anew=anew))
    return found


def _attestation(
    job: Job, scanner: Scanner, result: PlatformResult, name: str, record: RecordId | None, *, anew: bool
) -> Attestation:
    from knarr.sbom.about import About

    what = "" if name == CORE else f" of {name.removeprefix(EXTRA)}"
    title = f"[{result.platform}] generating sbom{what}"
    with Vertex(job.world.sink, title, f"{title} {record}") as vertex:
        inventory = _inventory(job, record, anew=anew)
        for one in inventory.skipped:
            vertex.warn(f"not read: {one.path or '/'}: {one.reason}")
    epoch = result.epoch if result.epoch is not None else job.world.settings.source_date_epoch
    about = About(name, inventory.scanned_s if epoch is None else epoch)
    kind, ending = (SPDX, "spdx.json") if scanner.form == "spdx-json" else (CYCLONEDX, "cdx.json")
    document = _Document(inventory, about, kind)
    return Attestation(kind, f"{name}.{ending}", document.predicate, reason="sbom", core=CORE)


def _inventory(job: Job, record: RecordId | None, *, anew: bool) -> Inventory:
    """The inventory of a tree: the one that was made of it before, or made now."""
    from knarr.engine import inventories
    from knarr.sbom import kept
    from knarr.sbom.scan import scan

    keeper = inventories.place(job.world.settings.root)
    known = kept.recall(keeper, f"record {record}") if record is not None and not anew else None
    if known is not None:
        return known
    with job.trees.mounted(record) as tree:
        found = replace(scan(str(tree), check=job.world.scope.check), scanned_s=int(time.time()))
    if record is not None and job.trees.lent(record) is None:
        kept.keep(keeper, f"record {record}", found)
        return found
    # A directory that was lent has no name of its own: the same findings keep the time when they were first made.
    return kept.first(keeper, found)


@record
class _Document:
    """A document to be written when it is wanted."""

    inventory: Inventory
    about: About
    kind: str

    def predicate(self) -> bytes:
        """The document; without the files of packages where it is too large for a statement with them.

        Raises:
            ContentError: it is too large without them.
        """
        for with_files in (True, False):
            written = _joined(self._pieces(replace(self.about, with_files=with_files)))
            if written is not None:
                return written
        raise ContentError(
            f"the SBOM of {len(self.inventory.packages)} packages is over the limit of {MAX_BYTES >> 20} MiB",
            hint="`knarr sbom` writes one of any size into a file",
        )

    def _pieces(self, about: About) -> Iterator[bytes]:
        from knarr.sbom import cyclonedx, spdx

        return spdx.write(self.inventory, about) if self.kind == SPDX else cyclonedx.write(self.inventory, about)


def _joined(pieces: Iterator[bytes]) -> bytes | None:
    """The pieces as one, None as soon as they are too many."""
    found: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_BYTES:
            return None
        found.append(piece)
    return b"".join(found)
