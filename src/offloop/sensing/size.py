"""Sensing the size of an input: what class of size it is of, so that other work is not mistaken for the same."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType
from typing import Any, NamedTuple

_MAX_PARTS = 24
_MAX_DEPTH = 3

# Told apart by id: a class of classes may define __hash__ and __eq__. These never die, so their ids stay theirs.
_TEXTS = frozenset(map(id, (str, bytes, bytearray)))
_COLLECTIONS = frozenset(map(id, (list, tuple, set, frozenset, dict, deque, range)))
_BASES = (tuple, list, dict, str, bytes, set, frozenset, deque)
_module, _dictoffset, _mro, _namespace = (
    vars(type)[name].__get__ for name in ("__module__", "__dictoffset__", "__mro__", "__dict__")
)
_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial)

# Whose objects tell their shape by an attribute of their own, which runs no user's code.
_SHAPED = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "jax", "jaxlib", "tensorflow", "cupy"})
_FEW = 6  # so many parts of a collection are looked at
_CELL_BYTES = 8  # of a table whose columns are not looked at


class Size(NamedTuple):
    """What an input looks like from outside.

    Attributes:
        key: Its types and how large it is, in steps of a factor of 4 for numbers and 2 for data.
        n_bytes: About how many bytes of data are in it.
        n_features: Columns, of the first thing in it that is two-dimensional.
    """

    key: Hashable
    n_bytes: int
    n_features: int | None = None


def size_up(value: object) -> Size:
    """Return the size of a value: a bounded look (24 parts, 3 levels) that runs none of the user's code.

    A number counts as a size, since it often is one: of a range, a limit, a duration.
    """
    kind = type(value)
    if kind is int:
        return Size(("int", int.bit_length(value) >> 1), 0)  # type: ignore[arg-type]
    look = _Look()
    key = look.at(value, _MAX_DEPTH)
    return Size(key, look.n_bytes, look.n_features)


class _Look:
    """One look: what was found on the way."""

    __slots__ = ("n_bytes", "n_features", "parts_left")

    def __init__(self) -> None:
        self.n_bytes = 0
        self.n_features: int | None = None
        self.parts_left = _MAX_PARTS

    def at(self, value: Any, depth: int, numbers_count: bool = True) -> Hashable:
        self.parts_left -= 1
        kind = type(value)
        name = _qualname(kind)
        if kind is int:
            return (name, value.bit_length() >> 1) if numbers_count else name
        if kind is float:
            return (name, math.frexp(value)[1] >> 1) if numbers_count else name
        if id(kind) in _TEXTS:
            self.n_bytes += len(value)
            return name, len(value).bit_length()
        if id(kind) in _COLLECTIONS:
            return self._collection(name, value, depth)
        for base in _BASES:
            if issubclass(kind, base):  # its own length and iteration may be anything: only its size counts
                size: int = base.__len__(value)
                self.n_bytes += _CELL_BYTES * size
                return name, size.bit_length()
        if issubclass(kind, _FUNCTIONS):
            return self._function(value, depth)
        module = _module(kind)
        if type(module) is str and module.partition(".")[0] in _SHAPED:
            return self._shaped(name, value)
        if depth and not issubclass(kind, type) and (_dictoffset(kind) or "__slots__" in _namespace(kind)):
            return self._object(name, value, depth)
        return name

    def _collection(self, name: str, value: Any, depth: int) -> Hashable:
        size = len(value) if name != "range" else max(0, (value.stop - value.start) // value.step)
        self.n_bytes += _CELL_BYTES * size * (name != "range")
        if not (depth and size) or name == "range":
            return name, int(size).bit_length()
        before = self.n_bytes
        parts = value.values() if name == "dict" else value
        are_arguments = depth == _MAX_DEPTH and name in ("tuple", "dict") and size <= _FEW  # numbers in data are data
        inside: list[Hashable] = []
        for part in parts:
            if self.parts_left <= 0 or len(inside) >= _FEW:
                self.n_bytes += (self.n_bytes - before) * (size - len(inside)) // len(inside) if inside else 0
                break
            inside.append(self.at(part, depth - 1, are_arguments))
        return (name, size.bit_length(), *(inside if are_arguments else inside[:1]))

    def _function(self, fn: Any, depth: int) -> Hashable:
        """Return the size of what is bound in a function."""
        if not depth:
            return "function"
        if isinstance(fn, partial):
            bound: tuple[Any, ...] = (*fn.args, *fn.keywords.values(), fn.func)
        elif isinstance(fn, FunctionType):
            bound = tuple(cell.cell_contents for cell in fn.__closure__ or () if _is_filled(cell))
        else:
            bound = () if isinstance(fn.__self__, type(sys)) else (fn.__self__,)
        return tuple(self.at(part, depth - 1) for part in bound[: max(0, self.parts_left)])

    def _shaped(self, name: str, value: Any) -> Hashable:
        shape = _attribute(value, "shape")
        if not isinstance(shape, tuple):
            n_bytes = _attribute(value, "nbytes")
            self.n_bytes += n_bytes if isinstance(n_bytes, int) else 0
            return name, n_bytes.bit_length() if isinstance(n_bytes, int) else None
        if len(shape) == 2 and self.n_features is None and isinstance(shape[1], int):
            self.n_features = shape[1]
        n_bytes = _attribute(value, "nbytes") if "frame" not in name.lower() else None
        if not isinstance(n_bytes, int):
            n_bytes = _CELL_BYTES * math.prod(side for side in shape if isinstance(side, int))
        self.n_bytes += n_bytes
        return name, n_bytes.bit_length()

    def _object(self, name: str, value: object, depth: int) -> Hashable:
        holder = next((base for base in _mro(type(value)) if "__dict__" in _namespace(base)), None)
        slot = None if holder is None else _namespace(holder)["__dict__"]
        attributes = slot.__get__(value) if type(slot) is GetSetDescriptorType else None
        parts = list(attributes.values()) if type(attributes) is dict else []
        for base in _mro(type(value)):
            if "__slots__" in _namespace(base):
                parts += [_slot_of(value, slot) for slot in _namespace(base).values() if type(slot) is MemberDescriptorType]
        inside: list[Hashable] = []
        for part in parts:
            if self.parts_left <= 0:
                break
            inside.append(self.at(part, depth - 1, numbers_count=False))
        return (name, *inside) if inside else name


def _slot_of(value: object, slot: MemberDescriptorType) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:
        return None


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _attribute(value: object, name: str) -> Any:
    """Return an attribute, or None if there is none, without asking a __getattr__ or a __getattribute__ of the user's."""
    try:
        return object.__getattribute__(value, name)
    except Exception:
        return None
