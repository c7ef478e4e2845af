"""Images as values: pick a platform, walk what an image consists of, copy it, edit it, read and write archives.

Everything here works on the small protocols of `content.target`, so one
`copy_graph` serves push, pull, save, load and sync. Spec: image-spec v1.1.
"""
