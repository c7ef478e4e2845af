"""containerd behind our own protocols: one daemon, one of its namespaces.

`client` dials it, `content` reads and writes blobs, `images` has its names; `place` is
all of that as a repository, the source and target of copies; `nearby` is where builds
look for base images; `unpack` makes snapshots of an image there. `gclabels` are what
keeps content when its collector runs, and `lease` holds it until they are set.

    with dial("/run/containerd/containerd.sock") as daemon:
        Images(daemon.within("k8s.io")).list()

Tried with containerd 1.6.20 and 2.3.4.
"""
