"""What an orchestrator asks: whether the process lives, and whether it is to get requests."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .dependency import LifespanMissing
from .service import service_of


async def livez(request: Request) -> Response:
    """Answer 200 while the event loop turns; asks nothing of workers, which are no reason to end this process."""
    return JSONResponse({"status": "alive"})


async def readyz(request: Request) -> Response:
    """Answer 200, or 503 with a ``reason``: ``warming``, ``draining``, ``closed``, or ``failing`` to start workers.

    Where they fail to start, being asked has them tried again.
    """
    service = service_of(request.scope)
    if service is None:
        raise LifespanMissing
    reason = service.why_unready()
    statistics = service.session.statistics()
    numbers = {"workers": len(statistics.workers), "pending": statistics.pending}
    if reason is None:
        return JSONResponse({"status": "ready", **numbers})
    content = {"status": "not ready", "reason": reason, **numbers, "start_failures": statistics.start_failures}
    return JSONResponse(content, 503, {"Retry-After": "1"})
