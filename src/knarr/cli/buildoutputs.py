"""Where the result of `knarr build` goes: `--output`, `--push`, `--load`, and the flags that are options of outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from knarr.builder import Export
from knarr.cli import buildvalues as values
from knarr.cli.buildattest import NO_ARTIFACT, switched_on
from knarr.cli.flags import Parsed
from knarr.errors import UsageError
from knarr.spec.reference import Reference

LOCAL_DELETE = "buildx.local.delete"  # the right to mode=delete outside the directory one is in
LOADED = "store"  # the type of an output that a builder elsewhere makes, and that is loaded into the store here
_KEPT = ("image", "registry")  # the outputs that leave an image in the store of who builds
_NAMED = (*_KEPT, "oci", "docker", "containerd", LOADED)  # the outputs that have a name


def exports(
    given: Parsed, tags: Sequence[str], environ: Mapping[str, str], cwd: str, *, elsewhere: bool = False
) -> tuple[Export, ...]:
    """The outputs: those given, what `--push` and `--load` add, and the store where nothing is said.

    With `elsewhere` another process builds, whose store is not ours.

    Raises:
        UsageError: one that cannot be meant, or two that exclude each other.
    """
    found = _outputs(given, loaded=LOADED if elsewhere else "image")
    _check_together(found)
    may_delete = LOCAL_DELETE in given.list("allow")
    for export in found:
        _check_delete(export, cwd, environ.get("HOME", ""), allowed=may_delete)
    if given.switch("push"):
        found = _with_push(found)
    kept = any(export.type == LOADED or (export.type in _KEPT and not elsewhere) for export in found)
    if not found or (given.switch("load") and not kept):
        found.append(Export(LOADED if elsewhere else "image"))
    notes = values.annotation_attrs(given.list("annotation"))
    more = {**notes, "squash": "new"} if given.switch("squash") else notes
    if switched_on(environ, NO_ARTIFACT):
        found = [_older(export) for export in found]
    store = given.text("attest-store") or environ.get("KNARR_ATTEST_STORE", "")
    if store:
        found = [_attesting(export, store) for export in found]
    named = tuple(_named(export, tags, more) for export in found)
    if any(pushes(export) and not export.attrs.get("name") for export in named):
        raise UsageError("nothing says where to push", hint="give the image a name: --tag REGISTRY/NAME:TAG")
    if elsewhere and given.text("containerd"):
        raise UsageError(
            "--containerd: a builder elsewhere cannot reach the containerd of this machine",
            hint="load the image (--load), then: knarr copy store:NAME containerd://NAME",
        )
    address = containerd_of(given, environ)
    if elsewhere or not address:
        return named
    from knarr.export.options import with_containerd

    return with_containerd(named, address)


def containerd_of(given: Parsed, environ: Mapping[str, str]) -> str:
    """The socket of the containerd that a build works with; empty: with none."""
    return given.text("containerd") or environ.get("KNARR_CONTAINERD", "")


def _older(export: Export) -> Export:
    """With attestations in BuildKit's older form, where nothing else is said."""
    if export.type not in (*_KEPT, "oci"):
        return export
    return Export(export.type, {"oci-artifact": "false", **export.attrs})


def _attesting(export: Export, store: str) -> Export:
    """With attestations at `store`, where the output says nothing of its own.

    Raises:
        UsageError: there is no such place.
    """
    if export.type not in _KEPT:
        return export
    place, _, directory = store.partition("=")
    attrs = {"attest-store": place, **({"attest-dest": directory} if directory else {}), **export.attrs}
    made = Export(export.type, attrs)
    from knarr.export.options import image_options

    image_options(made)
    return made


def _check_together(exports: Sequence[Export]) -> None:
    """See that no two outputs go to the same place."""
    taken: set[str] = set()
    for export in exports:
        dest = export.attrs.get("dest", "")
        if not dest and export.type in ("tar", "oci"):
            dest = "-"
        place = dest if dest == "-" else os.path.realpath(dest)
        if dest and place in taken:
            shown = "standard output" if dest == "-" else dest
            raise UsageError(f"two outputs go to {shown}", hint="give each its own dest")
        taken.add(place)


def _check_delete(export: Export, cwd: str, home: str, *, allowed: bool) -> None:
    """See that an output with mode=delete empties no directory that nobody meant."""
    from knarr.export.options import deletes

    if not deletes(export):
        return
    from knarr.export.leftovers import check_deletable

    dest, here = export.attrs["dest"], os.path.realpath(cwd)
    real = os.path.realpath(os.path.join(cwd, dest))
    check_deletable(real, {home: "your home directory"} if home else {})
    if not real.startswith(here.rstrip("/") + "/") and not allowed:
        raise UsageError(
            f"type=local,mode=delete: dest={dest} is not below the directory you are in",
            hint=f"what is in it and not in the result is removed; if that is meant: --allow {LOCAL_DELETE}",
        )


def _outputs(given: Parsed, *, loaded: str) -> list[Export]:
    texts = [text for text in given.list("output") if text]
    if not texts:
        return []
    from knarr.export.options import parse_output

    return [parse_output(text, loaded=loaded) for text in texts]


def _with_push(exports: Sequence[Export]) -> list[Export]:
    """Every image output also pushes; there is one if there was none."""
    pushing = [Export(e.type, {**e.attrs, "push": "true"}) if e.type in _KEPT else e for e in exports]
    if not any(export.type in _KEPT for export in pushing):
        pushing.append(Export("image", {"push": "true"}))
    return pushing


def pushes(export: Export) -> bool:
    """Whether `export` goes to a registry."""
    return export.attrs.get("push", "true" if export.type == "registry" else "false") == "true"


def _named(export: Export, tags: Sequence[str], notes: Mapping[str, str]) -> Export:
    """With the tags as further names, and the annotations, where the output can hold them."""
    if export.type not in _NAMED:
        return export
    own = [str(Reference.parse(name).tagged()) for name in export.attrs.get("name", "").split(",") if name]
    names = dict.fromkeys([*own, *tags])
    attrs = {**export.attrs, **notes}
    if names:
        attrs["name"] = ",".join(names)
    return Export(export.type, attrs)
