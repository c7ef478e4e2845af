"""An op for people and other programs: protobuf's JSON form (camelCase names, 64-bit numbers as text)."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict

from knarr.pb import ops_pb2


def as_json(raw: bytes) -> dict[str, Any]:
    """What the bytes of a marshalled `pb.Op` say; fields that have their default are left out."""
    op = ops_pb2.Op()
    op.ParseFromString(raw)
    found: dict[str, Any] = MessageToDict(op)
    return found
