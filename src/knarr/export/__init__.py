"""Results handed over: one file per kind of output.

`options` reads `--output`; `trees` is what an exporter asks of the engine; `assemble`
makes configs, manifests and the index; `image`, `archive`, `files` write them to the
store and registries, to archives, to directories; `export` runs what was asked for.
Options and results as in BuildKit's exporters (build.md §1.10).
"""
