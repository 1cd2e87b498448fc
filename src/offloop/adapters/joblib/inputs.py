"""Large inputs of a joblib call: what stands in several of its batches is stored once for all of them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from itertools import chain
from typing import Any

import offloop

# How many bytes something has, and what of it is to be stored, by the package and the name of its class or one of its bases.
_SIZES: dict[tuple[str, str], Callable[[Any], float]] = {
    ("numpy", "ndarray"): lambda value: 0 if value.dtype.hasobject else value.nbytes,
    ("pandas", "DataFrame"): lambda value: 8 * value.size,
    ("pandas", "Series"): lambda value: 8 * value.size,
    ("scipy", "_cs_matrix"): lambda value: value.data.nbytes,
}
_PARTS: dict[tuple[str, str], Callable[[Any], list[Any]]] = {
    ("numpy", "ndarray"): lambda value: [value.view()],
    ("pandas", "DataFrame"): lambda value: [value.copy(deep=False)],
    ("pandas", "Series"): lambda value: [value.copy(deep=False)],
    ("scipy", "_cs_matrix"): lambda value: [part.view() for part in (value.data, value.indices, value.indptr)],
}


class Inputs:
    """The large inputs of one joblib call; any thread may ask.

    Arrays, frames and sparse matrices of at least so many bytes are shared from when they are seen for the second time until the
    call is over, so meanwhile they are to be left as they are: joblib's own backends ask for no less. What is shared are views,
    so that what the user shares stays shared.

    Args:
        session: Whose workers get them.
        min_bytes: joblib's ``max_nbytes``; None to send everything with each batch.
    """

    def __init__(self, session: offloop.ParallelSession, min_bytes: float | None) -> None:
        self._session, self._min_bytes = session, math.inf if min_bytes is None else min_bytes
        self._seen: dict[int, weakref.ref[Any]] = {}
        self._shared: dict[int, list[Any]] = {}

    def look_at(self, batch: Any) -> None:
        """Share what of a batch was in an earlier one."""
        for _, args, kwargs in batch.items:
            for value in chain(args, kwargs.values()):
                name = _name(type(value))
                if name is not None and id(value) not in self._shared and _SIZES[name](value) >= self._min_bytes:
                    self._see(value, name)

    def _see(self, value: Any, name: tuple[str, str]) -> None:
        seen = self._seen.get(id(value))
        if seen is None or seen() is not value:
            self._seen[id(value)] = weakref.ref(value)
            return
        parts = self._shared[id(value)] = [*_PARTS[name](value), value]  # held, so that its id stays its own
        for part in parts[:-1]:
            self._session.share(part)

    def release(self) -> None:
        """Share nothing any more."""
        shared, self._shared = self._shared, {}
        for parts in shared.values():
            for part in parts[:-1]:
                self._session.release(part)


_names: dict[type, tuple[str, str] | None] = {}
_MAX_NAMES = 256


def _name(kind: type) -> tuple[str, str] | None:
    """Return by which name a class, or one of its bases, is among those that may be shared."""
    try:
        return _names[kind]
    except KeyError:
        if len(_names) >= _MAX_NAMES:
            _names.clear()
        names = ((base.__module__.partition(".")[0], base.__qualname__) for base in kind.__mro__)
        found = _names[kind] = next((name for name in names if name in _SIZES), None)
        return found
