"""The service that is measured: a trivial endpoint, and some whose work goes to workers or, for comparison, to threads."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..faults.page import page_at
from .serving import THREADS, Serving
from .work import ENTERED, WORDS, counted_busy, endless

KEEP_ALIVE_S = 120  # a connection closed just as a request comes would count as an answer that was lost

Call = Callable[..., Awaitable[Any]]


def main() -> None:
    """Serve as ``sys.argv[1]`` says, on a free port, which is printed first."""
    serving = Serving(**json.loads(sys.argv[1]))
    # Said to be TCP, so that asyncio turns Nagle's algorithm off: with it every answer took 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        application(serving),
        loop="asyncio",
        http="h11",
        lifespan="on",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    uvicorn.Server(config).run(sockets=[listener])


def application(serving: Serving) -> Starlette:
    """Return the app; with ours, all that belongs to it is installed."""
    if serving.by == THREADS:
        return _in_threads(serving)
    from offloop.adapters import starlette as adapter

    async def call(request: Request, fn: Callable[..., Any], *args: Any) -> Any:
        session = await adapter.get_session(request)
        return await session.run(fn, *args)

    app = Starlette(routes=_routes(serving, call))
    adapter.install(app, workers=serving.workers, drain_timeout_s=serving.drain_timeout_s, **serving.settings)
    return app


def _in_threads(serving: Serving) -> Starlette:
    pool = ThreadPoolExecutor(serving.workers)

    async def call(_: Request, fn: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, fn, *args)

    async def ready(_: Request) -> Response:
        return PlainTextResponse("ready")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        pool.shutdown(wait=False, cancel_futures=True)

    return Starlette(routes=[*_routes(serving, call), Route("/readyz", ready)], lifespan=lifespan)


def _routes(serving: Serving, call: Call) -> list[Route]:
    words = page_at(serving.page)

    def entered(request: Request) -> str:
        name = request.query_params["name"]
        words[WORDS * int(name) + ENTERED] += 1
        return name

    async def trivial(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def busy(request: Request) -> Response:
        name = entered(request)
        turns = int(float(request.query_params["ms"]) * serving.turns)
        return PlainTextResponse(await call(request, counted_busy, serving.page, name, turns))

    async def never(request: Request) -> Response:
        await call(request, endless, serving.page, entered(request))
        return PlainTextResponse("it has ended")

    async def held(_: Request) -> Response:
        return JSONResponse(_held())

    return [
        Route("/trivial", trivial),
        Route("/busy", busy),
        Route("/endless", never),
        Route("/held", held),
    ]


def _held() -> dict[str, int]:
    """Return what the server has, besides the connection that asks."""
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }
