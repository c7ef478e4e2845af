"""What a copy did, as text and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knarr.image.closure import Node
    from knarr.image.reshape import Reshaped
    from knarr.image.spot import Spot
    from knarr.image.wholecopy import WholeCopy
    from knarr.spec.descriptor import Descriptor

_SHOWN = 20  # lines about single documents; beyond, their number


def as_text(target: Spot, reshaped: Reshaped, result: WholeCopy | None) -> str:
    """A line with the image's name at the target, then what was kept, left out and lost."""
    from knarr.image.reshape import described

    closure = reshaped.closure
    kept = result.outcome.kept if result else tuple(closure.nodes.values())
    lines = [f"{_name(target)}@{closure.root.digest}", f"kept: {described(kept)}"]
    lines += [f"note: {note}" for note in reshaped.notes]
    if reshaped.left_out:
        lines.append(f"left out: {described(reshaped.left_out)}")
    lines += _some(f"not at the source: {one.descriptor.digest} {one.why}" for one in closure.absent)
    if result:
        lines += _some(f"lost: {one.node.kind} {one.node.descriptor.digest}: {one.why}" for one in result.outcome.lost)
    return "\n".join(lines)


def as_json(source: Spot, target: Spot, root: Descriptor, reshaped: Reshaped, result: WholeCopy | None) -> str:
    """The same as one JSON object."""
    closure = reshaped.closure
    kept = result.outcome.kept if result else tuple(closure.nodes.values())
    data: dict[str, Any] = {
        "source": source.text,
        "target": target.text,
        "sourceDigest": str(root.digest),
        "digest": str(closure.root.digest),
        "kept": [_node(node) for node in kept],
        "lost": [{**_node(one.node), "why": one.why} for one in result.outcome.lost] if result else [],
        "leftOut": [_node(node) for node in reshaped.left_out],
        "absent": [{"digest": str(one.descriptor.digest), "why": one.why} for one in closure.absent],
        "notes": list(reshaped.notes),
    }
    if result:
        report = result.outcome.report
        data["blobs"] = {
            "copied": len(report.copied),
            "copiedBytes": report.copied_bytes,
            "mounted": len(report.mounted),
            "present": len(report.present),
        }
    return json.dumps(data)


def _node(node: Node) -> dict[str, Any]:
    data = {"kind": node.kind, "digest": str(node.descriptor.digest), "mediaType": node.document.media_type}
    if node.of:
        data["of"] = str(node.of)
    if node.tag:
        data["tag"] = node.tag
    if node.document.artifact_type:
        data["artifactType"] = node.document.artifact_type
    return data


def _name(target: Spot) -> str:
    tag = target.reference.tag if target.reference is not None else target.tag
    return f"{target.repository}{f':{tag}' if tag else ''}"


def _some(lines: Any) -> list[str]:
    every = list(lines)
    return every if len(every) <= _SHOWN else [*every[:_SHOWN], f"… and {len(every) - _SHOWN} more"]
