"""How the progress of a build is shown: events in, bytes for the terminal or the log out.

`steps` keeps what is known about each step; the renderers `plain`, `tty` and
`rawjson` turn events and a clock into bytes and touch nothing; `feed` is the
sink of a build that gathers its events and writes what a renderer makes of them;
`choose` picks a renderer; `summary` has the last lines. The words and the look
of plain lines are BuildKit's (util/progress/progressui), tried against buildx.
"""
