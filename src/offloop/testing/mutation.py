"""Seeing that fn has changed what it was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from types import FunctionType, MethodType
from typing import Any

from ..wire.pickling import dumps, loads, travels_by_name, wrapped

_ATOMS = (int, float, complex, bool, str, bytes, type(None))
_SEQUENCES = (list, tuple)
_COMPARED = (*_ATOMS, set, frozenset, bytearray)
_DEPTH = 8

Part = tuple[str, Any]


class Watch:
    """Parts of what fn is given, as they are now.

    Args:
        parts: Each with what to call it.
    """

    def __init__(self, parts: Iterator[Part]) -> None:
        self._before = [(name, value, data) for name, value in parts if (data := _pickled(value)) is not None]

    def changed(self) -> str | None:
        """Return what the first part is called that has changed since; None if none has."""
        for name, value, before in self._before:
            after = _pickled(value)
            if after is None or (after != before and not _is_as_it_was(value, before)):
                return name
        return None


def given_parts(fn: Callable[..., Any], args: tuple[Any, ...], subject: str, *, is_call: bool) -> Iterator[Part]:
    """Yield what may change of the arguments of one call.

    Args:
        fn: The function.
        args: Its arguments.
        subject: What the item is called, where there is one rather than arguments of a call.
        is_call: Whether the arguments are those that somebody has written, so that each is told by its name.
    """
    names = _parameters(fn) if is_call else []
    for number, value in enumerate(args):
        if not _is_immutable(value):
            name = f"argument {names[number]!r}" if number < len(names) else f"argument {number}"
            yield (name if is_call else subject), value


def bound_parts(fn: Any) -> Iterator[Part]:
    """Yield what may change of the data that is bound in a function: that of a partial, a method, a closure, and defaults."""
    found: list[Part] = []
    is_named = travels_by_name(fn)
    while fn is not None:
        if isinstance(fn, partial):
            found += [(f"what is bound in fn as argument {number}", value) for number, value in enumerate(fn.args)]
            found += [(f"what is bound in fn as {name!r}", value) for name, value in fn.keywords.items()]
        elif isinstance(fn, MethodType):
            found.append(("the object whose method fn is", fn.__self__))
        elif isinstance(fn, FunctionType):
            found += _defaults(fn)
            found += [] if is_named else _closure(fn)
        else:  # a wrapper of ours: one for rows has what they are cut out of
            found += [(f"the {name} of fn", value) for name, value in getattr(fn, "__dict__", {}).items() if name != "fn"]
        fn = wrapped(fn)
    return (part for part in found if not _is_immutable(part[1]) and not callable(part[1]))


def _defaults(fn: FunctionType) -> list[Part]:
    """Return the defaults of a function, with the names of their parameters."""
    positional = fn.__code__.co_varnames[: fn.__code__.co_argcount]
    defaults = fn.__defaults__ or ()
    named = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True)) | (fn.__kwdefaults__ or {})
    return [(f"the default of {name!r}", value) for name, value in named.items()]


def _closure(fn: FunctionType) -> list[Part]:
    found: list[Part] = []
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found.append((f"fn's variable {name!r}", cell.cell_contents))
        except ValueError:  # it has no value
            continue
    return found


def _parameters(fn: Callable[..., Any]) -> list[str]:
    try:
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [name for name, one in inspect.signature(fn).parameters.items() if one.kind in kinds]
    except (TypeError, ValueError):  # written in C
        return []


def _is_immutable(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_immutable, value))
    return type(value) in _ATOMS


def _pickled(value: Any) -> bytes | None:
    """Return a value's bytes; None of one that can't be pickled, so that nothing can be told of it."""
    try:
        return dumps(value)
    except Exception:
        return None


def _is_as_it_was(value: Any, before: bytes) -> bool:
    try:
        return _are_equal(value, loads(before))
    except Exception:  # whatever comparing does
        return False


def _are_equal(value: Any, before: Any, depth: int = _DEPTH) -> bool:
    """Whether what is pickled otherwise than before is the same all the same, as far as its users can see.

    Bytes tell also which parts are one object, what a library has rearranged in a frame, and what was computed once to be
    looked up again.
    """
    kind = type(value)
    if kind is not type(before) or not depth:
        return False
    if kind in _SEQUENCES:
        return len(value) == len(before) and all(_are_equal(*pair, depth - 1) for pair in zip(value, before, strict=True))
    if kind is dict:
        return value.keys() == before.keys() and all(_are_equal(value[key], before[key], depth - 1) for key in value)
    if kind.__module__.startswith("scipy.sparse"):
        return bool(value.shape == before.shape and (value != before).nnz == 0)
    if callable(getattr(value, "equals", None)):  # a frame or a table
        return bool(value.equals(before))
    if _pickled(value) == _pickled(before):
        return True
    if kind in _COMPARED:
        return bool(value == before)
    reduce: object = kind.__reduce_ex__
    has_plain_state = reduce is object.__reduce_ex__ and hasattr(value, "__dict__")
    return has_plain_state and _are_equal(_state(value), _state(before), depth - 1)


def _state(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, without those that it has computed once."""
    kind = type(value)
    return {name: one for name, one in vars(value).items() if not isinstance(getattr(kind, name, None), cached_property)}
