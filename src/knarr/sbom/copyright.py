"""The licences that a Debian copyright file names.

Most are machine-readable (DEP 5, "copyright format 1.0"): each paragraph has a
short name. Of the others only what is certain is told: the texts in
/usr/share/common-licenses that they send the reader to.
"""

from __future__ import annotations

import re

from knarr.sbom.fields import paragraphs

_FORMAT = re.compile(r"^format(-specification)?:", re.IGNORECASE)
_COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9][A-Za-z0-9.+-]*)")


def licenses_of(text: str) -> tuple[str, ...]:
    """The short names of the licences, each once, in the order of the text."""
    if any(_FORMAT.match(line) for line in text.splitlines()[:20]):
        names = [entry["license"].partition("\n")[0] for entry in paragraphs(text) if entry.get("license")]
        found = [" ".join(name.split()) for name in names if name.strip()]
        if found:
            return tuple(dict.fromkeys(found))
    return tuple(dict.fromkeys(name.rstrip(".-") for name in _COMMON.findall(text)))
