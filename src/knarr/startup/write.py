"""Writing the file with the code of all modules (`onefile`): from what Python keeps for each, once in a long while."""

from __future__ import annotations

import marshal
import os
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType

from knarr.startup.onefile import MARK, Finder, is_current, path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.startup.onefile import Entry

_OURS = f"{os.path.dirname(os.path.dirname(__file__))}/"
_LIBRARY = f"{os.path.dirname(os.__file__)}/"
_INSTALLED = (f"{_LIBRARY}site-packages/", f"{_LIBRARY}dist-packages/")
_MARKED_BY_TIME = bytes(4)  # the flags of a `.pyc` that holds for a time and a size of its source (PEP 552)


def write(old: Finder | None, strangers: list[ModuleType]) -> None:
    """The file with the modules of `old`, as far as they are current, and with those of `strangers` that belong in it.

    knarr's own and those of Python's library do. What fails does no harm: the file
    stays as it was.
    """
    fresh = {one.__name__: one for one in strangers if _belongs(one)}
    index: dict[str, Entry] = {}
    draft = f"{path()}.{os.getpid()}"
    with suppress(OSError, ValueError):
        try:
            with open(draft, "xb") as file:
                file.write(MARK + bytes(16))
                for name, entry, code in _pieces(old, fresh):
                    index[name] = (*entry[:5], file.tell(), len(code))
                    file.write(code)
                at = file.tell()
                length = file.write(marshal.dumps(index))
                file.seek(len(MARK))
                file.write(at.to_bytes(8, "little") + length.to_bytes(8, "little"))
            os.replace(draft, path())
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)


def _belongs(module: ModuleType) -> bool:
    source = getattr(module, "__file__", None) or ""
    return source.startswith((_OURS, _LIBRARY)) and not source.startswith(_INSTALLED)


def _pieces(old: Finder | None, fresh: dict[str, ModuleType]) -> Iterator[tuple[str, Entry, bytes]]:
    for name, entry in old.index.items() if old else ():
        if name not in fresh and is_current(entry):
            yield name, entry, os.pread(old.descriptor, entry[6], entry[5]) if old else b""
    for name, module in fresh.items():
        found = _compiled(module)
        if found is not None:
            yield name, *found


def _compiled(module: ModuleType) -> tuple[Entry, bytes] | None:
    """What Python keeps of a module; None where that is not of its source as it is now."""
    source, cached = module.__file__, module.__cached__
    if not source or not cached:
        return None
    try:
        with open(cached, "rb") as file:
            data = file.read()
        about = os.stat(source)
    except OSError:
        return None
    stamp = (int(about.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (about.st_size & 0xFFFFFFFF).to_bytes(
        4, "little"
    )
    if data[:16] != MARK[-4:] + _MARKED_BY_TIME + stamp:
        return None
    package = os.path.dirname(source) if hasattr(module, "__path__") else None
    return (source, package, cached, about.st_mtime_ns, about.st_size, 0, 0), data[16:]
