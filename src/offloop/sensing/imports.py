"""Sensing imports: how much a worker would have to import before it can run a function."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

MODULE_S = 0.001  # what a module of somebody else's takes to import: 0.6 ms small ones, 0.9 scikit-learn, 1.5 numpy

_MAX_MODULES = 64  # looked into
_MAX_PARTS = 32
_EMPTY = CellType()
_IN_WORKERS = frozenset({"offloop", "cloudpickle", "loky", "__main__"})  # what they have anyway, or what has no import

# As the interpreter keeps them: modules may import themselves when asked for anything, classes and objects run code.
_namespace: Callable[[Any], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__
_class_namespace: Callable[[Any], Mapping[str, Any]] = vars(type)["__dict__"].__get__


def import_s(fn: Any, modules: Mapping[str, ModuleType] | None = None) -> float:
    """Return about how many seconds a fresh worker would import for a function, judging by what this process has imported.

    Looks at the names in the function's module, or in the function itself where its code travels, and at those in the
    user's own modules that they lead to. Of every package that comes up all modules count that this process has. None of
    their code is run. The standard library counts for nothing: little of it, and workers have much of it.

    Args:
        fn: Any callable, as the user gave it.
        modules: The imported modules by name; `sys.modules` if None.
    """
    known = sys.modules if modules is None else modules
    packages: set[str] = set()
    seen: set[str] = set()
    names: deque[str] = deque()
    inner: list[Any] = [fn]
    for part in inner:  # which grows: what is bound in a function comes with it
        if len(inner) < _MAX_PARTS:
            inner += _bound(part)[:_MAX_PARTS]
        if type(part) is FunctionType and part.__module__ == "__main__":
            _note(_own_globals(part), packages, names)
    _note(inner, packages, names)
    while names and len(seen) < _MAX_MODULES:
        name = names.popleft()  # near ones first: a package may lead to hundreds of its own
        module = known.get(name)
        if name in seen or not issubclass(type(module), ModuleType) or name == "__main__":
            continue
        seen.add(name)
        package = name.partition(".")[0]
        if package in _IN_WORKERS or package in sys.stdlib_module_names:
            continue
        packages.add(package)
        _note(list(_namespace(module).values()), packages, names)
    counted = packages - _IN_WORKERS - sys.stdlib_module_names
    return MODULE_S * sum(name.partition(".")[0] in counted for name in list(known))


def _bound(fn: Any) -> list[Any]:
    """Return what is bound in a function."""
    kind = type(fn)
    if issubclass(kind, partial):
        return [fn.func, *fn.args, *fn.keywords.values()]
    if kind is MethodType:
        return [fn.__func__, fn.__self__]
    if kind is FunctionType:
        return [cell.cell_contents for cell in fn.__closure__ or () if cell != _EMPTY]
    return [fn.fn] if _class_namespace(kind).get("wraps_fn") is True else []


def _own_globals(fn: FunctionType) -> list[Any]:
    """Return what a function refers to that travels with it."""
    return [fn.__globals__[name] for name in fn.__code__.co_names if name in fn.__globals__]


def _note(values: Iterable[Any], packages: set[str], names: deque[str]) -> None:
    """Note the packages that values come from, and modules that are worth a look."""
    for value in values:
        kind = type(value)
        name: Any
        if kind is FunctionType:
            name = value.__module__
        elif issubclass(kind, ModuleType):
            name = _namespace(value).get("__name__")
        else:
            name = _class_namespace(value if issubclass(kind, type) else kind).get("__module__")
        if type(name) is str:
            packages.add(name.partition(".")[0])
            names.append(name)
