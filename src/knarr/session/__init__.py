"""What the caller lends to a build: files, secrets, credentials, a place for output.

`session` has the protocol, `local` the in-process form (this user's own files).
Behind the daemon the same protocol is answered over gRPC; the ops cannot tell.
"""
