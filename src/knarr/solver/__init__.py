"""The solver: what must run, what is known already, and why. Pure: no disk, no socket, no clock, no lock.

`graph` makes one graph of the definitions of all platforms, `keys` says what
counts for the cache, `machine` turns events into instructions, `explain` puts
the difference of two builds of a step into words. `engine.drive` carries the
instructions out. The rules are BuildKit's; a vertex is known by its definition
(the *fast* key) or by the content it reads (the *slow* key).
"""
