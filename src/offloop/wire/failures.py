"""Failures: how an exception travels from a worker, so that a bad exception class harms its own item alone."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Any, NamedTuple

from ..errors import ItemError, UnpicklableItem, UnpicklableResult
from ..explaining import printable
from .pickling import dumps, loads
from .unpicklable import find_unpicklable

# Raised out of a coroutine these would end the caller's loop, or turn into something else on the way.
_NOT_RAISABLE = (StopIteration, StopAsyncIteration, GeneratorExit)


class PackedFailure(NamedTuple):
    """What travels: the exception's own bytes apart from plain text about it.

    Attributes:
        data: The pickled exception; None if it can't be pickled.
        type_name: Qualified name of its class.
        message: Its text.
        remote_traceback: Its traceback as text, ending in the line that raised.
    """

    data: bytes | None
    type_name: str
    message: str
    remote_traceback: str


def pack_failure(error: BaseException) -> PackedFailure:
    """Make an exception ready to travel."""
    return PackedFailure(_pickled(error), type_name(error), safe_text(error), traceback_text(error))


_OURS = os.path.dirname(os.path.dirname(__file__))


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of ours that it begins with."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def type_name(error: BaseException) -> str:
    """Return the qualified name of an exception's class."""
    kind = type(error)
    return printable(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}")


def safe_text(error: BaseException) -> str:
    """Return str(error), whatever its __str__ does."""
    try:
        return str(error)
    except BaseException as broken:
        return f"<no text: its __str__ raised {type(broken).__name__}>"


def traceback_text(error: BaseException) -> str:
    """Return the user's part of the traceback with its causes as text, ending in the line that raised."""
    below = _users_part(error.__traceback__)
    try:
        lines = traceback.format_exception(type(error), error, below)
        ending = "".join(traceback.format_exception_only(type(error), error))
    except BaseException:
        return "".join(traceback.format_tb(below))
    return "".join(lines).removesuffix(ending).rstrip("\n")


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception; one whose own way fails or loses its class is rebuilt without calling __init__."""
    try:
        data = dumps(error)
        copy = loads(data)
        if type(copy) is type(error) and copy.args == error.args:
            return data
    except BaseException:
        pass
    try:
        data = dumps(_Rebuilt(error))
        loads(data)
    except BaseException:
        return None
    return data


class _Rebuilt:
    """Pickles as an exception that is made from its class, its args and its attributes."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self.error), self.error.args, vars(self.error))


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def unpack_failure(packed: PackedFailure, index: int, function: str) -> Exception:
    """Return the exception to raise for an item: itself where it can be, else an `ItemError`.

    Index and remote traceback are added to its notes.
    """
    error: BaseException | None = None
    if packed.data is not None:
        try:
            candidate = loads(packed.data)
        except BaseException:
            candidate = None
        if isinstance(candidate, BaseException):
            error = candidate
    raisable = _raisable(error, packed, index)
    add_notes(raisable, index, function, packed.remote_traceback)
    return raisable


def _raisable(error: BaseException | None, packed: PackedFailure, index: int) -> Exception:
    if error is None:
        return ItemError(index, packed.type_name, packed.message, "an exception that can't be rebuilt here")
    return raisable_here(error, index)


def raisable_here(error: BaseException, index: int) -> Exception:
    """Return the exception itself if it may be raised out of a coroutine, else an `ItemError` caused by it."""
    if isinstance(error, Exception) and not isinstance(error, _NOT_RAISABLE):
        return error
    why = "which would end the caller's own loop or coroutine, so it arrives as this"
    stand_in = ItemError(index, type_name(error), safe_text(error), why)
    stand_in.__cause__ = error
    return stand_in


def add_notes(error: Exception, index: int, function: str, remote_traceback: str) -> None:
    """Attach where an exception comes from, if it takes notes."""
    try:
        error.add_note(f"offloop: raised by items[{index}] of {function}")
        if remote_traceback:
            error.add_note(f"offloop: in the worker\n{remote_traceback}")
    except Exception:  # a frozen exception, or one whose __notes__ is no list: it goes without
        return


def unpicklable_result(index: int, value: object, function: str, cause: BaseException) -> UnpicklableResult:
    """Explain why a result can't be sent back."""
    path, kind = find_unpicklable(value, f"results[{index}]")
    error = UnpicklableResult(f"results[{index}]", path, kind, function)
    error.__cause__ = cause
    return error


def unreadable_item(index: int, function: str, cause: BaseException) -> UnpicklableItem:
    """Explain that an item could not be rebuilt in the worker."""
    error = UnpicklableItem(f"items[{index}]", f"items[{index}]", f"unpickling raised {type_name(cause)}", function)
    error.__cause__ = cause
    error.add_note(f"offloop: unpickling in the worker raised {type_name(cause)}: {safe_text(cause)}")
    return error


