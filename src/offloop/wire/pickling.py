"""Pickling: what may be pickled where, by which pickler, and what to say when it can't be done."""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from ..explaining import printable
from .reducers import Reducer, dispatch_table

Persist = Callable[[object], int | None]

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


def dumps(value: object, *, by_value: bool = False) -> bytes:
    """Pickle by the standard pickler where that is enough, else (or if `by_value`) by cloudpickle.

    What refers to ``__main__`` goes through cloudpickle at once: it pickles well here, but a worker's ``__main__`` is
    another module.
    """
    return dumps_apart(value, None, by_value=by_value)[0]


def dumps_apart(
    value: object, least_bytes: int | None, persist: Persist | None = None, *, by_value: bool = False
) -> tuple[bytes, list[memoryview]]:
    """Pickle like `dumps`, and leave large buffers where they are.

    Args:
        value: What to pickle.
        least_bytes: How large a buffer must be to be left out of the pickle; None leaves none out.
        persist: Asked of every object, 80 ns each: what to write instead of it; None for nothing.
        by_value: Whether to use cloudpickle from the start.

    Returns:
        The pickle, and the buffers that it will ask for, in that order.
    """
    buffers: list[memoryview] = []

    def leave_out(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if least_bytes is None or raw.nbytes < least_bytes:
            return True
        buffers.append(raw)
        return False

    data: bytes | None = None
    if not by_value:
        try:
            data = _dump(pickle.Pickler, copyreg.dispatch_table, value, persist, leave_out)
        except Exception:  # cloudpickle may know how, and else it tells why not
            pass
    if data is None or b"__main__" in data:
        import cloudpickle

        buffers.clear()
        data = _dump(cloudpickle.Pickler, cloudpickle.Pickler.dispatch_table, value, persist, leave_out)
    return data, buffers


def _dump(
    kind: Any, usual: Mapping[type, Reducer], value: object, persist: Persist | None, leave_out: Callable[[Any], bool]
) -> bytes:
    own: dict[str, Any] = {"dispatch_table": dispatch_table(usual)}
    if persist is not None:
        own["persistent_id"] = staticmethod(persist)
    file = io.BytesIO()
    if kind is pickle.Pickler and persist is None:
        pickler: Any = kind(file, PROTOCOL, buffer_callback=leave_out)
        pickler.dispatch_table = own["dispatch_table"]
    else:  # what is an attribute of the class isn't looked for elsewhere
        pickler = type("Pickler", (kind,), own)(file, PROTOCOL, buffer_callback=leave_out)
    pickler.dump(value)
    return file.getvalue()


def loads_persisted(data: bytes | memoryview, buffers: Iterable[Any], load: Callable[[Any], Any]) -> Any:
    """Unpickle what was pickled with `persist`; `load` returns what stood in an object's place."""
    unpickler: Any = type("PersistingUnpickler", (pickle.Unpickler,), {"persistent_load": staticmethod(load)})
    return unpickler(io.BytesIO(data), buffers=buffers).load()


def dumps_plain(value: object) -> bytes:
    """Pickle exact built-in types, see `is_plain`."""
    return pickle.dumps(value, PROTOCOL)


loads = pickle.loads


# --- functions -------------------------------------------------------------------------------------------------------


DIGEST_SIZE = 16
NO_FINGERPRINT = bytes(DIGEST_SIZE)


def digest_of(data: bytes) -> bytes:
    """Return what identifies these bytes."""
    from hashlib import blake2b

    return blake2b(data, digest_size=DIGEST_SIZE).digest()


@contextmanager
def module_by_value(fn: Callable[..., object]) -> Iterator[None]:
    """Have cloudpickle send the code of a function's module, also where it could be imported."""
    import cloudpickle

    plain: Any = fn
    while not isinstance(plain, FunctionType):
        plain = wrapped(plain)
    module = sys.modules[plain.__module__]
    with _by_value_lock:
        cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            cloudpickle.unregister_pickle_by_value(module)


_by_value_lock = threading.Lock()  # registering a module with cloudpickle is global


def travels_by_name(fn: Any) -> bool:
    """Whether pickling this function is no more than writing down where it can be imported from."""
    if isinstance(fn, FunctionType):
        return fn.__module__ != "__main__" and "<" not in fn.__qualname__
    return isinstance(fn, BuiltinFunctionType) and isinstance(fn.__self__, ModuleType)


class StaleFunction(Exception):
    """The function of this name in this process is not the one that was packed."""


def check_fingerprint(fn: Callable[..., Any], expected: bytes) -> None:
    """Compare a function with the fingerprint of the one that was sent.

    Raises:
        StaleFunction: Its name leads to other code here.
    """
    if expected not in (NO_FINGERPRINT, fingerprint(fn)):
        raise StaleFunction


# By id of a code object: what the ids belong to, kept alive by this; ids of the defaults; the fingerprint.
_fingerprints: dict[int, tuple[object, int, int, bytes]] = {}
_MAX_FINGERPRINTS = 1024


def fingerprint(fn: Callable[..., object]) -> bytes:
    """Return a digest of the code that a callable leads to, the same in every process; zeros if there is none."""
    while not isinstance(fn, FunctionType):
        inner = wrapped(fn)
        if inner is None:
            return NO_FINGERPRINT
        fn = inner
    code, defaults = fn.__code__, (fn.__defaults__, fn.__kwdefaults__)
    known = _fingerprints.get(id(code))
    if known is not None and known[1] == id(defaults[0]) and known[2] == id(defaults[1]):
        return known[3]
    facts = (_code_facts(code), _stable(defaults[0]), _stable(tuple((defaults[1] or {}).items())))
    found = digest_of(repr(facts).encode("utf-8", "backslashreplace"))
    if any(type(value) not in _ATOMS for value in (*(defaults[0] or ()), *(defaults[1] or {}).values())):
        return found  # a default may be large, and must not be kept alive by this
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
        name = printable(type(fn).__qualname__)
        return name if inner is None else f"{name} of {describe_function(inner)}"
    code = getattr(fn, "__code__", None)
    module = getattr(fn, "__module__", None)
    where = f" ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})" if code is not None else ""
    return printable(f"{f'{module}.' if module else ''}{name}{where}")


def function_name(fn: object) -> str:
    """Return a short name for logs."""
    name = getattr(fn, "__qualname__", None)
    if name is not None:
        return printable(f"{getattr(fn, '__module__', None) or '?'}.{name}")
    inner = wrapped(fn)
    return function_name(inner) if inner is not None else printable(type(fn).__qualname__)
