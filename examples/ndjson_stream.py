"""An endless NDJSON response whose producer keeps step with its reader, on scikit-learn's handwritten digits.

Run it with ``python examples/ndjson_stream.py``: it serves on a free port, reads from itself quickly, slowly and not at all, and
prints how many images the service has taken up meanwhile. With ``--serve`` it goes on serving, on port 8000; try
``curl --limit-rate 100k localhost:8000/images``. Each line is an image enlarged in a worker, written as JSON there. A client that
doesn't read fills the buffers of its connection; then the response waits, then the stream, then the workers, and then
nothing more is taken from the source.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator

import numpy as np
import uvicorn
from sklearn.datasets import load_digits
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

import offloop
from offloop import Stream
from offloop.adapters.starlette import get_session, install

WINDOW = 16  # images that are taken up and not sent yet
BUFFER_BYTES = 32_768  # of each end of a connection; usually they are megabytes, which would take a while to fill
IMAGES = load_digits().images


def enlarged(image: np.ndarray) -> bytes:
    """Return an image of 8 × 8 pixels as a line of JSON with one of 64 × 64."""
    from scipy.ndimage import zoom

    pixels = np.clip(zoom(image, 8, order=3), 0, 16) * 15.9375
    return json.dumps({"pixels": pixels.astype(int).tolist()}).encode() + b"\n"


class Source:
    """All images, again and again, and how many of them were taken."""

    def __init__(self) -> None:
        self.n_taken = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            for image in itertools.cycle(IMAGES):
                self.n_taken += 1
                yield image
        finally:
            self.is_closed = True


class Lines(StreamingResponse):
    """A response of the lines that a stream yields, until the service drains.

    The stream is begun and left here, in the task that sends: so it ends as the response does, however that ends. A first
    line that can't be had is an error before the response has begun, which the app can still answer by a status.
    """

    media_type = "application/x-ndjson"

    def __init__(self, stream: Stream[bytes], draining: asyncio.Event) -> None:
        super().__init__(())
        self.stream, self.draining = stream, draining

    async def stream_response(self, send: Send) -> None:
        """Send each line once the client has made room for it."""
        async with self.stream as results:
            line = await anext(results, None)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while line is not None and not self.draining.is_set():
                await send({"type": "http.response.body", "body": line, "more_body": True})
                line = await anext(results, None)
        await send({"type": "http.response.body", "body": b""})


source = Source()  # the demonstration has one reader at a time


async def images(request: Request) -> Response:
    """Answer with enlarged images, one in a line, without end."""
    global source
    source = Source()
    session = await get_session(request)
    return Lines(session.stream(enlarged, source, window=WINDOW), request.state.offloop_draining)


app = Starlette(routes=[Route("/images", images)])
install(app, drain_timeout_s=2)


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection on which the lines of the response begin."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=BUFFER_BYTES)
    writer.write(b"GET /images HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def read(reader: asyncio.StreamReader, count: int) -> None:
    """Read so many lines, each of which comes as a chunk of its own."""
    for _ in range(count):
        n_bytes = int(await reader.readline(), 16)
        line = await reader.readexactly(n_bytes + 2)
        assert len(json.loads(line)["pixels"]) == 64


async def at_rest() -> int:
    """Wait until nothing more is taken from the source, and return how much that was."""
    seen = -1
    while seen != source.n_taken:
        seen = source.n_taken
        await asyncio.sleep(0.3)
    return seen


async def demonstrate(port: int) -> None:
    """Read quickly, slowly, not at all, and go away."""
    reader, writer = await connected(port)
    begun = time.perf_counter()
    await read(reader, 200)
    print(f"read quickly: 200 lines in {time.perf_counter() - begun:.2f} s; {source.n_taken} images taken")

    before = await at_rest()
    await asyncio.sleep(0.5)
    print(f"not at all for 0.5 s: {source.n_taken - before} taken meanwhile; {before - 200} lie in buffers and in the window")
    assert source.n_taken == before

    for _ in range(10):
        await read(reader, 1)
        await asyncio.sleep(0.05)
    after = await at_rest()
    print(f"slowly, 10 lines: {after - before} more taken")
    assert after - before <= 10 + WINDOW

    writer.close()
    while not source.is_closed:
        await asyncio.sleep(0.001)
    print("the client went away: the source is closed")

    reader, writer = await connected(port)
    await read(reader, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    n_last = 0
    while (n_bytes := int(await reader.readline(), 16)) > 0:
        await reader.readexactly(n_bytes + 2)
        n_last += 1
    print(f"SIGTERM: the response ended by itself, {n_last} lines later")
    writer.close()


async def main() -> None:
    """Serve on a free port, and be a client of that."""
    offloop.use_default_sink(False)  # all that would be logged is told here
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        await demonstrate(listening.getsockname()[1])
        await serving
    print("the service has ended")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        uvicorn.run(app, port=8000)
    else:
        asyncio.run(main())
