"""Generated protobuf messages: `ops_pb2` is LLB, BuildKit's package `pb`. README.md says from what, and how made."""
