"""Snapshots as containerd has them: active, then committed, in parent chains.

`snapshotter` has the protocol; `overlayfs`, `fuseoverlayfs` and `native` implement it; `unpack`
turns a chain of layer blobs into a chain of snapshots.
"""
