"""What each LLB op *does*: one file per kind.

`op` has what every op is handed; `trees` turns records into mounted trees and
layer blobs; `source_image`, `source_local`, `source_http`, `exec`, `file`,
`merge` carry out the ops. The engine's `drive` calls them by the table in `op`.
"""
