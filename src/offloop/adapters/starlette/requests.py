"""The requests under way."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import draining_problem
from .service import service_of

_ADMITTED = "offloop.admitted"


def is_admitted(scope: Scope) -> bool:
    """Whether a request came before the service began to drain, so that it may go on."""
    return bool(scope.get(_ADMITTED, False))


class FinishRequests:
    """ASGI middleware by which a service that drains waits for whole requests, not for the calls alone that they have begun.

    A request that came before may go on to make calls; one that comes later gets no session from `get_session`. What isn't
    done at the end of ``drain_timeout_s`` is cancelled: it is answered 503, or broken off if its response has begun.

    Args:
        app: The ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app for one connection; all but HTTP requests pass through."""
        service = service_of(scope) if scope["type"] == "http" else None
        if service is None:
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        scope[_ADMITTED] = not service.is_draining
        with anyio.CancelScope() as stopped, service.requests.one(stopped):
            await self.app(scope, receive, noted)
        if stopped.cancelled_caught and not has_begun:
            await draining_problem()(scope, receive, send)
