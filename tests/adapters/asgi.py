"""An ASGI server of few lines, which does what a test has it do, on any event loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.types import ASGIApp, Message


class Exchange:
    """One request and what becomes of it.

    Attributes:
        gone: Set by the test: the client goes away.
        begun: Set once the response has begun.
        complete: Set once it is complete.
        returned: Set once the app has returned.
        blocked: Where the test gives an event, whatever is sent waits for it, as to a client that doesn't read.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str = "/",
        *,
        body: Iterable[bytes] = (b"",),
        state: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        spec_version: str = "2.3",
    ) -> None:
        self.app = app
        self._body = list(body)
        self.gone, self.begun, self.complete, self.returned = (anyio.Event() for _ in range(4))
        self.blocked: anyio.Event | None = None
        self.n_received = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.content = b""
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": dict(state or {}),
        }

    async def run(self) -> Exchange:
        """Have the app answer."""
        try:
            await self.app(self.scope, self.receive, self.send)
        finally:
            self.returned.set()
        return self

    async def receive(self) -> Message:
        self.n_received += 1
        if self._body:
            return {"type": "http.request", "body": self._body.pop(0), "more_body": bool(self._body)}
        async with anyio.create_task_group() as tasks:
            for event in (self.gone, self.complete):
                tasks.start_soon(self._end, event, tasks.cancel_scope)
        return {"type": "http.disconnect"}

    async def _end(self, event: anyio.Event, scope: anyio.CancelScope) -> None:
        await event.wait()
        scope.cancel()

    async def send(self, message: Message) -> None:
        if self.blocked is not None:
            await self.blocked.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.begun.set()
        else:
            self.content += message.get("body", b"")
            if not message.get("more_body", False):
                self.complete.set()

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """Run the app's lifespan around the context, which gets the state for requests."""
    state: dict[str, Any] = {}
    told, leave = anyio.Event(), anyio.Event()
    messages: list[Message] = []

    async def receive() -> Message:
        if not messages:
            messages.append({"type": "lifespan.startup"})
            return messages[0]
        await leave.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        messages.append(message)
        told.set()

    async with anyio.create_task_group() as tasks:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
        tasks.start_soon(app, scope, receive, send)
        await told.wait()
        try:
            yield state
        finally:
            leave.set()
    assert messages[-1]["type"] == "lifespan.shutdown.complete"


async def get(app: ASGIApp, path: str, state: dict[str, Any], **how: Any) -> Exchange:
    """Return what the app answers."""
    return await Exchange(app, path, state=state, **how).run()
