"""Why a path is not in a tree: hidden by an ignore file, a symlink that leads nowhere, or just not there."""

from __future__ import annotations

import os

from knarr.errors import Hidden, NotFound
from knarr.paths import clean, inside
from knarr.patterns import Matcher


def missing(root: str, path: str, hidden: Matcher | None, *, name: str) -> NotFound:
    """The error for `path`, which is not in the tree at `root`, with names nearby if there are any.

    `name` is what people call the tree: build context, image.
    """
    asked = clean(path).lstrip("/")
    text = f"{asked or '/'}: not in the {name}"
    here = inside(root, asked, follow_last=False)
    if os.path.lexists(here):
        place = hidden.why(asked) if hidden is not None else None
        if hidden is not None and place is not None:
            pattern = hidden.patterns[place]
            return Hidden(text, pattern=pattern, hint=f"the ignore pattern {pattern} leaves it out").at(asked, name)
        if os.path.islink(here):
            return NotFound(f"{asked}: a symlink to {os.readlink(here)}, which is not in the {name}")
    near = _near(root, asked, hidden)
    return NotFound(text, hint=f"the {name} has {', '.join(near)}" if near else "").at(asked, name)


def _near(root: str, path: str, hidden: Matcher | None) -> list[str]:
    from difflib import get_close_matches

    directory, _, name = path.rpartition("/")
    try:
        names = os.listdir(inside(root, directory))
    except OSError:
        return []
    prefix = directory + "/" if directory else ""
    visible = [other for other in names if hidden is None or not hidden.matches(prefix + other)]
    return [prefix + other for other in get_close_matches(name, visible, n=3) if other != name]
