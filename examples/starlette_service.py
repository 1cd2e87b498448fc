"""A plain Starlette service that reads handwritten digits, put together by hand from what the adapter offers.

Run it with ``python examples/starlette_service.py``: it serves on a free port, sends itself scikit-learn's digits, prints what was
read, and ends. With ``--serve`` it goes on serving, on port 8000. Its lifespan has the workers fit the model before the service is
ready, and shares it with all of them, so that no request sends it again.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
import uvicorn
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import offloop
from offloop.adapters.starlette import (
    CancelOnDisconnect,
    FinishRequests,
    exception_handlers,
    get_session,
    lifespan,
    livez,
    readyz,
)

N_FITTED = 1_200  # of the images; the others are read
MOST_IMAGES = 1_000  # of a request


def fitted() -> ExtraTreesClassifier:
    """Return a forest that reads digits."""
    X, y = load_digits(return_X_y=True)
    return ExtraTreesClassifier(n_estimators=100, random_state=0).fit(X[:N_FITTED], y[:N_FITTED])


def digits_of(model: ExtraTreesClassifier, X: np.ndarray) -> list[int]:
    """Return what each image shows; shape (images, 64)."""
    return [int(digit) for digit in model.predict(X)]


@asynccontextmanager
async def with_model(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Have a session, and a model in it, while the app serves."""
    async with lifespan(max_pending=100)(app) as state:
        session: offloop.ParallelSession = state["offloop"]
        model = await session.run(fitted)
        yield {**state, "model": session.share(model)}


async def read(request: Request) -> Response:
    """Answer with the digits that images show: a list of lists of 64 numbers, from 0 to 16."""
    try:
        X = np.array(await request.json(), dtype=float).reshape(-1, 64)
    except (ValueError, TypeError) as error:
        raise HTTPException(422, "send a list of lists of 64 numbers") from error
    if len(X) > MOST_IMAGES:
        raise HTTPException(413, f"send {MOST_IMAGES} images at most")
    session = await get_session(request)
    return JSONResponse(await session.run(digits_of, request.state.model, X, timeout_s=5))


app = Starlette(
    routes=[Route("/digits", read, methods=["POST"]), Route("/livez", livez), Route("/readyz", readyz)],
    middleware=[Middleware(FinishRequests), Middleware(CancelOnDisconnect)],
    exception_handlers=exception_handlers,
    lifespan=with_model,
)


async def ask(client: httpx2.AsyncClient) -> None:
    """Send the images that the model has not seen, and compare."""
    X, y = load_digits(return_X_y=True)
    X, y = X[N_FITTED:], y[N_FITTED:]
    begun = time.perf_counter()
    parts = np.array_split(np.arange(len(X)), 12)
    answers = await asyncio.gather(*(client.post("/digits", json=X[part].tolist()) for part in parts))
    seconds = time.perf_counter() - begun
    digits = np.concatenate([answer.raise_for_status().json() for answer in answers])
    print(f"{len(X)} images in {len(parts)} requests: {np.mean(digits == y):.1%} read right, in {seconds:.2f} s")
    assert np.mean(digits == y) > 0.9
    wrong = await client.post("/digits", json=[[1, 2, 3]])
    print(f"an image of 3 pixels: {wrong.status_code} {wrong.text}")
    assert wrong.status_code == 422
    print(f"/livez: {(await client.get('/livez')).json()}")


async def main() -> None:
    """Serve on a free port, and be a client of that."""
    offloop.use_default_sink(False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
            await ask(client)
        server.should_exit = True  # as a signal would have it
        await serving
    print("the service has ended")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        uvicorn.run(app, port=8000)
    else:
        asyncio.run(main())
