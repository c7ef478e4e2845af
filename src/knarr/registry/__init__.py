"""The registry server: OCI distribution 1.1, and the candidates for 1.2, over the content store.

Blobs and manifests lie in `content.Store`, once, whoever brought them; which
repository has which of them is said in the `ledger`, tables of the registry's
own in the store's database. A *call* (`call`) is one HTTP request whose path was
understood (`routes`) and whose caller is known (`access`); it is answered by the
module that is named after its subject: `blobs`, `uploading`, `manifests`,
`referrers`, `listing`. `server` joins them with aiohttp.

What is found in the table of contents decides, never a file's presence alone: a
blob of the build cache is not visible until somebody pushes or mounts it.

Spec: distribution-spec v1.1 and its main branch of July 2026 (upload cancel,
digest headers, tag parameters, digest-algorithm).
"""
