"""Pickling: what may be pickled where, by which pickler, and what to say when it can't be done."""

from __future__ import annotations

import pickle
import sys
import threading
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

PROTOCOL = 5

INLINE_BYTES = 100_000  # more than this is pickled in a thread: about 0.1 ms at the 1 GB/s of plain bytes
_INLINE_VALUES = 1 << 14
_INLINE_DEPTH = 8

_SCALARS = frozenset({int, float, bool, type(None), complex})
_TEXTS = frozenset({str, bytes})
_ATOMS = _SCALARS | _TEXTS
_COLLECTIONS = frozenset({list, tuple, set, frozenset})


def is_plain(values: Iterable[Any]) -> bool:
    """Whether these are exact built-in types, few and small enough to be pickled on the loop.

    Pickling exact built-in types runs nobody's code, and the bounds (16,384 values, 100 kB of text, 8 levels) keep
    it well under a millisecond.
    """
    values_left, bytes_left = _INLINE_VALUES, INLINE_BYTES
    level: Iterable[Any] = values
    for _ in range(_INLINE_DEPTH):
        batch = level if type(level) is list else list(level)
        values_left -= len(batch)
        if values_left < 0:
            return False
        kinds = set(map(type, batch))
        if int in kinds and not _are_short(batch, kinds):
            return False
        if kinds <= _SCALARS:
            return True
        nested: list[Any] = []
        for value in batch:
            kind = type(value)
            if kind in _TEXTS:
                bytes_left -= len(value)
            elif kind in _COLLECTIONS or kind is dict:
                if len(value) > values_left:
                    return False
                nested.extend(value)
                if kind is dict:
                    nested.extend(value.values())
                if len(nested) > values_left:
                    return False
            elif kind not in _SCALARS:
                return False
        if bytes_left < 0:
            return False
        if not nested:
            return True
        level = nested
    return False


def _are_short(batch: list[Any], kinds: set[type]) -> bool:
    """Whether the integers among these are of no more than 1,024 bits."""
    if len(kinds) == 1:
        try:
            array("q", batch)  # the quickest way to see that none needs more than 64 bits
        except OverflowError:
            pass
        else:
            return True
    return all(-_LONG < value < _LONG for value in batch if type(value) is int)


_LONG = 1 << 1024


def dumps(value: object) -> bytes:
    """Pickle by the standard pickler where that is enough, else by cloudpickle.

    What refers to ``__main__`` goes through cloudpickle at once: it pickles well here, but a worker's ``__main__`` is
    another module.
    """
    try:
        data = pickle.dumps(value, PROTOCOL)
    except Exception:
        return _by_value(value)
    return _by_value(value) if b"__main__" in data else data


def _by_value(value: object) -> bytes:
    import cloudpickle

    data: bytes = cloudpickle.dumps(value, PROTOCOL)
    return data


def dumps_plain(value: object) -> bytes:
    """Pickle exact built-in types, see `is_plain`."""
    return pickle.dumps(value, PROTOCOL)


loads = pickle.loads


# --- functions -------------------------------------------------------------------------------------------------------


class PackedFunction(NamedTuple):
    """A function ready to travel.

    Attributes:
        digest: Identifies the bytes.
        data: What the worker keeps: a fingerprint of the code (zeros where there is none) and the pickled function.
        by_value: Whether the code itself is in there.
    """

    digest: bytes
    data: bytes
    by_value: bool = False


DIGEST_SIZE = 16
_NO_FINGERPRINT = bytes(DIGEST_SIZE)


def _digest(data: bytes) -> bytes:
    from hashlib import blake2b

    return blake2b(data, digest_size=DIGEST_SIZE).digest()


def pack_function(fn: Callable[..., object], by_value: bool = False) -> PackedFunction:
    """Pickle a function once, with its code's fingerprint if it will be found by its name.

    Args:
        fn: Any callable.
        by_value: Send the code itself, also of a function that could be imported: for one that differs from what
            an import would find.
    """
    pickled = _module_by_value(fn) if by_value else dumps(fn)
    data = (_NO_FINGERPRINT if by_value else fingerprint(fn)) + pickled
    return PackedFunction(_digest(data), data, by_value)


