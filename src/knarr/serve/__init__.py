"""Daemon and registry in one process on one store: what is built and pushed here is a tag here.

`both` runs the two, `settings` reads one configuration for them, and `kubernetes`
writes the manifests by which a cluster runs it; `pods` those of one command.
"""
