"""knarr: container images for many platforms, built and delivered without a daemon."""
