"""Content by digest: the protocols (`target`), the store on disk, leases, garbage collection.

The store is an OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/…`)
beside an SQLite database of leases, labels and image names. A blob is visible
only when it is complete. Spec: image-spec v1.1, image-layout.md.
"""
