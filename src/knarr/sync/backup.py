"""Where an image goes that a sync is about to replace, by regsync's template.

Spec: regclient, docs/regsync.md, `backup`.
"""

from __future__ import annotations

import time

from knarr.gotemplate.render import Fields, render
from knarr.image.spot import Spot, spot, tagged
from knarr.sync.task import Task


def backup_place(task: Task, target: Spot, digest: str) -> Spot:
    """The place that `task.backup` makes of `target`, whose image has `digest` now. A bare word is a tag beside it.

    Raises:
        UsageError: the template is wrong, or what it gives is no place.
    """
    reference = target.reference
    assert reference is not None
    ref = Fields(
        Registry=reference.registry, Repository=reference.repository, Tag=reference.tag, Digest=digest, Scheme="reg"
    )
    now = {"Now": time.strftime("%Y%m%d%H%M%S", time.gmtime())}
    said = {"source": task.source, "target": task.targets[0]}
    text = render(task.backup, Fields(Ref=ref, Sync=said, Step=said, Time=now)).strip()
    return spot(text) if "/" in text or ":" in text else tagged(target, text)
