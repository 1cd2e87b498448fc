"""Rows: what has them, how many, and how a block of them is cut out in the process that executes it.

Libraries are recognised by the modules of an object's classes, so that nothing is imported here: whoever has such an
object has its library.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any

from ..errors import BatchLengthError, BatchTypeError
from ..wire.pickling import function_name

LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy", "torch"})

_SLICED = (list, tuple, range, bytes, bytearray, memoryview, array)

Span = tuple[int, int]


class Rows:
    """Calls fn with a block of the rows of its inputs, a view of them where their library has views.

    Args:
        fn: Takes one block of each input.
        inputs: What has rows, all equally many.
        is_checked: Whether fn must return as many rows as it got.
    """

    wraps_fn = True

    def __init__(self, fn: Callable[..., Any], inputs: tuple[Any, ...], is_checked: bool) -> None:
        self.fn, self.inputs, self.is_checked = fn, inputs, is_checked

    def __call__(self, span: Span, **random: Any) -> Any:
        """Execute one block; `span` is its first row and the one behind its last."""
        start, stop = span
        value = self.fn(*[cut(rows, start, stop) for rows in self.inputs], **random)
        if self.is_checked and type(value) is not CoroutineType:  # which is refused for what it is
            self._check(value, stop - start)
        return value

    def _check(self, value: Any, n_rows: int) -> None:
        """Refuse what can't be put together row by row.

        Raises:
            BatchLengthError: It has another number of rows.
            BatchTypeError: It has none, or is of a type that nobody here can concatenate.
        """
        if isinstance(value, tuple) and value:
            for part in value:
                self._check(part, n_rows)
            return
        n_returned = count_rows(value) if isinstance(value, list) or library_of(value) else None
        if n_returned is None:
            why = "which has no rows" if count_rows(value) is None else "which is of no kind that can be"
            raise BatchTypeError(function_name(self.fn), describe(value), why)
        if n_returned != n_rows:
            raise BatchLengthError(function_name(self.fn), n_rows, n_returned)


def library_of(value: object) -> str:
    """Return which of the known libraries an object is of, by itself or by what it derives from; else an empty text."""
    for kind in type(value).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in LIBRARIES:
            return library
    return ""


def describe(value: object) -> str:
    """Return a value's type, as it is written, or None as itself."""
    return "None" if value is None else type(value).__qualname__


def count_rows(value: Any) -> int | None:
    """Return how many rows a value has; None if it isn't made of rows."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return shape[0] if shape and isinstance(shape[0], int) else None
    if library_of(value) == "pyarrow":  # its arrays have a length only, as have buffers and some scalars
        return len(value) if hasattr(value, "slice") and hasattr(value, "type") else None
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else None


def cut(rows: Any, start: int, stop: int) -> Any:
    """Return some consecutive rows, as a view where there are such; those of an unusual sequence as a list."""
    library = library_of(rows)
    if library in ("polars", "pyarrow"):
        return rows.slice(start, stop - start)
    if hasattr(rows, "iloc"):
        return rows.iloc[start:stop]
    if library or isinstance(rows, _SLICED) or hasattr(rows, "shape"):
        return rows[start:stop]
    return [rows[index] for index in range(start, stop)]
