"""The whole put together: one build from request to result, in this process.

`engine` is the `Builder`; `parts` makes the store, the snapshotter and the rest on
first use; `bridge` answers the frontend; `drive` carries out the solver's
instructions; `fingerprint` knows a build whose inputs are all unchanged;
`history` tells what the last builds did.
"""
