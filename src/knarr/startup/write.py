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

_MARKED_BY_TIME = bytes(4)  # the flags of a `.pyc` that holds for a time and a size of its source (PEP 552)


def write(old: Finder | None, lacking: list[ModuleType]) -> None:
    """The file with the modules of `old`, as far as they are current, and with those it is `lacking`.

    Of a module without code that could be kept it is noted that there is none, so that it is
    not missed again. What fails does no harm: the file stays as it was.
    """
    fresh = {one.__name__: one for one in lacking}
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


def _pieces(old: Finder | None, fresh: dict[str, ModuleType]) -> Iterator[tuple[str, Entry, bytes]]:
    for name, entry in old.index.items() if old else ():
        if name not in fresh and is_current(entry):
            yield name, entry, os.pread(old.descriptor, entry[6], entry[5]) if old else b""
    for name, module in fresh.items():
        found = _compiled(module)
        if found is not None:
            yield name, *found


def _compiled(module: ModuleType) -> tuple[Entry, bytes] | None:
    """What Python keeps of a module: nothing where that is not of its source as it is now. None: there is no source."""
    source, cached = module.__file__ or "", module.__cached__ or ""
    try:
        about = os.stat(source)
    except OSError:
        return None
    package = os.path.dirname(source) if hasattr(module, "__path__") else None
    return (source, package, cached, about.st_mtime_ns, about.st_size, 0, 0), _kept(cached, about)


def _kept(cached: str, about: os.stat_result) -> bytes:
    """The code in a `.pyc`; nothing where there is none for a source like this."""
    try:
        with open(cached, "rb") as file:
            data = file.read()
    except OSError:
        return b""
    stamp = (int(about.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + (about.st_size & 0xFFFFFFFF).to_bytes(
        4, "little"
    )
    return data[16:] if data[:16] == MARK[-4:] + _MARKED_BY_TIME + stamp else b""
