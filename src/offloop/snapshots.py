"""Snapshots of what an iterator yields: items are read ahead, and it may refill the same buffer for the next one."""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any
from weakref import ref

Copier = Callable[[Any], Any]

_DEPTH = 8  # containers further in are passed by reference
_VALUE_BYTES = 32  # looking at one value of a container takes about as long as copying so much
_PART_BYTES = 512  # and copying a container or an object in it as long as copying so much more
_LARGE = 1 << 16  # arrays from here on are compared with their earlier snapshot before they are copied again
_COMPARED = 1 << 18  # bytes compared at a time: a difference at the front is found at once, and both fit in the cache
_MAX_EARLIER = 16
_MAX_KINDS = 64

# Told apart by id: a class of classes may define __hash__ and __eq__. These never die, so their ids stay theirs.
_PASSED = (int, float, bool, type(None), complex, str, bytes, frozenset, range, type)
IMMUTABLE = frozenset(map(id, (*_PASSED, FunctionType, BuiltinFunctionType, MethodType)))  # the types' ids
_TUPLE = id(tuple)

_module, _qualname, _mro = (vars(type)[name].__get__ for name in ("__module__", "__qualname__", "__mro__"))


class TooLarge(Exception):
    """Copying this would take longer than was allowed."""


class Snapshots:
    """Copies of items, each to be made before the next item is asked for.

    Known mutable buffers are copied (numpy, pandas, scipy.sparse and torch, bytearray, array.array, memoryview), and
    built-in containers are rebuilt, 8 levels deep, so that one object within an item stays one object. Anything else
    is passed as it is: immutable things, and objects of the user's own classes.

    A large array that is yielded again, with the contents that it had, is passed as the snapshot taken then, if that
    is still in use: ``((X, p) for p in grid)`` holds one copy of X. It is compared byte by byte, at a multiple of the
    rate at which fresh memory is filled.

    Args:
        is_shared: Says of what the user has promised not to change that it is passed as it is.
    """

    def __init__(self, is_shared: Callable[[object], bool] | None = None) -> None:
        self.is_shared = is_shared
        self._earlier: dict[int, tuple[ref[Any], ref[Any]]] = {}  # by id: what was copied, and its copy
        self._copiers: dict[int, tuple[type, Copier]] = {}  # by id: a type, kept alive by this
        self._passed: dict[int, type] = {}  # by id: types, kept alive by this, whose objects are passed as they are

    def of(self, item: Any, max_bytes: int = sys.maxsize) -> Any:
        """Return a copy of an item that is mutable, and the item itself if it isn't.

        Args:
            item: Anything.
            max_bytes: How much may be copied, time spent on small things counted as bytes.

        Raises:
            TooLarge: It is more than that.
        """
        kind = id(type(item))
        if kind in IMMUTABLE or kind in self._passed:
            return item
        if kind == _TUPLE:
            for part in item:
                if id(type(part)) not in IMMUTABLE:
                    break
            else:
                return item
        return _Snapshot(self, max_bytes).of(item, _DEPTH)

    def made(self, value: object) -> bool:
        """Whether this is one of the last snapshots of a large array, which nobody else can write to."""
        return any(snapshot() is value for _, snapshot in self._earlier.values())

    def copier(self, kind: type) -> Copier | None:
        """Return what copies objects of a type that isn't a built-in container; None if they are passed as they are."""
        if id(kind) in self._passed:
            return None
        known = self._copiers.get(id(kind))
        if known is not None:
            return known[1]
        copier = _copier(kind)
        if len(self._copiers) + len(self._passed) >= _MAX_KINDS:
            self._copiers.clear()
            self._passed.clear()
        if copier is None:
            self._passed[id(kind)] = kind
        else:
            self._copiers[id(kind)] = kind, copier
        return copier

    def copy_array(self, value: Any) -> Any:
        """Return a snapshot of a large plain array: an earlier one if nothing has changed since."""
        earlier = self._earlier.get(id(value))
        if earlier is not None and earlier[0]() is value:
            snapshot = earlier[1]()
            if snapshot is not None and _are_identical(value, snapshot):
                return snapshot
        snapshot = _copy_array(value)
        if snapshot is not value:
            if len(self._earlier) >= _MAX_EARLIER:
                self._earlier.clear()
            self._earlier[id(value)] = ref(value), ref(snapshot)
        return snapshot


