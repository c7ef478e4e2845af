"""Mirrors: many images kept the same in other places, as a file says.

A *task* is one source with its targets and filters, whatever form of file it was
written in (`ownform`, `regsync`, `skopeo`; `read` tells them apart). `plan` decides by
lists of tags what to copy and what to delete, and touches nothing. `run` does it, and
`state` remembers what was found the same, so that the next run asks with HEAD only.
`schedule` says when each task is due.

Entry: `read.read_file`, then `run.Runner`.
"""
