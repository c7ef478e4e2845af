"""The words of the OCI specifications as frozen records.

`digest`, `reference`, `platform`, `mediatype`, `descriptor`, `manifest` (manifest
and index), `config` (image config). Parsed once at the edge; inside, a value of
these types is valid. Spec: image-spec v1.1, distribution-spec v1.1.
"""
