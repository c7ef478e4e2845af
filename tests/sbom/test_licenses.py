"""Licences as SPDX expressions, from the words of Debian, Fedora, Python and npm."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from knarr.sbom.licenses import expression


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["MIT"], "MIT"),
        (["mit", "MIT"], "MIT"),
        (["Expat"], "MIT"),
        (["GPL-2+"], "GPL-2.0-or-later"),
        (["GPL-2"], "GPL-2.0-only"),
        (["LGPL-2.1+"], "LGPL-2.1-or-later"),
        (["GFDL-NIV-1.3+"], "GFDL-1.3-no-invariants-or-later"),
        (["GPL-1+ or Artistic"], "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        (["GPL-1+ or Artistic, and Expat"], "(GPL-1.0-or-later OR Artistic-1.0-Perl) AND MIT"),
        (["MPL-1.1 or GPL-2+ or LGPL-2.1+"], "MPL-1.1 OR GPL-2.0-or-later OR LGPL-2.1-or-later"),
        (["a OR MIT", "ISC"], "(LicenseRef-a OR MIT) AND ISC"),
        (["GPLv2+ and MIT"], "GPL-2.0-or-later AND MIT"),
        (["ASL 2.0"], "Apache-2.0"),
        (["(MIT OR Apache-2.0) AND BSD-3-clause"], "(MIT OR Apache-2.0) AND BSD-3-Clause"),
        (["MIT/X11 (BSD like)"], "LicenseRef-MIT-X11-BSD-like"),
        (["GPL-2.0-only WITH Classpath-exception-2.0"], "GPL-2.0-only WITH Classpath-exception-2.0"),
        (["GPL-3+ with Bison exception"], "LicenseRef-GPL-3-with-Bison-exception"),
        (["Apache Software License", "MIT License"], "Apache-2.0 AND MIT"),
        (["BSD"], "LicenseRef-BSD"),
        (["public-domain"], "LicenseRef-public-domain"),
        (["GPL-9"], "LicenseRef-GPL-9"),
        (["UNLICENSED"], "LicenseRef-UNLICENSED"),
        (["and and and"], "LicenseRef-and-and-and"),
        (["()"], "LicenseRef-unnamed"),
        ([" ", ""], ""),
        ([], ""),
    ],
)
def test_an_expression_means_what_was_said(names: list[str], wanted: str) -> None:
    assert expression(names)[0] == wanted


def test_two_texts_that_an_identifier_cannot_tell_apart_have_two() -> None:
    text, references = expression(["my_own", "my own"])
    assert len(references) == 2
    assert set(references.values()) == {"my_own", "my own"}
    assert all(name in text for name in references)


WORDS = st.sampled_from(["MIT", "GPL-2+", "Expat", "or", "and", "with", "(", ")", ",", "x/y", "é", "LicenseRef-z", ";"])


@settings(deadline=None)
@given(st.lists(st.lists(WORDS, max_size=9).map(" ".join) | st.text(max_size=40), max_size=4))
def test_what_comes_out_is_always_a_valid_expression(names: list[str]) -> None:
    text, references = expression(names)
    if not text:
        return
    licensing = get_spdx_licensing()
    symbols = {symbol.key for symbol in licensing.parse(text).symbols}
    known = {name for name in symbols if name not in references}
    assert licensing.unknown_license_keys(" AND ".join(sorted(known)) or "MIT") == []
    assert all(name.startswith("LicenseRef-") for name in references)
