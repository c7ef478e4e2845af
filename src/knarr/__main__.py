"""`python -m knarr`: the same as the command `knarr`."""

from knarr.cli import command

command()
