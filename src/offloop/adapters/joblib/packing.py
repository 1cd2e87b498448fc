"""Batches as one string of bytes, where they bring nothing large: those need no look at what is in them, and no thread to be pickled."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from typing import Any

_LARGE_BYTES = 64 << 10  # from here on buffers travel beside the message


class _Large(Exception):
    """A batch brings a large buffer."""


class _Executed:
    """A batch that is executed as it is unpickled, so that no frame but joblib's own is there, within which nothing is interrupted."""

    def __init__(self, batch: Callable[[], list[Any]]) -> None:
        self._batch = batch

    def __reduce__(self) -> Any:
        return operator.call, (self._batch,)


def packed(batch: Callable[[], list[Any]]) -> bytes | None:
    """Return a batch so that `pickle.loads` executes it; None if it brings what is large, or what can't be pickled.

    It is pickled in the caller's thread, so that small inputs are as they are now.
    """
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(_Executed(batch), protocol=5, buffer_callback=_refuse_large)
    except Exception:  # the other way says what can't be, and where
        return None
    return data


def _refuse_large(buffer: pickle.PickleBuffer) -> bool:
    if buffer.raw().nbytes >= _LARGE_BYTES:
        raise _Large
    return True  # it goes with the others
