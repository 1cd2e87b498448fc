"""Sensing imports: how much a worker would have to import before it can run a function."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

MODULE_S = 0.001  # what a module of somebody else's takes to import: 0.6 ms small ones, 0.9 scikit-learn, 1.5 numpy

_MAX_MODULES = 64  # looked into
_IN_WORKERS = frozenset({"offloop", "cloudpickle", "loky", "__main__"})  # what they have anyway, or what has no import


def import_s(fn: Any, modules: Mapping[str, ModuleType] | None = None) -> float:
    """Return about how many seconds a fresh worker would import for a function, judging by what this process has imported.

    Looks at the names in the function's module, or in the function itself where its code travels, and at those in the
    user's own modules that they lead to. Of every package that comes up all modules count that this process has. None of
    their code is run. The standard library counts for nothing: little of it, and workers have much of it.

    Args:
        fn: A function, or a class.
        modules: The imported modules by name; `sys.modules` if None.
    """
    known = sys.modules if modules is None else modules
    packages: set[str] = set()
    seen: set[str] = set()
    names = [_home(fn)]
    values: Iterable[Any] = _own_globals(fn) if names == ["__main__"] else ()
    _note(values, packages, names)
    while names and len(seen) < _MAX_MODULES:
        name = names.pop()
        module = known.get(name)
        if name in seen or not isinstance(module, ModuleType) or name == "__main__":
            continue
        seen.add(name)
        package = name.partition(".")[0]
        if package in _IN_WORKERS or package in sys.stdlib_module_names:
            continue
        packages.add(package)
        _note(list(vars(module).values()), packages, names)
    counted = packages - _IN_WORKERS - sys.stdlib_module_names
    return MODULE_S * sum(name.partition(".")[0] in counted for name in list(known))


def _home(thing: Any) -> str:
    home = getattr(thing, "__module__", None)
    return home if isinstance(home, str) else "__main__"


def _own_globals(fn: Any) -> list[Any]:
    """Return what a function refers to that travels with it."""
    if not isinstance(fn, FunctionType):
        return []
    return [fn.__globals__[name] for name in fn.__code__.co_names if name in fn.__globals__]


def _note(values: Iterable[Any], packages: set[str], names: list[str]) -> None:
    """Note the packages that values come from, and modules that are worth a look."""
    for value in values:
        name = value.__name__ if isinstance(value, ModuleType) else getattr(type(value), "__module__", None)
        if isinstance(value, FunctionType | type):
            name = value.__module__
        if isinstance(name, str):
            packages.add(name.partition(".")[0])
            names.append(name)
