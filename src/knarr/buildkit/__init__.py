"""BuildKit's gRPC, spoken by knarr.

`service` makes gRPC services and their callers from the descriptors in `pb/`;
`failure` carries an error across a call, both ways, with BuildKit's typed
details; `gateway` is what a frontend outside the engine asks. Of a daemon:
`sessions` are its clients, over a `tunnel` each; `lent` is what one of them lends to
its build (`filesync`, `sshforward`, `upload`) and takes from it (`filesend`); `status`
is how progress is told.
"""
