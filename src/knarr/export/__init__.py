"""Exporters: what becomes of a build's result, one file for each kind.

`export` is the entry and has the table of kinds; `options` reads `--output`;
`trees` says what an exporter needs of the engine; `assemble` makes config,
manifest and index out of layers. Names, options, documents and texts are those
of BuildKit's exporters, so that the tools around it find what they expect.
"""
