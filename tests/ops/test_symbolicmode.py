"""Symbolic modes, with chmod(1) as the oracle."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.ops.symbolicmode import apply_symbolic

_PERMISSIONS = st.one_of(st.text("rwxX", max_size=4), st.sampled_from(["u", "g", "o", "s", "t", "rwxs"]))
_ACTIONS = st.lists(st.tuples(st.sampled_from("+-="), _PERMISSIONS), min_size=1, max_size=2)
# Without a class chmod(1) applies the umask; COPY --chmod has none, so a class is always written here.
_CLAUSES = st.tuples(st.text("ugoa", min_size=1, max_size=3), _ACTIONS)
TEXTS = st.lists(_CLAUSES, min_size=1, max_size=3).map(
    lambda clauses: ",".join(who + "".join(op + permissions for op, permissions in actions) for who, actions in clauses)
)


@pytest.mark.root
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, before=st.integers(0, 0o7777), is_dir=st.booleans())
def test_agrees_with_chmod(tmp_path: Path, text: str, before: int, is_dir: bool) -> None:
    path = tmp_path / ("d" if is_dir else "f")
    if is_dir:
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    os.chmod(path, before)
    subprocess.run(["chmod", "--", text, str(path)], check=True)
    assert oct(apply_symbolic(text, before, is_dir=is_dir)) == oct(os.stat(path).st_mode & 0o7777)


@pytest.mark.parametrize("text", ["", "u", "z+x", "u+q", "u=rwx,", "755x"])
def test_refuses_what_is_no_mode(text: str) -> None:
    with pytest.raises(UsageError, match="is not a file mode"):
        apply_symbolic(text, 0o644, is_dir=False)


def test_no_class_means_everybody() -> None:
    assert apply_symbolic("+x", 0o644, is_dir=False) == 0o755
