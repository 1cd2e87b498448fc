"""What ``mymodule:name`` names on the command line."""

from __future__ import annotations

import difflib
import faulthandler
import os
import sys
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import isawaitable, signature
from itertools import islice
from typing import Any

from ..errors import AsyncFunctionError, OffloopError, SettingError
from .usage import UsageError, UserCodeError

MOST_ITEMS = 1_000_000  # a source of more than these is taken for one that has no end; nobody waits for so many


def load(function: str, items: str) -> tuple[Callable[..., Any], list[Any]]:
    """Return the function and the items that are named as ``mymodule:fn`` and ``mymodule:items``.

    Modules are looked for in the current folder first. Items that are a function, or a generator function, are called for.

    Raises:
        UsageError: A name is wrong, or is that of something else.
        UserCodeError: The user's code raised as it was imported, or as it made the items.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(all_threads=False)  # a crash would end the command without a word
    fn = named(function)
    if not callable(fn):
        raise UsageError(f"{function} is {_kind(fn)}, and no function", "name a function of one item, as in mymodule:fn")
    return fn, items_of(items)


def items_of(name: str) -> list[Any]:
    """Return the items that are named as ``mymodule:items``, as a list; see `load`."""
    value = named(name)
    if callable(value) and not _is_callable_plainly(value):
        raise UsageError(f"{name} takes arguments", "name a list, or a function without arguments that returns one")
    with user_code(f"making the items of {name}"):
        made: Any = value() if callable(value) else value
        if isinstance(made, AsyncIterable) or isawaitable(made):
            getattr(made, "close", lambda: None)()  # a coroutine that nobody awaits would be warned of
            raise UsageError(f"{name} is async", "name a list, or a plain function that returns one")
        try:
            iterator = iter(made)
        except TypeError:
            iterator = None
        if iterator is None or isinstance(made, str | bytes):
            raise UsageError(f"{name} is {_kind(made)}, and no items", "name a list, or a function that returns one")
        items = list(islice(iterator, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        raise UsageError(f"{name} has more than {MOST_ITEMS:,} items, if it ends at all", "name fewer of them")
    return items


def named(name: str) -> Any:
    """Return what is named as ``mymodule:name``; the name may have dots. See `load`."""
    module_name, _, path = name.partition(":")
    if not (module_name and path):
        raise UsageError(f"{name!r} names nothing in a module", f"write module:name, as in {_corrected(name)}")
    if module_name == "__main__" or module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        raise UsageError(f"{module_name!r} is no name of a module", f"write {_corrected(name)} in the folder that it is imported from")
    value = _imported(module_name)
    found = f"{module_name}:"
    for part in path.split("."):
        with user_code(f"looking up {name}"):
            if not hasattr(value, part):
                raise UsageError(f"{found.rstrip(':.')} has no {part!r}", _nearest(found, part, value))
            value = getattr(value, part)
        found += f"{part}."
    return value


def _imported(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it, for the command that was installed
    with user_code(f"importing {name}"):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, and imports something that isn't
            raise UsageError(f"there is no module {error.name!r}", "go to the folder that it is in, or name that in PYTHONPATH") from None


@contextmanager
def user_code(where: str) -> Iterator[None]:
    """Tell what the user's code raises in this context from what a command itself does.

    Raises:
        UserCodeError: It raised.
        UsageError: It would have ended the program, is async, or was to be called with options that can't work.
        OffloopError: A call of it ended so.
    """
    try:
        yield
    except SettingError as error:
        raise UsageError(f"{error.setting}={error.value} can't work", error.advice) from None
    except AsyncFunctionError:
        raise UsageError(f"{where} makes a coroutine", "name the plain function that does the CPU-bound part") from None
    except (UsageError, UserCodeError, OffloopError):
        raise
    except SystemExit:
        raise UsageError(f"{where} ends the program", 'put what a script does below if __name__ == "__main__":') from None
    except Exception as error:
        raise UserCodeError(where) from error


def _corrected(name: str) -> str:
    """Return what was perhaps meant: ``app.py:score`` and ``src/app:score`` as ``app:score``, ``app.score`` likewise."""
    module, _, path = name.replace("\\", "/").rpartition("/")[2].partition(":")
    module = module.removesuffix(".py")
    if not path and "." in module:
        module, _, path = module.rpartition(".")
    return f"{'mymodule' if module in ('', '__main__') else module}:{path or 'fn'}"


def _nearest(found: str, part: str, value: Any) -> str:
    """Return what was perhaps meant in place of a part of a name that isn't there."""
    public = [name for name in dir(value) if not name.startswith("_")]
    near = difflib.get_close_matches(part, public, n=1)
    return f"write {found}{near[0]}" if near else f"name one of {', '.join(public[:8]) or 'its functions'}"


def _is_callable_plainly(value: Any) -> bool:
    """Whether this can be called without arguments, as far as its signature tells."""
    try:
        signature(value).bind()
    except TypeError:
        return False
    except ValueError:  # of a few functions in C nothing is known
        return True
    return True


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