def travels_by_name(fn: Any) -> bool:
    """Whether pickling this function is no more than writing down where it can be imported from."""
    if isinstance(fn, FunctionType):
        return fn.__module__ != "__main__" and "<" not in fn.__qualname__
    return isinstance(fn, BuiltinFunctionType) and isinstance(fn.__self__, ModuleType)


_by_value_lock = threading.Lock()  # registering a module with cloudpickle is global


def _module_by_value(fn: Callable[..., object]) -> bytes:
    import cloudpickle

    plain: Any = fn
    while not isinstance(plain, FunctionType):
        plain = wrapped(plain)
    module = sys.modules[plain.__module__]
    with _by_value_lock:
        cloudpickle.register_pickle_by_value(module)
        try:
            return _by_value(fn)
        finally:
            cloudpickle.unregister_pickle_by_value(module)


class StaleFunction(Exception):
    """The function of this name in this process is not the one that was packed."""


def unpack_function(data: bytes | memoryview) -> Callable[..., Any]:
    """Rebuild a function from `PackedFunction.data`.

    Raises:
        StaleFunction: Its name leads to other code here.
    """
    view = memoryview(data)
    fn: Callable[..., Any] = loads(view[DIGEST_SIZE:])
    expected = view[:DIGEST_SIZE]
    if expected != _NO_FINGERPRINT and expected != fingerprint(fn):
        raise StaleFunction
    return fn


# By id of a code object: what the ids belong to, kept alive by this; ids of the defaults; the fingerprint.
_fingerprints: dict[int, tuple[object, int, int, bytes]] = {}
_MAX_FINGERPRINTS = 1024


def fingerprint(fn: Callable[..., object]) -> bytes:
    """Return a digest of the code that a callable leads to, the same in every process; zeros if there is none."""
    while not isinstance(fn, FunctionType):
        inner = wrapped(fn)
        if inner is None:
            return _NO_FINGERPRINT
        fn = inner
    code, defaults = fn.__code__, (fn.__defaults__, fn.__kwdefaults__)
    known = _fingerprints.get(id(code))
    if known is not None and known[1] == id(defaults[0]) and known[2] == id(defaults[1]):
        return known[3]
    facts = (_code_facts(code), _stable(defaults[0]), _stable(tuple((defaults[1] or {}).items())))
    found = _digest(repr(facts).encode("utf-8", "backslashreplace"))
    if len(_fingerprints) >= _MAX_FINGERPRINTS:
        _fingerprints.clear()
    _fingerprints[id(code)] = ((code, defaults), id(defaults[0]), id(defaults[1]), found)
    return found


def _code_facts(code: CodeType) -> tuple[object, ...]:
    constants = [_code_facts(c) if isinstance(c, CodeType) else _stable(c) for c in code.co_consts]
    signature = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars)
    return names, signature, code.co_code, code.co_exceptiontable, constants


def _stable(constant: object) -> str:
    """Return the same text in every process; of what has no such text, a default that is an object, only its type.

    The order of a frozenset follows a hash that is random per process.
    """
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(repr, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_stable, constant))})"
    return repr(constant) if type(constant) in _ATOMS or constant is ... else type(constant).__qualname__


def wrapped(fn: Any) -> Any:
    """Return the callable inside a partial, a bound method or a wrapper of ours; None if there is none."""
    if isinstance(fn, partial):
        return fn.func
    if isinstance(fn, MethodType):
        return fn.__func__
    return fn.fn if getattr(type(fn), "wraps_fn", False) is True else None


def describe_function(fn: object) -> str:
    """Return a function's name and place, for example ``app.score (app.py:42)``."""
    name = getattr(fn, "__qualname__", None)
    if name is None:
        inner = wrapped(fn)
        return type(fn).__qualname__ if inner is None else f"{type(fn).__qualname__} of {describe_function(inner)}"
    code = getattr(fn, "__code__", None)
    module = getattr(fn, "__module__", None)
    where = f" ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})" if code is not None else ""
    return f"{f'{module}.' if module else ''}{name}{where}"


def function_name(fn: object) -> str:
    """Return a short name for logs."""
    name = getattr(fn, "__qualname__", None)
    if name is not None:
        return f"{getattr(fn, '__module__', None) or '?'}.{name}"
    inner = wrapped(fn)
    return function_name(inner) if inner is not None else type(fn).__qualname__
