"""`python -m knarr`: the same as the command `knarr`."""

import sys

from knarr.cli import main

sys.exit(main())