class _Snapshot:
    """The copy of one item in the making."""

    __slots__ = ("_bytes_left", "_copies", "_snapshots")

    def __init__(self, snapshots: Snapshots, max_bytes: int) -> None:
        self._snapshots = snapshots
        self._bytes_left = max_bytes
        self._copies: dict[int, Any] = {}  # by id of the original, which the item keeps alive

    def of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if id(kind) in IMMUTABLE:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        is_shared = self._snapshots.is_shared
        if is_shared is not None and is_shared(value):
            return value
        rebuild = _REBUILD.get(id(kind)) or (_Snapshot._named_tuple if _is_named_tuple(kind) else None)
        if rebuild is None:
            copy = self._copy(value, kind)
        elif depth:
            self._charge(_PART_BYTES + _VALUE_BYTES * len(value))
            copy = rebuild(self, value, depth - 1)
        else:
            return value
        self._copies[id(value)] = copy
        return copy

    def _charge(self, n_bytes: int) -> None:
        self._bytes_left -= n_bytes
        if self._bytes_left < 0:
            raise TooLarge

    def _copy(self, value: Any, kind: type) -> Any:
        copier = self._snapshots.copier(kind)
        if copier is None:
            return value
        n_bytes = _n_bytes(value)
        self._charge(_PART_BYTES + n_bytes)
        if copier is _copy_array and n_bytes >= _LARGE and _qualname(kind) in ("ndarray", "memmap"):
            return self._snapshots.copy_array(value)
        return copier(value)

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        copy = self._copies[id(value)] = value.copy()  # known before its parts are: it may be in itself
        if not _kinds(copy) <= IMMUTABLE:
            copy[:] = [self.of(part, depth) for part in copy]
        return copy

    def _tuple(self, value: tuple[Any, ...], depth: int) -> tuple[Any, ...]:
        if _kinds(value) <= IMMUTABLE:
            return value
        parts = tuple([self.of(part, depth) for part in value])
        return value if all(map(_is, parts, value)) else parts

    def _named_tuple(self, value: tuple[Any, ...], depth: int) -> tuple[Any, ...]:
        parts = self._tuple(tuple(value), depth)
        return value if all(map(_is, parts, value)) else tuple.__new__(type(value), parts)

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        copy = self._copies[id(value)] = value.copy()
        if not _kinds(copy.values()) <= IMMUTABLE:
            for key, part in value.items():
                snapshot = self.of(part, depth)
                if snapshot is not part:
                    copy[key] = snapshot
        return copy

    def _set(self, value: set[Any], depth: int) -> set[Any]:
        return value.copy()  # what is in it can be hashed, so it should not change

    def _deque(self, value: deque[Any], depth: int) -> deque[Any]:
        copy = self._copies[id(value)] = value.copy()
        if not _kinds(copy) <= IMMUTABLE:
            parts = [self.of(part, depth) for part in copy]
            copy.clear()
            copy.extend(parts)
        return copy


_REBUILD: dict[int, Callable[[_Snapshot, Any, int], Any]] = {
    id(list): _Snapshot._list,
    id(tuple): _Snapshot._tuple,
    id(dict): _Snapshot._dict,
    id(set): _Snapshot._set,
    id(deque): _Snapshot._deque,
}


def _is(one: object, other: object) -> bool:
    return one is other


def _kinds(values: Iterable[Any]) -> set[int]:
    return set(map(id, map(type, values)))


def _is_named_tuple(kind: type) -> bool:
    """Whether objects of this type are a tuple with names and nothing else."""
    return kind.__bases__ == (tuple,) and "_fields" in vars(kind) and not kind.__dictoffset__


