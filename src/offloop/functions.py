"""What may be passed as fn, and the wrappers for its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from .errors import AsyncFunctionError
from .wire.pickling import function_name, wrapped

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class star(Generic[R]):
    """Make a function of one item, a tuple of arguments, out of a function of several.

    ``run_parallel(star(pow), [(2, 3), (2, 4)])`` returns ``[8, 16]``.
    """

    __slots__ = ("fn",)
    wraps_fn = True

    def __init__(self, fn: Callable[..., R]) -> None:
        self.fn: Callable[..., R] = fn

    def __call__(self, arguments: Iterable[Any]) -> R:
        """Call the function with these arguments."""
        return self.fn(*arguments)


class call(partial[R]):
    """A call to be made elsewhere: a function with all its arguments, keyword arguments included.

    ``session.run(call(fit, X, y, alpha=0.1))`` runs ``fit(X, y, alpha=0.1)``.
    """

    __slots__ = ()


class units(Generic[R_co]):
    """The calls of a branch of `run_branches` that splits further: one for each fold, say.

    ``units([call(fit, model, fold) for fold in folds], combine=mean)`` has the value ``mean([...])``.

    Args:
        calls: The calls, each as a branch may be.
        combine: Gets what they returned, in their order, as one list; what it returns is the branch's value. It is called in a thread
            of the caller's process. Without it the list is the value.

    Raises:
        TypeError: One of the calls, or combine, can't be called.
        AsyncFunctionError: It is async.
    """

    __slots__ = ("calls", "combine")

    @overload
    def __init__(self: units[list[T]], calls: Iterable[Callable[..., T]]) -> None: ...

    @overload
    def __init__(self, calls: Iterable[Callable[..., T]], combine: Callable[[list[T]], R_co]) -> None: ...

    def __init__(self, calls: Iterable[Callable[..., Any]], combine: Callable[[list[Any]], Any] | None = None) -> None:
        self.calls: tuple[Callable[..., Any], ...] = tuple(calls)
        self.combine: Callable[[list[Any]], Any] | None = combine
        for fn in self.calls if combine is None else (*self.calls, combine):
            check_function(fn)


class SeededFunction(Protocol[T_contra, R_co]):
    """A function that draws its random numbers from a generator that it is given."""

    def __call__(self, item: T_contra, /, *, rng: Generator) -> R_co:
        """Execute one item."""
        ...


_PARTIALS = (partial, call)


def check_function(fn: Any) -> None:
    """Refuse what can't be executed in a worker.

    Raises:
        TypeError: It isn't callable.
        AsyncFunctionError: It is async.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {type(fn).__name__}")
    inner: Any = fn
    while type(inner) in _PARTIALS:  # not async themselves; there may be one for each of thousands of units
        inner = inner.func
    while inner is not None:
        if _is_async(inner):
            raise AsyncFunctionError(function_name(fn))
        inner = wrapped(inner)


def _is_async(fn: Any) -> bool:
    # The flags are read by hand for plain functions: this runs at every call, and inspect takes five times as long.
    code = getattr(fn, "__code__", None)
    if code is not None:
        return bool(code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
