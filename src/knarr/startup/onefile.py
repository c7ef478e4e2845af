"""One file with the code of the modules that commands load: what starting costs, cut by a sixth.

Python finds, opens, reads and checks a file for each module, and a build that is not
warm has some 300. Here their code comes from one file, beside the others in
`__pycache__`; only the sources are looked at, as Python does, and code of a source
that has changed since is not used. The file is written at the end of a command that
had to load many modules the usual way (`write`). Without it, or with a broken
one, all goes the usual way. Measured: docs/decisions/0015-startup-file.md.

    install()  # first thing in the program
    ...
    keep()     # last thing
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader, spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import CodeType

    # source, directory of a package, cached file, the source's time (ns) and size, where the code begins, its length;
    # without a length the module is known to have no code that could be kept
    Entry = tuple[str, str | None, str, int, int, int, int]

MARK = b"knarr1" + MAGIC_NUMBER  # then, in eight bytes each, where the index begins and how long it is
_WORTH = 12  # modules; writing 3 MB for fewer would cost more than it saves
_LIBRARY = f"{os.path.dirname(os.__file__)}/"
_OURS = f"{os.path.dirname(os.path.dirname(__file__))}/"
_INSTALLED = (f"{_LIBRARY}site-packages/", f"{_LIBRARY}dist-packages/")


def install() -> None:
    """Let modules come from the file, where there is a whole one that belongs to this Python."""
    try:
        descriptor = os.open(path(), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        sys.meta_path.insert(0, Finder(descriptor, _index(descriptor)))
    except (OSError, EOFError, ValueError, TypeError):
        os.close(descriptor)


def keep() -> None:
    """Write the file anew when it lacks many of the modules that are loaded, unless Python is to write none.

    knarr's own and those of Python's library belong in it. What was loaded before `install` is
    not missing from it for that.
    """
    if sys.dont_write_bytecode:
        return
    finder = next((one for one in sys.meta_path if isinstance(one, Finder)), None)
    index = finder.index if finder else {}
    lacking = [
        one
        for name, one in list(sys.modules.items())
        if type(getattr(one, "__loader__", None)) is SourceFileLoader
        and name != "__main__"
        and _belongs(getattr(one, "__file__", None) or "")
        and not (name in index and is_current(index[name]))
    ]
    if len(lacking) >= _WORTH:
        from knarr.startup.write import write

        write(finder, lacking)


def path() -> str:
    """Where the file is: by Python's version and by how much its code leaves out, as Python's own."""
    level = f".opt-{sys.flags.optimize}" if sys.flags.optimize else ""
    return f"{os.path.dirname(__file__)}/__pycache__/all.{sys.implementation.cache_tag}{level}"


class Finder:
    """The modules of one file, as importing asks for them."""

    def __init__(self, descriptor: int, index: dict[str, Entry]) -> None:
        self.descriptor, self.index = descriptor, index

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where the module's code is, if its source is as it was."""
        entry = self.index.get(name)
        if entry is None or not entry[6] or not is_current(entry):
            return None
        source, package, cached, _, _, start, length = entry
        loader = _Loader(name, source)
        loader.place = self.descriptor, length, start
        places = None if package is None else [package]
        spec = spec_from_file_location(name, source, loader=loader, submodule_search_locations=places)
        if spec is not None:
            spec.cached = cached
        return spec


class _Loader(SourceFileLoader):
    """Python's for a source, but for where the code comes from."""

    place = -1, 0, 0

    def get_code(self, fullname: str) -> CodeType | None:
        try:
            code: CodeType = marshal.loads(os.pread(*self.place))
        except (EOFError, ValueError, TypeError, OSError):
            return super().get_code(fullname)
        return code


def _belongs(source: str) -> bool:
    return source.startswith(_OURS) or (source.startswith(_LIBRARY) and not source.startswith(_INSTALLED))


def is_current(entry: Entry) -> bool:
    """Whether the source is as it was when its code was taken."""
    try:
        found = os.stat(entry[0])
    except OSError:
        return False
    return found.st_mtime_ns == entry[3] and found.st_size == entry[4]


def _index(descriptor: int) -> dict[str, Entry]:
    """By module.

    Raises:
        ValueError: the file is not whole, or another Python's.
    """
    head = os.pread(descriptor, len(MARK) + 16, 0)
    at, length = (int.from_bytes(head[len(MARK) + n : len(MARK) + n + 8], "little") for n in (0, 8))
    if not head.startswith(MARK) or not length or os.fstat(descriptor).st_size != at + length:
        raise ValueError
    index: dict[str, Entry] = marshal.loads(os.pread(descriptor, length, at))
    return index
