"""From a connection through workers into a file, on scikit-learn's handwritten digits: async on both ends, bounded in between.

Run it with ``python examples/stream_pipeline.py``. A scanner sends images over TCP, some of them damaged. Each is recognised in a
worker, by what it looks like when it is turned and moved a little, and written to a file as it comes out, in the order in
which it came in. No more than the window is ever under way: when the file is slow, the scanner has to wait. The program
prints how well that went, and how many images were under way at most.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import numpy as np
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from sklearn.datasets import load_digits

import offloop

WINDOW = 32
N_KNOWN = 1_200  # of the images; the others are scanned
N_SCANNED = 300
DAMAGED = (50, 200)
FRAME_BYTES = 64

IMAGES, LABELS = load_digits(return_X_y=True)


def recognised(known: np.ndarray, labels: np.ndarray, frame: bytes) -> dict[str, float]:
    """Return which digit a frame shows, and how far it is from the known image that is most like it.

    Args:
        known: Images; shape (images, 64).
        labels: What they show; shape (images,).
        frame: The 64 pixels, from 0 to 16.
    """
    from scipy.ndimage import affine_transform

    image = np.frombuffer(frame, np.uint8).reshape(8, 8).astype(float)
    if image.max() > 16:
        raise ValueError(f"a pixel is {image.max():.0f}, and may be 16")
    variants = []
    for angle in np.radians((-12, -6, 0, 6, 12)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centred = np.array([3.5, 3.5]) - turn @ [3.5, 3.5]
        for moved in ((0, 0), (0, 0.5), (0.5, 0), (0, -0.5), (-0.5, 0)):
            variants.append(affine_transform(image, turn, offset=centred + moved, order=1).ravel())
    distances = np.linalg.norm(np.array(variants)[:, None] - known, axis=2).min(axis=0)
    nearest = int(distances.argmin())
    return {"digit": int(labels[nearest]), "distance": round(float(distances[nearest]), 2)}


async def scan(connection: ByteStream) -> None:
    """Send the images, as the scanner does."""
    async with connection:
        for number, image in enumerate(IMAGES[N_KNOWN : N_KNOWN + N_SCANNED].astype(np.uint8)):
            await connection.send(bytes(FRAME_BYTES - 1) + b"\xff" if number in DAMAGED else image.tobytes())


async def frames(port: int) -> AsyncIterator[bytes]:
    """Yield what the scanner sends, frame by frame."""
    async with await anyio.connect_tcp("127.0.0.1", port) as connection:
        received = BufferedByteReceiveStream(connection)
        while True:
            try:
                yield await received.receive_exactly(FRAME_BYTES)
            except anyio.IncompleteRead:
                return


async def pipe(session: offloop.ParallelSession, port: int, path: Path) -> int:
    """Recognise what the scanner sends and write it to a file; return how many images were under way at most."""
    most = 0
    fn = partial(recognised, IMAGES[:N_KNOWN], LABELS[:N_KNOWN])
    async with (
        await anyio.open_file(path, "w") as file,
        session.stream(fn, frames(port), window=WINDOW, on_error="collect") as results,
    ):
        async for number, result in results.indexed():
            most = max(most, results.in_flight)
            line = {"error": f"{result}"} if isinstance(result, Exception) else result
            await file.write(json.dumps({"number": number} | line) + "\n")
    return most


async def main() -> None:
    """Pipe everything, then read the file."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.ndjson"
        async with listener, offloop.ParallelSession() as session, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, scan)
            begun = time.perf_counter()
            most = await pipe(session, port, path)
            seconds = time.perf_counter() - begun
            tasks.cancel_scope.cancel()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(N_SCANNED)), "every image once, in order"
    assert most <= WINDOW
    right = [line["digit"] == LABELS[N_KNOWN + line["number"]] for line in lines if "digit" in line]
    print(f"{len(lines)} images in {seconds:.2f} s, at most {most} under way (window: {WINDOW})")
    print(f"  {np.mean(right):.1%} of {len(right)} recognised right")
    for line in lines:
        if "error" in line:
            print(f"  image {line['number']}: {line['error']}")
    assert [line["number"] for line in lines if "error" in line] == list(DAMAGED)


if __name__ == "__main__":
    anyio.run(main)
