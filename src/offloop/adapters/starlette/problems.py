"""What clients are told of offloop's errors: problem details, RFC 9457."""

from __future__ import annotations

import logging
import math
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler
from starlette.websockets import WebSocket

from ... import ItemTimeout, OffloopError, Overloaded, SessionClosedError, WorkerCrashed

_MEDIA_TYPE = "application/problem+json"
_TYPE = "urn:problem-type:offloop:{code}"  # with the error's code, which names it for good
_MAX_RETRY_S = 3600  # an estimate of more than an hour says no more than that

# Codes of RFC 6455 and its registry for connections that are closed.
_TRY_AGAIN_LATER, _SERVICE_RESTART, _INTERNAL_ERROR = 1013, 1012, 1011

_log = logging.getLogger("offloop")


def problem(kind: type[OffloopError], status: int, title: str, detail: str, **members: Any) -> Response:
    """Return the response that tells of an error; where ``retry_after_s`` is one of the members, in its headers too."""
    content = {"type": _TYPE.format(code=kind.code), "title": title, "status": status, "detail": detail, **members}
    headers = {}
    if "retry_after_s" in members:
        headers["Retry-After"] = str(max(1, math.ceil(members["retry_after_s"])))
    return JSONResponse(content, status, headers, _MEDIA_TYPE)


def draining_problem() -> Response:
    """Return the response to who asks a service that is about to stop."""
    detail = "This instance is shutting down; another one will answer."
    return problem(SessionClosedError, 503, "Shutting down", detail, retry_after_s=1)


async def _on_overloaded(connection: HTTPConnection, error: Overloaded) -> Response | None:
    wait_s = error.retry_after_s
    wait_s = min(max(0.0, wait_s), _MAX_RETRY_S) if wait_s == wait_s else 0.0
    if await _is_closed(connection, _TRY_AGAIN_LATER):
        return None
    return problem(
        Overloaded,
        503,
        "Overloaded",
        "The service has as much work as it can take; try again later.",
        retry_after_s=wait_s,
        pending=error.pending,
        limit=error.limit,
        why=error.why,
    )


async def _on_closed(connection: HTTPConnection, error: SessionClosedError) -> Response | None:
    return None if await _is_closed(connection, _SERVICE_RESTART) else draining_problem()


async def _on_timeout(connection: HTTPConnection, error: ItemTimeout) -> Response | None:
    if await _is_closed(connection, _INTERNAL_ERROR):
        return None
    detail = f"The work was stopped after the {error.limit_s:g} s that it may take."
    return problem(ItemTimeout, 504, "Took too long", detail, limit_s=error.limit_s)


async def _on_crash(connection: HTTPConnection, error: WorkerCrashed) -> Response | None:
    _log.error("a request failed with its worker", exc_info=error)
    if await _is_closed(connection, _INTERNAL_ERROR):
        return None
    return problem(WorkerCrashed, 500, "Internal error", "The work could not be finished.")


async def _is_closed(connection: HTTPConnection, code: int) -> bool:
    """Close a WebSocket; whether it was one."""
    if not isinstance(connection, WebSocket):
        return False
    await connection.close(code)
    return True


exception_handlers: dict[Any, ExceptionHandler] = {
    Overloaded: _on_overloaded,  # type: ignore[dict-item]
    SessionClosedError: _on_closed,  # type: ignore[dict-item]
    ItemTimeout: _on_timeout,  # type: ignore[dict-item]
    WorkerCrashed: _on_crash,  # type: ignore[dict-item]
}
"""For the ``exception_handlers`` of an app: `Overloaded` and `SessionClosedError` are answered 503 with ``Retry-After``,
`ItemTimeout` 504, and `WorkerCrashed` 500, all as ``application/problem+json``. What a worker died of goes to the log
and not to the client."""
