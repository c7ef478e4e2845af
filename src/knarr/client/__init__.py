"""A buildkitd that builds for us: BuildKit's, or knarr's own, on this machine or far away.

`address` reads where it is, `connection` reaches it (by a socket, or through a
`relay`: ssh, docker, kubectl), and `diagnosis` says why that failed. `builder` is the
`Builder` that asks it: `lending` opens the session over which it reads our `files`,
`secrets` and `logins` and writes its results (`outputs`, `contents`), and `watching`
turns its progress into ours. `stored` are the builders a user has named, `farm` is
several of them as one.
"""
