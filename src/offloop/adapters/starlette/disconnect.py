"""Stopping a request whose client has gone away."""

from __future__ import annotations

import contextlib
from collections import deque

import anyio
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_AHEAD_BYTES = 65_536  # of a body that the app doesn't read; servers hold back about as much
_CLIENT_CLOSED_REQUEST = 499  # nginx's: HTTP has no status for a response that nobody reads


class CancelOnDisconnect:
    """ASGI middleware that cancels the app when the client goes away before the response is complete.

    So what the app awaits ends, `ParallelSession.run` included, which stops the work in its worker. If no response has begun
    by then, an empty one with status 499 is sent, which nobody reads but middleware above. Once the response is complete,
    background tasks go on. Who waits for the client's messages gets all of them as ever: an app that reads a body which
    breaks off gets Starlette's ClientDisconnect, and is not cancelled.

    To see the client go, the body is read ahead, up to 64 KiB; where the app leaves more than that unread, it isn't seen. Of
    a client that waits to be told to send its body (``Expect: 100-continue``) nothing is read before the app does.

    Args:
        app: The ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app for one connection; all but HTTP requests pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, may_read=not any(name.lower() == b"expect" for name, _ in scope["headers"]))
        failure: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.listen, tasks.cancel_scope)
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # the group would wrap it in a group of exceptions
                failure = error
            # Not the group's scope, which this task is in: on Python 3.11 an asyncio.TaskGroup that has failed in the app leaves
            # the task counted as cancelled, and with that anyio lets the cancellation of a scope out of it.
            exchange.listening.cancel()
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame
        if tasks.cancel_scope.cancel_called and not exchange.has_begun:
            with contextlib.suppress(OSError):  # by which a server may tell that the client is gone
                await Response(status_code=_CLIENT_CLOSED_REQUEST)(scope, exchange.receive, send)


class _Exchange:
    """One request and its response: messages from the client wait here until the app takes them.

    Attributes:
        listening: Ends `listen`.
        has_begun: Whether the app has sent anything.
    """

    def __init__(self, receive: Receive, send: Send, *, may_read: bool) -> None:
        self._receive, self._send = receive, send
        self._arrived: deque[Message | Exception] = deque()
        self._n_bytes = 0
        self._may_read = may_read
        self._n_waiting = 0  # who in the app waits for a message
        self._is_body_taken = False
        self._is_complete = False
        self._changed = anyio.Event()
        self.listening = anyio.CancelScope()
        self.has_begun = False

    async def listen(self, scope: anyio.CancelScope) -> None:
        """Read messages as they come until the client is gone; cancel unless that concerns nobody any more."""
        with self.listening:
            if await self._is_deserted():
                scope.cancel()

    async def _is_deserted(self) -> bool:
        while True:
            while not (self._n_waiting or (self._may_read and self._n_bytes < _AHEAD_BYTES)):
                await self._changed.wait()
            try:
                message: Message | Exception = await self._receive()
            except Exception as error:  # the server's; for who asks for a message
                message = error
            is_reading = self._n_waiting > 0 and not self._is_body_taken
            self._arrived.append(message)
            if isinstance(message, Exception) or message["type"] == "http.disconnect":
                break
            self._n_bytes += len(message.get("body", b""))
            self._tell()
        self._tell()
        return not (isinstance(message, Exception) or self._is_complete or is_reading)

    async def receive(self) -> Message:
        """Return the next message; the last one, that the client is gone, as often as it is asked for."""
        self._may_read = True
        while not self._arrived:
            self._n_waiting += 1
            self._tell()
            try:
                await self._changed.wait()
            finally:
                self._n_waiting -= 1
        message = self._arrived[0]
        if isinstance(message, Exception):
            raise message
        if message["type"] != "http.disconnect":
            self._arrived.popleft()
            self._n_bytes -= len(message.get("body", b""))
            self._is_body_taken = not message.get("more_body", False)
            self._tell()
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the response."""
        self.has_begun = True
        kind = message["type"]
        if kind == "http.response.pathsend" or (kind == "http.response.body" and not message.get("more_body", False)):
            self._is_complete = True  # before it is sent: the server ends what listens as soon as that is done
        await self._send(message)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
