"""What workers do with large data: little, but all of it is read."""

from collections.abc import Callable
from functools import cache
from time import sleep
from typing import Any

PARTS = 8
ROUSING_S = 0.05  # so long that no worker takes all the items that are to have each import what it needs
ROWS_AT_ONCE = 50_000

Reader = Callable[[Any, int], float]


def read_array(array: Any, part: int) -> float:
    """Sum up every eighth number, which touches all of the memory."""
    return float(array[part::PARTS].sum())


def rouse_array(array: Any, part: int) -> float:
    """Do the same under another name, so that nobody learns a cost from small data."""
    sleep(ROUSING_S)
    return read_array(array, part)


def read_frame(frame: Any, part: int) -> float:
    """Sum up all numbers and the lengths of all strings, some rows at a time: sums take memory of their own."""
    total = float(part)
    for first in range(0, len(frame), ROWS_AT_ONCE):
        rows = frame.iloc[first : first + ROWS_AT_ONCE]
        for name in rows.columns:
            column = rows[name]
            total += float((column if column.dtype.kind == "f" else column.str.len()).sum())
    return total


def rouse_frame(frame: Any, part: int) -> float:
    """Do the same under another name."""
    sleep(ROUSING_S)
    return read_frame(frame, part)


def read_pair(read: Reader, pair: tuple[Any, int]) -> float:
    """Take value and part as one item, for those that know no other."""
    return read(*pair)


def doubled(array: Any) -> Any:
    """Give back an array of the same size."""
    return array * 2


def rouse_doubled(array: Any) -> Any:
    """Do the same under another name."""
    sleep(ROUSING_S)
    return doubled(array)


def identity(array: Any) -> Any:
    """Give back what came."""
    return array


def one_byte(array: Any) -> bytes:
    """Give back next to nothing."""
    return b"x"


@cache
def kept(n_numbers: int) -> Any:
    """Give back an array that this process has made at its first call."""
    import numpy as np

    return np.arange(n_numbers, dtype=float)


def each_row(fn: Callable[[Any], Any], block: Any) -> Any:
    """Call ``fn`` on every row of a block."""
    import numpy as np

    return np.stack([fn(row) for row in block])
