"""LLB, the graph language: ops as records, the definition (bytes, digests), a state builder, the source map.

A vertex's digest is the sha256 of its op's deterministic protobuf bytes, as in
BuildKit; metadata is not part of it. Spec: BuildKit's solver/pb/ops.proto.
"""
