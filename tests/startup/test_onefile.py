"""The file with the code of all modules: written by commands, used by the next, never trusted past its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import knarr

RUN = "import sys; from knarr.cli import command; sys.argv = ['knarr', *{argv!r}]; command()"
FROM_FILE = (
    "import sys; from knarr.startup import onefile; onefile.install(); import knarr.engine.engine; "
    "print(sum(type(getattr(m, '__loader__', None)).__name__ == '_Loader' for m in sys.modules.values()))"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the package, with nothing that Python keeps."""
    shutil.copytree(Path(knarr.__file__).parent, tmp_path / "knarr", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(home: Path, code: str, **env: str) -> str:
    """What a Python prints that runs `code` with the package of `home`."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environ |= {"PYTHONPATH": str(home), **env}
    done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=home, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout.strip()


def doctored(home: Path) -> Path:
    """The file, written by a command that loads many modules."""
    # An import that is left to the end, since commands that load much need a store.
    run(home, "import knarr.engine.engine\n" + RUN.format(argv=["version"]))
    return next((home / "knarr/startup/__pycache__").glob("all.*"))


def test_a_command_that_loads_many_modules_writes_the_file_for_the_next(home: Path) -> None:
    doctored(home)
    assert int(run(home, FROM_FILE)) > 50


def test_a_source_that_has_changed_is_read_anew(home: Path) -> None:
    doctored(home)
    source = home / "knarr/scope.py"
    source.write_text(source.read_text() + "\nADDED = 'since'\n")
    assert run(
        home, "from knarr.startup import onefile; onefile.install(); import knarr.scope; print(knarr.scope.ADDED)"
    ) == ("since")


def test_a_source_that_is_gone_is_not_found(home: Path) -> None:
    doctored(home)
    (home / "knarr/scope.py").unlink()
    load = "from knarr.startup import onefile; onefile.install()"
    code = f"{load}\ntry: import knarr.scope\nexcept ImportError: print('gone')"
    assert run(home, code) == "gone"


@pytest.mark.parametrize("keep", [0, 5, 25, 1000, -1])
def test_a_file_that_was_cut_is_as_none(home: Path, keep: int) -> None:
    file = doctored(home)
    file.write_bytes(file.read_bytes()[:keep])
    assert run(home, FROM_FILE) == "0"


def test_code_that_is_broken_is_taken_from_the_usual_place(home: Path) -> None:
    file = doctored(home)
    data = bytearray(file.read_bytes())
    at = int.from_bytes(data[10:18], "little")
    data[26:at] = bytes(at - 26)
    file.write_bytes(data)
    assert int(run(home, FROM_FILE)) > 50  # found there, and read elsewhere


def test_a_file_of_another_python_is_as_none(home: Path) -> None:
    file = doctored(home)
    data = bytearray(file.read_bytes())
    data[6] ^= 1
    file.write_bytes(data)
    assert run(home, FROM_FILE) == "0"


def test_python_that_is_to_write_nothing_writes_nothing(home: Path) -> None:
    run(home, "import knarr.engine.engine\n" + RUN.format(argv=["version"]), PYTHONDONTWRITEBYTECODE="1")
    assert not list(home.rglob("all.*"))


def test_the_file_is_written_once_and_not_by_each_command(home: Path) -> None:
    file = doctored(home)
    before = file.stat()
    for code in ("", "import knarr.engine.engine\n", "import yaml, google.protobuf.message, cryptography.x509\n"):
        run(home, code + RUN.format(argv=["version"]))
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns), code


def test_modules_whose_code_python_keeps_another_way_are_not_missed_each_time(home: Path) -> None:
    how = ("-q", "--invalidation-mode", "checked-hash")
    subprocess.run([sys.executable, "-m", "compileall", *how, str(home / "knarr")], check=True)
    file = doctored(home)
    before = file.stat().st_ino
    run(home, "import knarr.engine.engine\n" + RUN.format(argv=["version"]))
    assert file.stat().st_ino == before
    assert int(run(home, FROM_FILE)) < 50  # Python's library alone


def test_what_cannot_be_written_does_no_harm(home: Path) -> None:
    file = doctored(home)
    file.unlink()
    file.mkdir()
    assert "knarr" in run(home, "import knarr.engine.engine\n" + RUN.format(argv=["version"]))
    assert [one.name for one in file.parent.glob("all.*")] == [file.name]


def test_what_is_raised_shows_its_lines(home: Path) -> None:
    doctored(home)
    code = (
        "from knarr.startup import onefile; onefile.install()\nimport traceback\nfrom knarr.spec.digest import Digest\n"
        "try: Digest.parse('x')\nexcept Exception as e: print('raise' in ''.join(traceback.format_tb(e.__traceback__)))"
    )
    assert run(home, code) == "True"
