"""A FastAPI service that restores scanned pages of scikit-learn's handwritten digits.

Run it with ``python examples/web_service.py``: it serves on a free port, asks itself a few things, prints what comes back, and ends
as at SIGTERM. With ``--serve`` it goes on serving, on port 8000. Restoring a page takes a worker for tens or hundreds of
milliseconds, by non-local means: each pixel becomes the mean of those whose surroundings look alike, within ``reach``. The
event loop stays free for others all the time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from typing import Annotated

import httpx2
import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, Query, Response
from sklearn.datasets import load_digits

import offloop
from offloop.adapters.starlette import get_session, install

TIME_LIMIT_S = 1.0  # for a page
SIDE = 12  # digits in a row of a page, and rows
DIGITS = load_digits().images / 16  # of 8 × 8 pixels each, from 0 to 1
N_PAGES = len(DIGITS) // SIDE**2


def printed(number: int) -> np.ndarray:
    """Return a page as it was printed."""
    digits = DIGITS[number * SIDE**2 : (number + 1) * SIDE**2]
    return digits.reshape(SIDE, SIDE, 8, 8).swapaxes(1, 2).reshape(SIDE * 8, SIDE * 8)


def scanned(number: int) -> np.ndarray:
    """Return a page as a bad scanner sees it."""
    page = printed(number % N_PAGES)
    return np.clip(page + np.random.default_rng(number).normal(0, 0.2, page.shape), 0, 1)


def restored(page: np.ndarray, reach: int) -> np.ndarray:
    """Return a page without the noise, as far as that can be told from the page itself."""
    from scipy.ndimage import uniform_filter

    total, weights = np.zeros_like(page), np.zeros_like(page)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            moved = np.roll(page, (down, right), axis=(0, 1))
            weight = np.exp(-uniform_filter((page - moved) ** 2, size=3) / 0.02)
            total += weight * moved
            weights += weight
    return total / weights


def load_libraries() -> None:
    """Import what restoring needs: once in every worker, before the clock of a request runs."""
    import scipy.ndimage  # noqa: F401


app = FastAPI(title="Restored digits")
install(app, max_pending=8, grace_s=0.2, worker_init=load_libraries)  # so few calls that a handful of clients are too many

Session = Annotated[offloop.ParallelSession, Depends(get_session)]


@app.get("/ping")
async def ping() -> str:
    """Answer at once."""
    return "pong"


@app.get("/pages/{number}")
async def page(number: int, session: Session, reach: Annotated[int, Query(ge=1, le=200)] = 4) -> Response:
    """Answer with a restored page, as a PGM image."""
    pixels = await session.run(restored, scanned(number), reach, timeout_s=TIME_LIMIT_S)
    header = f"P5 {pixels.shape[1]} {pixels.shape[0]} 255\n".encode()
    return Response(header + (pixels * 255).astype(np.uint8).tobytes(), media_type="image/x-portable-graymap")


def pixels_of(image: bytes) -> np.ndarray:
    """Return the pixels of a PGM image, from 0 to 1."""
    header, _, data = image.partition(b"\n")
    width, height = map(int, header.split()[1:3])
    return np.frombuffer(data, np.uint8).reshape(height, width) / 255


async def idle(client: httpx2.AsyncClient) -> None:
    """Wait until no call is under way."""
    while (await client.get("/readyz")).json()["pending"]:
        await asyncio.sleep(0.001)


async def restore_one(client: httpx2.AsyncClient) -> None:
    """Have one page restored."""
    image = pixels_of((await client.get("/pages/0")).content)
    before, after = (float(np.sqrt(np.mean((one - printed(0)) ** 2))) for one in (scanned(0), image))
    print(f"page 0: off by {before:.3f} as scanned, by {after:.3f} as restored")
    assert after < before


async def be_many(client: httpx2.AsyncClient) -> None:
    """Ask for more pages at a time than the service takes, and see how a small question fares meanwhile."""
    pages = [asyncio.create_task(client.get(f"/pages/{number}")) for number in range(12)]
    await asyncio.sleep(0.02)
    begun = time.perf_counter()
    await client.get("/ping")
    ping_s = time.perf_counter() - begun
    answers = await asyncio.gather(*pages)
    counts = Counter(answer.status_code for answer in answers)
    print(f"12 pages at once: {counts[200]} restored, {counts[503]} refused; /ping took {ping_s * 1e3:.1f} ms meanwhile")
    assert counts.keys() <= {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            print(f"  refused: Retry-After: {answer.headers['retry-after']}, {answer.json()['why']}={answer.json()['limit']}")
            break


async def ask_too_much(client: httpx2.AsyncClient) -> None:
    """Ask for what takes too long."""
    begun = time.perf_counter()
    answer = await client.get("/pages/1", params={"reach": 200})
    print(f"a reach of 200: {answer.status_code} {answer.json()['title']!r} after {time.perf_counter() - begun:.2f} s")
    assert answer.status_code == 504


async def lose_patience(client: httpx2.AsyncClient) -> None:
    """Go away in the middle of the work, and see that it ends."""
    try:
        await client.get("/pages/2", params={"reach": 200}, timeout=0.3)
    except httpx2.TimeoutException:
        begun = time.perf_counter()
    await idle(client)
    print(f"a client that went away: its work had stopped {(time.perf_counter() - begun) * 1e3:.0f} ms later")


async def leave(client: httpx2.AsyncClient) -> None:
    """Have the service end with work under way."""
    pages = [asyncio.create_task(client.get(f"/pages/{number}", params={"reach": 12})) for number in range(3, 7)]
    while (await client.get("/readyz")).json()["pending"] < 3 and not all(page.done() for page in pages):
        await asyncio.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)
    answers = await asyncio.gather(*pages)
    print(f"SIGTERM with {len(pages)} pages under way: answered {[answer.status_code for answer in answers]}")


async def main() -> None:
    """Serve on a free port, and be a client of that."""
    offloop.use_default_sink(False)  # all that would be logged is told here
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
            print(f"ready with {(await client.get('/readyz')).json()['workers']} workers")
            for act in (restore_one, be_many, ask_too_much, lose_patience, leave):
                await act(client)
        await serving
    print("the service has ended")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        uvicorn.run(app, port=8000)
    else:
        asyncio.run(main())
