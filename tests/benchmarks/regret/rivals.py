"""What a choice is held against: serial, threads and processes of the standard library, chunked by hand."""

import asyncio
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from ..workloads import apply, rouse
from .cells import Cell
from .clock import Call

CHUNK_S = 0.015
LONG_S = 0.3  # whoever takes longer is not given all the chunk sizes
MOST_CHUNKS = 4_000


@dataclass(frozen=True)
class Rival:
    """One way to run a cell."""

    family: str  # serial, threads or processes
    chunk: int | None
    call: Call

    @property
    def label(self) -> str:
        return self.family if self.chunk is None else f"{self.family} by {self.chunk}"


class Pools:
    """The standard library's pools, up and warm."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.threads = ThreadPoolExecutor(workers)
        self.processes = ProcessPoolExecutor(workers)

    def rivals(self, cell: Cell, fn: Callable[[Any], Any], items: list[Any]) -> list[Rival]:
        """Return all that a cell is tried with."""

        def serial() -> Any:
            return to_thread.run_sync(apply, fn, items)

        found = [Rival("serial", None, serial)]
        sizes = list(chunk_sizes(cell, self.workers))
        hopeless = cell.gil == "held" and cell.serial_s > LONG_S
        for size in sizes[:1] if hopeless else sizes:
            found.append(Rival("threads", size, self._in_threads(fn, items, size)))
        for size in sizes:
            found.append(Rival("processes", size, self._in_processes(fn, items, size)))
        return found

    def _in_threads(self, fn: Callable[[Any], Any], items: list[Any], size: int) -> Call:
        async def call() -> list[Any]:
            loop = asyncio.get_running_loop()
            chunks = (items[start : start + size] for start in range(0, len(items), size))
            parts = await asyncio.gather(
                *(loop.run_in_executor(self.threads, apply, fn, chunk) for chunk in chunks)
            )
            return [result for part in parts for result in part]

        return call

    def _in_processes(self, fn: Callable[[Any], Any], items: list[Any], size: int) -> Call:
        def collected() -> list[Any]:
            return list(self.processes.map(fn, items, chunksize=size))

        return lambda: to_thread.run_sync(collected)


@contextmanager
def pools(workers: int) -> Iterator[Pools]:
    """Start the pools before anything else has threads that a fork would miss."""
    opened = Pools(workers)
    try:
        list(opened.processes.map(rouse, [20_000] * 4 * workers))
        list(opened.threads.map(rouse, [20_000] * 4 * workers))
        yield opened
    finally:
        opened.processes.shutdown(wait=True)
        opened.threads.shutdown(wait=True)


def chunk_sizes(cell: Cell, workers: int) -> Iterator[int]:
    """Yield the sizes to try, the largest first: shares of the whole, one that lasts a while, single items."""
    share = math.ceil(cell.count / workers)
    wanted = {share, math.ceil(share / 4), max(1, min(share, round(CHUNK_S / cell.cost_s)))}
    if cell.serial_s <= LONG_S:
        wanted.add(math.ceil(share / 16))
    if cell.serial_s <= LONG_S or cell.count <= 100:
        wanted.add(1)
    if cell.serial_s > LONG_S and cell.skew != "uniform":
        wanted.discard(share)
    for size in sorted(wanted, reverse=True):
        if cell.count / size <= MOST_CHUNKS:
            yield size
