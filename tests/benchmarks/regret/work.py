"""Work of a wanted length, under as many names as are asked for.

A function that nothing is known of has to be one that was never called. ``alias`` makes such a function out of one
of those here: the same code under another name, which any process can import from this module.
"""

import hashlib
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any


def bump(x: int) -> int:
    """Cost about as little as a call can, some 0.1 µs."""
    return x + 1


def spin(turns: int) -> int:
    """Hold the GIL for so many turns of a loop."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def digest(turns: int) -> int:
    """Release the GIL for so many turns of a loop in C."""
    return hashlib.pbkdf2_hmac("sha256", b"", b"", turns or 1)[0]


def spin_on(item: tuple[int, Any]) -> float:
    """Read an array once, then hold the GIL."""
    turns, data = item
    total = 0
    for turn in range(turns):
        total += turn & 7
    return float(data.sum()) + total


def digest_on(item: tuple[int, Any]) -> float:
    """Read an array once, then release the GIL."""
    turns, data = item
    return float(data.sum()) + hashlib.pbkdf2_hmac("sha256", b"", b"", turns or 1)[0]


ORIGINALS: dict[str, FunctionType] = {
    name: fn
    for name, fn in {
        "bump": bump,
        "spin": spin,
        "digest": digest,
        "spin_on": spin_on,
        "digest_on": digest_on,
    }.items()
    if isinstance(fn, FunctionType)
}


def alias(original: Callable[[Any], Any], number: int) -> Callable[[Any], Any]:
    """Return the function's like under a name of its own."""
    made: Callable[[Any], Any] = __getattr__(f"{original.__name__}_{number}")
    return made


def __getattr__(name: str) -> Any:
    """Make an alias where it is first asked for, which in a worker is by unpickling it."""
    original, _, number = name.rpartition("_")
    if original not in ORIGINALS or not number.isdecimal():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in globals():
        globals()[name] = _renamed(ORIGINALS[original], name)
    return globals()[name]


def _renamed(fn: FunctionType, name: str) -> FunctionType:
    code: CodeType = fn.__code__.replace(co_name=name, co_qualname=name)
    made = FunctionType(code, globals(), name)
    made.__module__, made.__qualname__ = __name__, name
    return made
