"""BuildKit's gRPC, spoken by knarr.

`service` makes gRPC services and their callers from the descriptors in `pb/`;
`failure` carries an error across a call, both ways, with BuildKit's typed
details.
"""
