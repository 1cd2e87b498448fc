"""The data that travels; made anew for every sample, so that nobody has it already."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import work

_chance = np.random.default_rng()

BYTES_PER_NUMBER = 8
NUMERIC_COLUMNS, STRING_COLUMNS = 9, 2
LENGTHS = range(20, 61)  # of strings, each as frequent as the others
BYTES_PER_ROW = NUMERIC_COLUMNS * BYTES_PER_NUMBER + STRING_COLUMNS * (BYTES_PER_NUMBER + 40)


@dataclass(frozen=True)
class Load:
    """A value, how a worker reads it, the same under another name, and its size."""

    value: Any
    read: work.Reader
    rouse: work.Reader
    n_bytes: int


def array(n_bytes: int) -> Load:
    """Return random numbers."""
    value = _chance.random(n_bytes // BYTES_PER_NUMBER)
    return Load(value, work.read_array, work.rouse_array, value.nbytes)


def frame(n_bytes: int) -> Load:
    """Return columns of numbers and of strings as pandas has them by itself: held by Arrow."""
    import pandas as pd

    n_rows = n_bytes // BYTES_PER_ROW
    columns: dict[str, Any] = {f"x{at}": _chance.random(n_rows) for at in range(NUMERIC_COLUMNS)}
    columns |= {f"s{at}": pd.array(_strings(n_rows), dtype="str") for at in range(STRING_COLUMNS)}
    return _framed(pd.DataFrame(columns, copy=False))


def frame_objects(n_bytes: int) -> Load:
    """Return the same with a Python object for each string; in bytes as large as if it had none."""
    held = frame(n_bytes).value
    return _framed(held.astype({name: object for name in held.columns if held[name].dtype == "str"}))


def _framed(value: Any) -> Load:
    return Load(value, work.read_frame, work.rouse_frame, int(value.memory_usage(deep=True).sum()))


def _strings(count: int) -> Any:
    """Make distinct strings as Arrow does, in no time."""
    import pyarrow as pa

    ends = np.cumsum(_chance.choice(LENGTHS, count))
    letters = _chance.integers(ord("a"), ord("z") + 1, ends[-1], dtype=np.uint8)
    starts = np.concatenate(([0], ends))
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(starts), pa.py_buffer(letters))


def arrays(count: int, n_bytes: int) -> list[Any]:
    """Return so many arrays of random numbers, of so many bytes each."""
    return [array(n_bytes).value for _ in range(count)]


LOADS: dict[str, Callable[[int], Load]] = {"array": array, "frame": frame, "frame_objects": frame_objects}
