"""Seeing that fn has changed what it was given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

from ..wire.pickling import PROTOCOL, dumps, loads, travels_by_name, wrapped

_ATOMS = (int, float, complex, bool, str, bytes, type(None))
_SEQUENCES = (list, tuple)
_CODE = (FunctionType, BuiltinFunctionType, ModuleType, type)
_COMPARED = (*_ATOMS, set, frozenset, bytearray)
_COUNTING = ("sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree")  # what is asked counts how often, nothing else changes

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
        elif isinstance(fn, MethodType | BuiltinFunctionType):
            found.append(("the object whose method fn is", fn.__self__))
        elif isinstance(fn, FunctionType):
            found += _defaults(fn)
            found += [] if is_named else _closure(fn)
        elif wrapped(fn) is not None:  # a wrapper of ours: one for rows has what they are cut out of
            found += [(f"the {name} of fn", value) for name, value in getattr(fn, "__dict__", {}).items() if name != "fn"]
        else:
            found.append(("the object that fn is", fn))
        fn = wrapped(fn)
    return (part for part in found if not _is_immutable(part[1]) and not isinstance(part[1], _CODE))


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
            is_code = isinstance(cell.cell_contents, _CODE)
        except ValueError:  # it has no value
            continue
        if not is_code:
            found.append((f"fn's variable {name!r}", cell))
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
        return _are_equal(value, loads(before), {})
    except Exception:  # whatever comparing does
        return False


def _are_equal(value: Any, before: Any, seen: dict[tuple[int, int], Any]) -> bool:
    """Whether what is pickled otherwise than before is the same all the same, as far as its users can see.

    Bytes tell also which parts are one object, what a library has rearranged in a frame, and what was computed once to be
    looked up again.

    Args:
        value: As it is now.
        before: As it was.
        seen: Pairs that are being compared or have been, which ends cycles; kept, so that an id stays that of its object.
    """
    kind, pair = type(value), (id(value), id(before))
    if value is before or pair in seen:
        return True
    if kind is not type(before):
        return False
    seen[pair] = value, before
    if kind in _SEQUENCES:
        return len(value) == len(before) and all(_are_equal(*both, seen) for both in zip(value, before, strict=True))
    if kind is dict:
        return list(value) == list(before) and all(_are_equal(value[key], before[key], seen) for key in value)
    if kind is CellType:
        return _are_equal(value.cell_contents, before.cell_contents, seen)
    if kind.__module__.startswith(_COUNTING):
        return True
    if kind.__module__.startswith("scipy.sparse"):
        return bool(value.shape == before.shape and (value != before).nnz == 0)
    if callable(getattr(value, "equals", None)):  # a frame or a table
        return bool(value.equals(before))
    if _pickled(value) == _pickled(before):
        return True
    if kind in _COMPARED:
        return bool(value == before)
    return _are_equal(_rebuilt_from(value), _rebuilt_from(before), seen)


def _rebuilt_from(value: Any) -> Any:
    """Return what an object travels as, without the attributes that it has computed once."""
    reduced: Any = value.__reduce_ex__(PROTOCOL)
    if isinstance(reduced, str):  # a name
        return reduced
    _, args, state, values, pairs = (*reduced, None, None, None)[:5]
    own = state[0] if isinstance(state, tuple) and len(state) == 2 else state  # beside those in slots
    if isinstance(own, dict):
        kind = type(value)
        kept = {name: one for name, one in own.items() if not isinstance(getattr(kind, name, None), cached_property)}
        state = (kept, *state[1:]) if isinstance(state, tuple) else kept
    return args, state, list(values or ()), list(pairs or ())
