"""Pickling: what may be pickled where, by which pickler, and what to say when it can't be done."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
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
        batch = list(level)
        values_left -= len(batch)
        if values_left < 0:
            return False
        kinds = set(map(type, batch))
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
    """

    digest: bytes
    data: bytes


DIGEST_SIZE = 16
_NO_FINGERPRINT = bytes(DIGEST_SIZE)


def _digest(data: bytes) -> bytes:
    from hashlib import blake2b

    return blake2b(data, digest_size=DIGEST_SIZE).digest()


def pack_function(fn: Callable[..., object], *, by_value: bool = False) -> PackedFunction:
    """Pickle a function once, with its code's fingerprint if it will be found by its name.

    Args:
        fn: Any callable.
        by_value: Send the code itself, also of a function that could be imported: for one that differs from what
            an import would find.
    """
    pickled = _module_by_value(fn) if by_value else dumps(fn)
    data = (_NO_FINGERPRINT if by_value else fingerprint(fn)) + pickled
    return PackedFunction(_digest(data), data)


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


_fingerprints: dict[int, tuple[Any, bytes]] = {}  # by id of a code object, which the entry keeps alive
_MAX_FINGERPRINTS = 1024


def fingerprint(fn: Callable[..., object]) -> bytes:
    """Return a digest of the code that a callable leads to, the same in every process; zeros if there is none."""
    while not isinstance(fn, FunctionType):
        inner = wrapped(fn)
        if inner is None:
            return _NO_FINGERPRINT
        fn = inner
    code = fn.__code__
    known = _fingerprints.get(id(code))
    if known is not None:
        return known[1]
    found = _digest(repr(_code_facts(code)).encode("utf-8", "backslashreplace"))
    if len(_fingerprints) >= _MAX_FINGERPRINTS:
        _fingerprints.clear()
    _fingerprints[id(code)] = (code, found)
    return found


def _code_facts(code: Any) -> tuple[object, ...]:
    constants = [_code_facts(c) if hasattr(c, "co_code") else _stable(c) for c in code.co_consts]
    return code.co_name, code.co_code, code.co_names, code.co_varnames, constants


def _stable(constant: object) -> str:
    """Return the same text in every process: the order of a frozenset follows a hash that is random per process."""
    if isinstance(constant, frozenset):
        return f"frozenset({sorted(map(repr, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_stable, constant))})"
    return repr(constant)


def wrapped(fn: Any) -> Any:
    """Return the callable inside a partial, a bound method or a wrapper of ours; None if there is none."""
    inner = getattr(fn, "fn", None) or getattr(fn, "func", None) or getattr(fn, "__func__", None)
    return inner if callable(inner) else None


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


# --- what can't be pickled -------------------------------------------------------------------------------------------


def find_unpicklable(value: object, path: str) -> tuple[str, str]:
    """Return path and type name of the innermost part of `value` that can't be pickled.

    A bounded search (200 parts, 12 levels) that is made only to explain a failure.
    """
    budget = [200]
    culprit_path, culprit = path, value
    for _ in range(12):
        child = next(((p, v) for p, v in _parts(culprit, culprit_path) if not _pickles(v, budget)), None)
        if child is None:
            break
        culprit_path, culprit = child
    kind = type(culprit)
    return culprit_path, f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _pickles(value: object, budget: list[int]) -> bool:
    budget[0] -= 1
    if budget[0] < 0 or type(value) in _ATOMS or isinstance(value, ModuleType):
        return True
    try:
        dumps(value)
    except BaseException:
        return False
    return True


def _parts(value: Any, path: str) -> Iterable[tuple[str, object]]:
    """Yield what is inside a value, without running properties."""
    if isinstance(value, dict):
        yield from ((f"{path}[{key!r}]", part) for key, part in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"{path}[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, FunctionType):
        yield from _function_parts(value, path)
    else:
        bound = getattr(type(value), "__self__", None) is not None
        if bound and hasattr(value, "__func__"):
            yield f"{path}.__self__", value.__self__
        if isinstance(getattr(value, "__dict__", None), dict):
            yield from ((f"{path}.{name}", part) for name, part in list(vars(value).items()))


def _function_parts(fn: FunctionType, path: str) -> Iterable[tuple[str, object]]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for name in fn.__code__.co_names:
        if name in fn.__globals__:
            yield f"{path}.{name}", fn.__globals__[name]
