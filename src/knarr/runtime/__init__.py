"""A process in a container: OCI bundle, runc or crun, mounts, emulation of foreign platforms.

Spec: runtime-spec v1.1.
"""
