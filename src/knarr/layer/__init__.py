"""Layers: directory tree ↔ tar stream ↔ compressed blob.

`diff` writes a tree, or what changed in one, as a tar; `apply` is its inverse.
`tar_write` and `tar_read` are the codec, `compress` and `decompress` the outer
coat, and `pack` does diff, hash, compress, hash and ingest in one pass. Spec:
image-spec v1.1, layer.md; where the text leaves room we do as containerd 2 does.
"""
