"""functions.py: what may be passed as fn, and the wrappers for its arguments."""

from __future__ import annotations

import functools
import pickle
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import Mock

import pytest

from offloop.errors import AsyncFunctionError
from offloop.functions import call, check_function, star


def power(base: int, exponent: int = 2, *, scale: int = 1) -> int:
    """Return a power."""
    return scale * base**exponent


async def awaits(number: int = 1) -> int:
    """Return a coroutine."""
    return number


async def yields() -> AsyncIterator[int]:
    """Return an async generator."""
    yield 1


class AsyncCallable:
    """Its call is async."""

    async def __call__(self) -> None:
        """Do nothing."""

    async def method(self) -> None:
        """Do nothing."""

    @classmethod
    async def of_class(cls) -> None:
        """Do nothing."""


class Runner:
    """A plain callable that holds an async function, which it runs to its end by itself."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __call__(self, number: int) -> int:
        """Return the number."""
        return number


class Plain:
    """A class is callable, and so are its instances and methods."""

    def __call__(self) -> int:
        """Return a number."""
        return 1

    def method(self) -> int:
        """Return a number."""
        return 2


def test_star_spreads_an_item() -> None:
    """`star(fn)` takes one item, any iterable of arguments."""
    assert [star(pow)(item) for item in [(2, 3), [2, 4], iter((5, 2))]] == [8, 16, 25]


def test_call_holds_everything() -> None:
    """`call(fn, …)` is a call with all its arguments, keyword arguments included; it takes more."""
    assert call(power, 3, scale=10)() == 90
    assert call(power, 3)(3) == 27
    assert isinstance(call(power), functools.partial)


@pytest.mark.parametrize("wrapped", [star(power), call(power, 2), call(call(power, 2), 5), star(call(power))])
def test_wrappers_travel(wrapped: Any) -> None:
    """A pickled wrapper keeps its class and does the same."""
    back = pickle.loads(pickle.dumps(wrapped))
    assert type(back) is type(wrapped)
    arguments: tuple[Any, ...] = ((3, 4),) if isinstance(wrapped, star) else ()
    assert back(*arguments) == wrapped(*arguments)


@pytest.mark.parametrize(
    "fn",
    [
        power,
        len,
        lambda: 1,
        Plain,
        Plain(),
        Plain().method,
        functools.partial(power, 1),
        star(power),
        call(power, 1),
        functools.lru_cache(power),
        str.upper,
        Runner(awaits),
    ],
)
def test_plain_callables_are_taken(fn: Any) -> None:
    """Functions, builtins, classes, instances, methods and wrappers are taken."""
    check_function(fn)


@pytest.mark.timeout(10)
def test_a_mock_is_taken() -> None:
    """A Mock, which has every attribute, is a callable like any other: looking at it comes to an end."""
    check_function(Mock())


@pytest.mark.parametrize(
    "fn",
    [
        awaits,
        yields,
        AsyncCallable(),
        AsyncCallable().method,
        AsyncCallable.of_class,
        functools.partial(awaits, 1),
        functools.partial(functools.partial(awaits)),
        functools.partial(AsyncCallable()),
        star(awaits),
        call(awaits, 1),
        star(call(AsyncCallable().method)),
    ],
)
def test_async_functions_are_refused(fn: Any) -> None:
    """An async function is refused however it is wrapped, as a TypeError that names it and says what to do."""
    with pytest.raises(AsyncFunctionError, match="await it on the loop") as found:
        check_function(fn)
    assert isinstance(found.value, TypeError)
    assert found.value.function.rpartition(".")[2] in ("awaits", "yields", "AsyncCallable", "method", "of_class")


@pytest.mark.parametrize("fn", [None, 3, "power", [power]])
def test_what_cannot_be_called_is_refused(fn: Any) -> None:
    """What isn't callable is a TypeError that names its type."""
    with pytest.raises(TypeError, match=f"must be callable, not {type(fn).__name__}"):
        check_function(fn)
