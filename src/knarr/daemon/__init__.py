"""The process that serves buildkitd's API, so that buildctl, docker buildx and nerdctl build with knarr unchanged.

`server` listens and lives; `control` is the service they call; `builds` are the
builds under way, `solve` is the life of one; `settings` are buildkitd's flags and
its file as one record. What a build itself is, `engine` knows; what travels,
`buildkit`.
"""
