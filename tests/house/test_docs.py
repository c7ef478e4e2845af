"""The documents say what the program does, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import reference  # tools/
from knarr.cli import COMMANDS
from knarr.cli.buildflags import FLAGS

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / "bench").glob("*.md"),
]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_reference_has_what_the_help_says(command: str) -> None:
    text = (ROOT / "docs/reference/commands.md").read_text()
    section = text.partition(f"## knarr {command}\n")[2].partition("\n## knarr ")[0]
    lines = [line for line in reference.help_text(command).splitlines() if line.strip()]
    assert [line for line in lines if line not in section] == [], "run tools/reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_examples_of_build_use_flags_that_exist() -> None:
    known = {f"--{flag.name}" for flag in FLAGS}
    lines = [line.partition(" #")[0] for page in PAGES for line in page.read_text().splitlines()]
    builds = [line for line in lines if re.match(r"\$ (\w+=\S+ )*knarr build ", line)]
    assert len(builds) > 10
    assert {flag for line in builds for flag in re.findall(r" (--[a-z-]+)", line)} - known == set()


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"KNARR_[A-Z_]*[A-Z]", sources))
    assert {name for name in named if name not in text} == set()
