"""A service for tests to start with uvicorn: what it does follows the files in the folder that it is told."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import workloads as w
from offloop.adapters.starlette import get_session, install

FOLDER = os.environ.get("SERVED_FOLDER", "")


async def wait(request: Request) -> Response:
    """Answer once there is the file that the path names, by two calls one after the other."""
    session = await get_session(request)
    went = await session.run(w.wait_for_file, f"{FOLDER}/{request.path_params['name']}")
    return PlainTextResponse(f"{went} {await session.run(w.double, 1)}")


async def stuck(request: Request) -> Response:
    """Execute until cancelled."""
    session = await get_session(request)
    return PlainTextResponse(await session.run(w.loop_until_cancelled, f"{FOLDER}/stuck"))


async def pid(request: Request) -> Response:
    """Tell which process serves."""
    return PlainTextResponse(f"{os.getpid()}")


async def flood(request: Request) -> Response:
    """Send without end."""

    async def pieces() -> AsyncIterator[bytes]:
        w.append(f"{FOLDER}/flood.began", "begun")
        while True:
            yield bytes(100_000)

    return StreamingResponse(pieces())


async def ticks(request: Request) -> Response:
    """Send a line, and another one when the service drains."""

    async def lines() -> AsyncIterator[str]:
        w.append(f"{FOLDER}/ticks.began", "begun")
        yield "first\n"
        await request.state.offloop_draining.wait()
        yield "last\n"

    return StreamingResponse(lines())


app = Starlette(
    routes=[
        Route("/wait/{name}", wait),
        Route("/stuck", stuck),
        Route("/pid", pid),
        Route("/flood", flood),
        Route("/ticks", ticks),
    ]
)
install(app, drain_timeout_s=float(os.environ.get("SERVED_DRAIN_S", "20")))


def main() -> None:
    """Serve on a free port and write which, as ``uvicorn served:app`` would."""
    listening = socket.create_server(("127.0.0.1", 0))
    w.append(f"{FOLDER}/port", listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
    if "thread" not in sys.argv:
        server.run(sockets=[listening])
        return
    anyio.run(in_thread, server, listening)


async def in_thread(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve in a thread until there is a file that says to stop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, server.run, [listening])
        await w.appears(f"{FOLDER}/stop")
        server.should_exit = True


if __name__ == "__main__":
    main()
