"""CancelOnDisconnect: who is gone has their work stopped, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from offloop.adapters.starlette import CancelOnDisconnect

from .asgi import Exchange

pytestmark = pytest.mark.anyio

Endpoint = Callable[[Request], Awaitable[Response]]


def serving(endpoint: Endpoint, *inside: Middleware) -> Starlette:
    """Return an app of one endpoint."""
    middleware = [Middleware(CancelOnDisconnect), *inside]
    return Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])], middleware=middleware)


class Stuck:
    """An endpoint that never answers, once it has read its body."""

    def __init__(self, *, reads: bool) -> None:
        self.reads = reads
        self.begun = anyio.Event()
        self.body: bytes | None = None
        self.was_stopped = False

    async def __call__(self, request: Request) -> Response:
        if self.reads:
            self.body = await request.body()
        self.begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.was_stopped = True
        raise AssertionError


async def passed_through(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Do nothing, as middleware."""
    return await call_next(request)


INSIDE = {"": (), "inside BaseHTTPMiddleware": (Middleware(BaseHTTPMiddleware, dispatch=passed_through),)}


@pytest.mark.parametrize("inside", INSIDE.values(), ids=INSIDE)
@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
async def test_an_endpoint_is_cancelled(anyio_backend: object, inside: tuple[Middleware, ...], reads: bool) -> None:
    """Whoever awaits anything when the client goes is cancelled, whether the body was read or not; the app returns quietly."""
    stuck = Stuck(reads=reads)

    async def endpoint(request: Request) -> Response:
        return await stuck(request)

    exchange = Exchange(serving(endpoint, *inside), body=[b"ab", b"c"], method="POST")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await stuck.begun.wait()
            assert not stuck.was_stopped
            exchange.gone.set()
    assert stuck.was_stopped
    assert stuck.body == (b"abc" if reads else None)
    assert exchange.status == 499


@pytest.mark.parametrize("begins", [False, True], ids=["before", "within"])
async def test_middleware_above_gets_a_response(anyio_backend: object, begins: bool) -> None:
    """Middleware that expects a response from below has one to go on with, one that has begun included."""
    stuck, statuses = Stuck(reads=False), []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await stuck(Request({"type": "http"}))

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces()) if begins else await stuck(request)

    async def noted(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        statuses.append(response.status_code)
        return response

    app = serving(endpoint)
    app.add_middleware(BaseHTTPMiddleware, dispatch=noted)
    exchange = Exchange(app)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await stuck.begun.wait()
            exchange.gone.set()
    assert stuck.was_stopped
    assert statuses == [200 if begins else 499]


async def test_a_server_may_refuse_to_send_to_who_is_gone(anyio_backend: object) -> None:
    """Where sending raises OSError once the client is gone, the app returns as quietly."""
    stuck = Stuck(reads=False)

    class Refusing(Exchange):
        async def send(self, message: Message) -> None:
            raise ConnectionResetError

    exchange = Refusing(serving(stuck.__call__))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await stuck.begun.wait()
            exchange.gone.set()
    assert stuck.was_stopped


async def test_messages_arrive_as_they_came(anyio_backend: object) -> None:
    """A body arrives piece by piece, whole and in order, however much of it is read ahead."""
    pieces = [bytes([n]) * 30_000 for n in range(10)]

    async def endpoint(request: Request) -> Response:
        await anyio.wait_all_tasks_blocked()
        return JSONResponse([len(piece) for piece in [piece async for piece in request.stream()] if piece])

    exchange = await Exchange(serving(endpoint), body=pieces, method="POST").run()
    assert exchange.json == [30_000] * 10


async def test_messages_are_those_of_the_server(anyio_backend: object) -> None:
    """The raw messages are those of the server, and the last one stays that the client is gone."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        seen.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        seen.append(await receive())
        seen.append(await receive())

    with anyio.fail_after(10):
        await Exchange(CancelOnDisconnect(app), body=[b"a=1", b"&b=2"], method="POST").run()
    assert seen == [
        {"type": "http.request", "body": b"a=1", "more_body": True},
        {"type": "http.request", "body": b"&b=2", "more_body": False},
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]


async def test_reading_ahead_is_bounded(anyio_backend: object) -> None:
    """Of a body that nobody reads some is read ahead to see the client go, and the rest is left with the server."""
    n_received: list[int] = []

    async def endpoint(request: Request) -> Response:
        await anyio.wait_all_tasks_blocked()
        n_received.append(exchange.n_received)
        return Response()

    exchange = Exchange(serving(endpoint), body=[b"x" * 30_000] * 10, method="POST")
    await exchange.run()
    assert n_received == [3]


async def test_a_client_that_waits_to_send_is_not_asked(anyio_backend: object) -> None:
    """With Expect: 100-continue nothing is received before the app does, since that is what has the client send."""
    n_received: list[int] = []

    async def endpoint(request: Request) -> Response:
        await anyio.wait_all_tasks_blocked()
        n_received.append(exchange.n_received)
        return Response(await request.body())

    exchange = Exchange(serving(endpoint), body=[b"abc"], method="POST", headers={"Expect": "100-continue"})
    await exchange.run()
    assert n_received == [0]
    assert exchange.content == b"abc"


async def test_a_body_that_breaks_off_is_told(anyio_backend: object) -> None:
    """Who reads the body as the client goes gets ClientDisconnect as ever, and all the time to deal with it."""
    dealt_with: list[bytes] = []
    reading = anyio.Event()

    class Broken(Exchange):
        async def receive(self) -> Message:
            message = await super().receive()
            if message["type"] == "http.request":
                message["more_body"] = True
            return message

    async def endpoint(request: Request) -> Response:
        got = b""
        try:
            async for piece in request.stream():
                got += piece
                reading.set()
        except ClientDisconnect:
            await anyio.wait_all_tasks_blocked()
            dealt_with.append(got)
        return Response()

    exchange = Broken(serving(endpoint), body=[b"ab"], method="POST")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await reading.wait()
            await anyio.wait_all_tasks_blocked()
            exchange.gone.set()
    assert dealt_with == [b"ab"]


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_stream_is_cancelled(anyio_backend: object, spec_version: str) -> None:
    """A response under way ends with its client, by Starlette's own listening or by ours."""
    ended: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await anyio.sleep_forever()
        finally:
            ended.append("stream")

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces())

    exchange = Exchange(serving(endpoint), spec_version=spec_version)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await exchange.begun.wait()
            await anyio.wait_all_tasks_blocked()
            exchange.gone.set()
    assert exchange.content == b"one"
    assert ended == ["stream"]


async def test_a_stream_to_who_does_not_read_is_cancelled(anyio_backend: object) -> None:
    """A response that waits for its client to read ends when the client goes instead."""
    sending = anyio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            sending.set()
            yield b"piece"

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces())

    exchange = Exchange(serving(endpoint), spec_version="2.4")
    exchange.blocked = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await anyio.wait_all_tasks_blocked()
            exchange.gone.set()
    assert exchange.content == b""


async def test_asking_is_answered(anyio_backend: object) -> None:
    """`request.is_disconnected` says no while the client is there."""

    async def endpoint(request: Request) -> Response:
        await request.body()
        return JSONResponse([await request.is_disconnected() for _ in range(3)])

    exchange = await Exchange(serving(endpoint)).run()
    assert exchange.json == [False] * 3


async def test_background_tasks_go_on(anyio_backend: object) -> None:
    """Once the response is complete, the client may go: background tasks run to their end."""
    done: list[str] = []
    begun = anyio.Event()

    async def background() -> None:
        begun.set()
        await exchange.gone.wait()
        await anyio.wait_all_tasks_blocked()
        done.append("background")

    async def endpoint(request: Request) -> Response:
        return Response("answer", background=BackgroundTask(background))

    exchange = Exchange(serving(endpoint))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.run)
            await begun.wait()
            exchange.gone.set()
    assert exchange.content == b"answer"
    assert done == ["background"]


@pytest.mark.parametrize("kind", [ValueError, ExceptionGroup, SystemExit])
async def test_exceptions_are_themselves(anyio_backend: object, kind: type[BaseException]) -> None:
    """What the app raises comes out as the same object, in no group."""
    error = kind("why", [OSError()]) if kind is ExceptionGroup else kind("why")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(kind) as caught:
        await Exchange(CancelOnDisconnect(app)).run()
    assert caught.value is error


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("handles", [False, True], ids=["raised", "handled"])
async def test_a_failing_task_group_of_asyncio_is_itself(anyio_backend: object, handles: bool) -> None:
    """What such a group raises reaches the app's handler, or is handled by the endpoint, which then answers."""

    async def fail() -> None:
        raise KeyError

    async def endpoint(request: Request) -> Response:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
        except* KeyError:
            if not handles:
                raise
        return Response("answer")

    async def handler(request: Request, error: Exception) -> Response:
        assert isinstance(error, ExceptionGroup)
        return Response("handled")

    app = serving(endpoint)
    app.add_exception_handler(ExceptionGroup, handler)
    exchange = await Exchange(app).run()
    assert (exchange.status, exchange.content) == (200, b"answer" if handles else b"handled")


async def test_an_error_of_the_server_is_for_who_receives(anyio_backend: object) -> None:
    """What receiving raises reaches the app where it receives, and nobody where it doesn't."""

    class Broken(Exchange):
        async def receive(self) -> Message:
            raise ConnectionError("broken")

    async def endpoint(request: Request) -> Response:
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConnectionError, match="broken"):
            await request.body()
        return Response("answer")

    exchange = await Broken(serving(endpoint)).run()
    assert exchange.content == b"answer"


async def test_cancelling_from_outside_passes(anyio_backend: object) -> None:
    """A cancel scope around the app cancels it, and is told that it did."""
    stuck = Stuck(reads=True)

    async def endpoint(request: Request) -> Response:
        return await stuck(request)

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Exchange(serving(endpoint)).run)
            await stuck.begun.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert stuck.was_stopped


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_other_connections_pass_untouched(anyio_backend: object, kind: str) -> None:
    """What is no HTTP request gets the server's own receive and send."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope = {"type": kind}
    await CancelOnDisconnect(app)(scope, receive, send)
    assert [one is other for one, other in zip(seen, (scope, receive, send), strict=True)] == [True] * 3
