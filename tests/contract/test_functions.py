"""Functions of every kind, and what is refused."""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio

factor = 2
multiplier = w.Multiplier(2)


class LocalClass:
    """A class of a test module."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalClass) and self.x == other.x

    __hash__ = None  # type: ignore[assignment]


def module_function(x: int) -> int:
    return factor * x


def closure() -> Any:
    bound = 2

    def inner(x: int) -> int:
        return bound * x

    return inner


KINDS = {
    "module function": w.double,
    "function of the test": module_function,
    "lambda": lambda x: 2 * x,
    "closure": closure(),
    "partial": partial(operator.mul, 2),
    "partial with keywords": partial(w.add, b=0, c=0),
    "call": offloop.call(operator.mul, 2),
    "bound method": multiplier.times,
    "class method": w.Multiplier.twice,
    "callable object": multiplier,
    "method of a builtin": (2).__mul__,
    "partial of a lambda": partial(lambda a, b: a * b, 2),
}


@pytest.mark.one_loop
@pytest.mark.parametrize("kind", KINDS)
async def test_functions_of_every_kind_travel(session: offloop.ParallelSession, kind: str) -> None:
    """Whatever can be called can be sent."""
    times = 1 if kind == "partial with keywords" else 2
    assert await session.run_parallel(KINDS[kind], range(5)) == [times * x for x in range(5)]
    assert await session.run(KINDS[kind], 4) == times * 4


@pytest.mark.parametrize(("fn", "results"), [(abs, [1, 2]), (math.floor, [-1, -2]), (str, ["-1", "-2"])])
async def test_builtins_and_classes_are_functions_too(
    session: offloop.ParallelSession, fn: Any, results: list[object]
) -> None:
    """A builtin or a class works like any function."""
    assert await session.run_parallel(fn, [-1, -2]) == results


async def test_a_users_class_is_a_function_too(session: offloop.ParallelSession) -> None:
    """Instances come back equal, of the very class."""
    assert await session.run_parallel(w.Boxed, range(3)) == [w.Boxed(0), w.Boxed(1), w.Boxed(2)]
    assert await session.run_parallel(LocalClass, range(3)) == [LocalClass(0), LocalClass(1), LocalClass(2)]


async def test_star_spreads_a_tuple(session: offloop.ParallelSession) -> None:
    """star makes a function of several arguments one of tuples."""
    assert await session.run_parallel(offloop.star(pow), [(2, 3), (2, 4)]) == [8, 16]
    assert await session.run_parallel(offloop.star(lambda a, b: a - b), [(2, 3), (9, 4)]) == [-1, 5]


async def test_run_takes_any_number_of_arguments(session: offloop.ParallelSession) -> None:
    """Arguments are passed by position, keywords by call or partial."""
    assert await session.run(w.nothing) is None
    assert await session.run(w.add, 1, 2) == 3
    assert await session.run(offloop.call(w.add, 1, b=2, c=3)) == 6


async def test_a_function_follows_what_it_closes_over(session: offloop.ParallelSession) -> None:
    """A run sees the bound data of its time, though the session has executed the same code before."""
    data = [1]
    assert await session.run(lambda x: (x, *data), 0) == (0, 1)
    data.append(2)
    assert await session.run(lambda x: (x, *data), 0) == (0, 1, 2)


async def test_large_bound_data_travels(session: offloop.ParallelSession) -> None:
    """A model of a few megabytes may be bound in fn."""
    model = bytes(range(256)) * 20_000
    assert await session.run_parallel(lambda i: model[i], range(300)) == [model[i] for i in range(300)]


async def test_many_functions_may_take_turns(session: offloop.ParallelSession) -> None:
    """More functions than a worker keeps still give the right results."""
    functions = [partial(w.add, i) for i in range(300)]
    for turn in range(2):
        for i, fn in enumerate(functions):
            assert await session.run(fn, turn) == i + turn


@pytest.mark.parametrize(
    "fn",
    [w.async_double, partial(w.async_double), w.AsyncCallable(), w.AsyncCallable().__call__],
    ids=("function", "partial", "object", "method"),
)
async def test_async_functions_are_refused(session: offloop.ParallelSession, fn: Any) -> None:
    """An async def function is a typed error at once: no item is read."""
    items = iter([1, 2])
    with pytest.raises(offloop.AsyncFunctionError, match="async"):
        await session.run_parallel(fn, items)
    assert next(items) == 1
    with pytest.raises(offloop.AsyncFunctionError):
        await session.run(fn, 1)


@pytest.mark.parametrize("on_error", ["raise", "collect", "group"])
async def test_a_returned_coroutine_is_refused(session: offloop.ParallelSession, on_error: Any) -> None:
    """A function that turns out to return a coroutine is the same typed error, whatever on_error says."""
    with anyio.fail_after(10), pytest.raises(offloop.AsyncFunctionError):
        await session.run_parallel(w.returns_coroutine, range(3), on_error=on_error)
    with pytest.raises(offloop.AsyncFunctionError):
        await session.run(w.returns_coroutine, 1)


@pytest.mark.parametrize("fn", [None, 5, "double"])
async def test_what_cant_be_called_is_refused(session: offloop.ParallelSession, fn: Any) -> None:
    """fn must be callable."""
    with pytest.raises(TypeError, match="callable"):
        await session.run_parallel(fn, [1])
    with pytest.raises(TypeError, match="callable"):
        await session.run(fn, 1)
