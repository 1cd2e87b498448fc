"""Explaining why something can't be pickled: which part of it is to blame."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from ..explaining import printable
from .pickling import dumps

_MAX_PARTS = 200
_MAX_DEPTH = 12


def find_unpicklable(value: object, path: str) -> tuple[str, str]:
    """Return path and type name of the innermost part of `value` that can't be pickled.

    A bounded search (200 parts, 12 levels) that is made only to explain a failure. It runs no properties.
    """
    seen = {id(value)}
    for _ in range(_MAX_DEPTH):
        culprit = None if _refuses(value) else _first_culprit(value, path, seen)
        if culprit is None:
            break
        path, value = culprit
    kind = type(value)
    return printable(path), printable(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))


def _refuses(value: object) -> bool:
    """Whether a class of Python's refuses to have its objects pickled, so that nothing inside one is to blame."""
    if not isinstance(getattr(type(value), "__reduce__", None), FunctionType):
        return False
    try:
        value.__reduce__()
    except BaseException:
        return True
    return False


def _first_culprit(value: object, path: str, seen: set[int]) -> tuple[str, object] | None:
    for part_path, part in _parts(value, path):
        if id(part) in seen or isinstance(part, ModuleType):
            continue
        if len(seen) >= _MAX_PARTS:
            return None
        seen.add(id(part))
        try:
            dumps(part)
        except BaseException:
            return part_path, part
    return None


def _parts(value: Any, path: str) -> Iterable[tuple[str, object]]:
    """Yield what is inside a value, with the way to it."""
    if isinstance(value, dict):
        yield from ((f"{path}[{_key(key)}]", part) for key, part in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"{path}[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, FunctionType):
        yield from _parts_of_function(value, path)
    elif isinstance(value, MethodType):
        yield f"{path}.__self__", value.__self__
    elif isinstance(value, partial):
        yield f"{path}.func", value.func
        yield from _parts(value.args, f"{path}.args")
        yield from _parts(value.keywords, f"{path}.keywords")
    else:
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            yield from ((f"{path}.{name}", part) for name, part in list(attributes.items()))
        yield from _slots(value, path)


def _key(key: object) -> str:
    """Return how a key is written; one of another kind than text or a number may have no text, or a long one."""
    if type(key) in (str, int, bool, float, bytes, type(None)):
        return repr(key)
    kind = type(key)
    return f"<{kind.__module__}.{kind.__qualname__}>".replace("<builtins.", "<")


def _slots(value: object, path: str) -> Iterable[tuple[str, object]]:
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            slot = kind.__dict__.get(name)
            if isinstance(slot, MemberDescriptorType):
                try:
                    yield f"{path}.{name}", slot.__get__(value)
                except AttributeError:  # empty
                    continue


def _parts_of_function(fn: FunctionType, path: str) -> Iterable[tuple[str, object]]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name in fn.__code__.co_names:
        if name in fn.__globals__:
            yield f"{path}.{name}", fn.__globals__[name]
