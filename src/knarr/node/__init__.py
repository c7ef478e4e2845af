"""The node image: containerd, runc, knarr and what they need, in one container or on a bare machine.

`components.toml` says what is in it; `plan` chooses, `gather` has all of it in a
cache directory, `context` lays it out as a build context with `Dockerfile`, and
`knarr build` does the rest. What follows runs inside: `start` is the entrypoint,
which makes the ground (`nesting`, `ground`, `trust`), writes containerd's
configuration (`services`) and looks after the processes (`supervise`).
"""
