"""Memory that work writes while a scenario reads it, over a file that any library's worker can open."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BYTES_PER_WORD = 8
PID, LEFT, BEATS = range(
    3
)  # of a page for one call at a time: who executes it, whether it is over, what it has done


@cache
def page_at(path: str) -> memoryview:
    """Return the words of a page, mapped once in each process."""
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


@contextmanager
def new_page(n_words: int) -> Iterator[tuple[str, memoryview]]:
    """Yield the path and the words of a page of noughts, and remove its file in the end."""
    descriptor, path = tempfile.mkstemp(prefix="page-")
    os.truncate(descriptor, n_words * BYTES_PER_WORD)
    os.close(descriptor)
    try:
        yield path, page_at(path)
    finally:
        Path(path).unlink()
