"""A line of JSON for each request, for who asked for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from aiohttp import web


def line(request: web.BaseRequest, status: int, seconds: float, *, caller: str, size: int) -> str:
    """What is known about a request that was answered. No header is in it, and so no secret."""
    return json.dumps(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "remote": request.remote or "",
            "caller": caller,
            "method": request.method,
            "path": request.raw_path[:2000],
            "status": status,
            "bytes": size,
            "seconds": round(seconds, 6),
            "agent": request.headers.get("User-Agent", "")[:200],
        }
    )


Log = Callable[[str], object]
