"""Seeing where items execute."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A result, and where it was made.

    Attributes:
        pid: The process.
        thread: The thread in it.
        result: What the function returned.
    """

    pid: int
    thread: int
    result: Any


class Witness:
    """Calls a function, and says where besides what it returned."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, item: Any, **options: Any) -> tuple[int, int, Any]:
        """Call the function with an item; return what makes a `Seen`, as a plain tuple, which travels faster."""
        return os.getpid(), threading.get_ident(), self.fn(item, **options)