# --- what is copied how ----------------------------------------------------------------------------------------------


def _copy_array(value: Any) -> Any:
    if _is_frozen(value):
        return value
    copy = value.copy(order="K")
    if not value.flags.writeable and copy is not value:
        copy.flags.writeable = False
    return copy


def _is_frozen(value: Any) -> bool:
    """Whether nobody can write to this array: it and all that it is a view of are read-only."""
    while _names(type(value)) == ("numpy", "ndarray"):
        if value.flags.writeable:
            return False
        value = value.base
    return value is None or type(value) is bytes


def _are_identical(one: Any, other: Any) -> bool:
    """Whether two arrays are of the same kind, laid out alike and the same bit by bit; False where that can't be told."""
    flags = one.flags
    if one.dtype != other.dtype or one.dtype.hasobject or flags.writeable != other.flags.writeable:
        return False
    if one.shape != other.shape or one.strides != other.strides or not (flags.c_contiguous or flags.f_contiguous):
        return False
    unit = "u8" if one.nbytes % 8 == 0 and flags.aligned else "u1"
    flat, other_flat = one.ravel("K").view("u1").view(unit), other.ravel("K").view("u1").view(unit)
    step = _COMPARED // flat.itemsize
    return all((flat[at : at + step] == other_flat[at : at + step]).all() for at in range(0, flat.size, step))


def _copy_view(value: memoryview) -> memoryview:
    try:
        if type(value.obj) is bytes or not value.nbytes:
            return value
    except ValueError:  # it was released
        return value
    copy = _contiguous(value)
    return copy.toreadonly() if value.readonly else copy


def _contiguous(value: memoryview) -> memoryview:
    data = memoryview(bytearray(value.tobytes()))
    try:
        return data.cast(value.format, value.shape)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):  # of a format that only its exporter knows, for example numpy
        numpy = sys.modules.get("numpy")
        return value if numpy is None else memoryview(numpy.array(value, copy=True, order="C"))


def _copy_tensor(value: Any) -> Any:
    copy = value.detach().clone()
    return copy.requires_grad_() if value.requires_grad else copy


def _by_method(value: Any) -> Any:
    return value.copy()


_COPIERS: dict[tuple[str, str], Copier] = {
    ("builtins", "bytearray"): _by_method,
    ("builtins", "memoryview"): _copy_view,
    ("array", "array"): lambda value: value[:],
    ("numpy", "ndarray"): _copy_array,
    ("numpy", "void"): _by_method,  # a view of one row of a structured array
    ("pandas", "DataFrame"): _by_method,
    ("pandas", "Series"): _by_method,
    ("pandas", "ExtensionArray"): _by_method,
    ("scipy", "_spbase"): _by_method,
    ("scipy", "spmatrix"): _by_method,
    ("torch", "Tensor"): _copy_tensor,
}
_OWN_TYPE_ONLY = frozenset({"builtins", "array", "torch"})  # `copy` of a subclass would be of the base class


def _copier(kind: type) -> Copier | None:
    """Return what copies objects of this type, found by the names of its bases: nothing is imported."""
    for base in _mro(kind):
        names = _names(base)
        if names in _COPIERS and (base is kind or names[0] not in _OWN_TYPE_ONLY):
            return _COPIERS[names]
    return None


def _names(kind: type) -> tuple[str, str]:
    """Return a type's top-level package and its name."""
    module = _module(kind)
    return module.partition(".")[0] if type(module) is str else "", _qualname(kind)


def _n_bytes(value: Any) -> int:
    """Return about how many bytes copying this writes."""
    if type(value) is array:
        return len(value) * value.itemsize
    for name, unit in (("nbytes", 1), ("nnz", 16), ("size", 8)):
        try:
            count = getattr(value, name, None)
        except Exception:  # a view that was released, or a property of the user's
            continue
        if isinstance(count, int):
            return unit * count
    return len(value) if isinstance(value, bytearray) else 0
