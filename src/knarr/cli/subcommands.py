"""Commands of a command: a table of name → (module, summary), each imported when it is run.

COMMANDS = Subcommands("knarr attest", "IMAGE", "Attestations of an image.", {"list": ("attestlist", "List them")})
COMMANDS.run(argv)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knarr.errors import UsageError
from knarr.record import record


@record
class Subcommands:
    """The table, and what stands above it in the help text."""

    command: str  # "knarr attest"
    words: str  # what follows the subcommand in the usage line
    about: str
    table: Mapping[str, tuple[str, str]]
    more: str = ""  # what stands below the table
    by_name: bool = False  # a module may serve several commands: it is told which, in front of what it is given

    def help_text(self) -> str:
        """The table, and the help texts of all of them."""
        width = max(map(len, self.table))
        rows = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in self.table.items())
        usage = f"Usage: {' '.join([self.command, 'COMMAND', self.words]).rstrip()}"
        parts = [f"{usage}\n\n{self.about}\n\nCommands:\n{rows}", *filter(None, [self.more])]
        return "\n\n".join([*parts, *(self._module(name).help_text(*self._told(name)) for name in self.table)])

    def run(self, argv: list[str]) -> int:
        """Carry out the subcommand that `argv` begins with.

        Raises:
            UsageError: there is no such command.
            KnarrError: of the command.
        """
        if not argv or argv[0] in ("-h", "--help"):
            print(self.help_text())
            return 0 if argv else 2
        if argv[0] not in self.table:
            names = list(self.table)
            known = f"{', '.join(names[:-1])} or {names[-1]}"
            raise UsageError(f"{self.command} {argv[0]}: not known", hint=f"use {known}")
        status: int = self._module(argv[0]).run(*self._told(argv[0]), argv[1:])
        return status

    def _told(self, name: str) -> tuple[str, ...]:
        return (name,) if self.by_name else ()

    def _module(self, name: str) -> Any:
        return __import__(f"knarr.cli.{self.table[name][0]}", fromlist=["run"])
