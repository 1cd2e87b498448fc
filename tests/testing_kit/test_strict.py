"""Strict sessions: what would break in a worker process breaks here, in the same way."""

from __future__ import annotations

import io
import pickle
import random
import threading
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.neighbors import KNeighborsClassifier

import offloop
from offloop.testing import InlineSession, MisplacedFault, MutatedArgument

from . import work

pytestmark = pytest.mark.one_loop


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[InlineSession]:
    """An inline session with all defaults."""
    async with InlineSession() as session:
        yield session


async def test_what_can_not_travel_is_refused(session: InlineSession) -> None:
    """A function, an item and a result that can't be pickled are the errors that a worker would cause, with path and index."""
    held = threading.Lock()
    with pytest.raises(offloop.UnpicklableFunction, match="lock"):
        await session.run_parallel(lambda x: held, [1])
    with pytest.raises(offloop.UnpicklableItem, match=r"items\[1\]\['held'\]"):
        await session.run_parallel(work.double, [1, {"held": held}])
    with pytest.raises(offloop.UnpicklableResult, match=r"results\[2\]\['lock'\]"):
        await session.run_parallel(work.give_lock, range(4))
    with pytest.raises(offloop.AsyncFunctionError):
        await session.run(work.coroutine, 1)
    outcomes = await session.run_parallel(work.give_lock, [0, 1, 2, held, 3], on_error="collect")
    assert [type(outcome).__name__ for outcome in outcomes] == ["int", "int", "UnpicklableResult", "UnpicklableItem", "int"]


async def test_copies_travel(session: InlineSession) -> None:
    """Items, results and closures are copies, as they are with workers; functions of modules are themselves."""
    seen: list[int] = []
    given = ["a"]
    (result,) = await session.run_parallel(list, [given])
    assert result == given
    async with InlineSession(may_mutate=True) as lenient:
        await lenient.run_parallel(lambda x: seen.append(x), [1, 2])
        assert await lenient.run(work.append, given) == 2
    assert (seen, given) == ([], ["a"])


async def test_exceptions_travel(session: InlineSession) -> None:
    """What fn raises arrives as a copy of itself, noted once with its index and once with its traceback."""
    with pytest.raises(KeyError, match="7") as caught:
        await session.run_parallel(work.refuse, [7])
    notes = caught.value.__notes__
    assert len(notes) == 2
    assert notes[0].startswith("offloop: raised by items[0] of testing_kit.work.refuse")
    assert "in refuse" in notes[1]


class Ledger:
    """Has a list, and no way to compare it."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def __call__(self, x: int) -> int:
        return x


def enter(ledger: Ledger, x: int) -> int:
    ledger.lines.append(x)
    return x


def spoil(array: Any) -> float:
    array[0] = 5
    return float(array.sum())


def attach(items: list[Any]) -> int:
    items.append(threading.Lock())
    return 1


def turn(page: work.Page) -> str:
    page.text = page.text[::-1]
    return page.text


def counting() -> Callable[[int], int]:
    """Return a function that counts its calls."""
    n_calls = 0

    def count(x: int) -> int:
        nonlocal n_calls
        n_calls += 1
        return x

    return count


class Tally(dict[str, int]):
    """Counts its calls, and says nothing of how it is pickled."""

    def __call__(self, x: int) -> int:
        self["calls"] = self.get("calls", 0) + 1
        return x


def draw(source: random.Random) -> float:
    return source.random()


def read(file: io.BytesIO) -> bytes:
    return file.read()


def move_to_end(counts: dict[str, int]) -> None:
    counts["a"] = counts.pop("a")


def add_column(frame: pd.DataFrame) -> int:
    frame["b"] = 1
    return len(frame)


MUTATIONS: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
    (work.append, ([1],), "argument 'items'"),
    (work.fill, ([1, 2], 3), "argument 'page'"),
    (partial(work.fill, times=2), ([1], 4), "argument 'page'"),
    (enter, (Ledger(), 2), "argument 'ledger'"),
    (turn, (work.Page("ab"),), "argument 'page'"),
    (add_column, (pd.DataFrame({"a": [1]}),), "argument 'frame'"),
    (spoil, (np.zeros(3),), "argument 'array'"),
    (attach, ([],), "argument 'items'"),
    (work.accumulate, (1,), "the default of 'seen'"),
    (partial(work.count_in, {}), ("a",), "what is bound in fn as argument 0"),
    (partial(work.count_in, word="a"), ({},), "argument 'counts'"),
    (work.Model().predict, (1,), "the object whose method fn is"),
    ([1].append, (1,), "the object whose method fn is"),
    (Tally(), (1,), "the object that fn is"),
    (counting(), (1,), "fn's variable 'n_calls'"),
    (work.append, (array("q", [1]),), "argument 'items'"),
    (work.append, (deque([1]),), "argument 'items'"),
    (work.count_in, (Counter("b"), "a"), "argument 'counts'"),
    (work.count_in, (OrderedDict(b=1), "a"), "argument 'counts'"),
    (move_to_end, ({"a": 1, "b": 2},), "argument 'counts'"),
    (draw, (random.Random(3),), "argument 'source'"),
    (read, (io.BytesIO(b"ab"),), "argument 'file'"),
]


@pytest.mark.parametrize(("fn", "args", "subject"), MUTATIONS, ids=[subject for *_, subject in MUTATIONS])
async def test_a_mutated_argument_is_told(
    session: InlineSession, fn: Callable[..., Any], args: tuple[Any, ...], subject: str
) -> None:
    """What fn changes of its arguments, or of what is bound in it, fails it, by its name."""
    with pytest.raises(MutatedArgument) as caught:
        await session.run(fn, *args)
    assert (caught.value.subject, caught.value.index) == (subject, 0)
    async with InlineSession(may_mutate=True) as lenient:
        await lenient.run(fn, *args) if fn is not attach else None


async def test_a_mutated_item_is_told_by_its_index(session: InlineSession) -> None:
    """In a map the error names the item; those that leave theirs alone return."""
    outcomes = await session.run_parallel(partial(map_one), [[0], [1], [2]], on_error="collect")
    assert [type(outcome).__name__ for outcome in outcomes] == ["int", "MutatedArgument", "int"]
    assert (outcomes[1].subject, outcomes[1].index) == ("items[1]", 1)
    counts: dict[str, int] = {}
    with pytest.raises(MutatedArgument, match="fn's variable 'counts'"):
        await session.run_parallel(lambda word: counts.update({word: 1}), ["a"])
    with pytest.raises(MutatedArgument, match="the inputs of fn"):
        await session.run_batches(spoil_rows, np.zeros((4, 2)))


def map_one(item: list[int]) -> int:
    if item == [1]:
        item.append(2)
    return item[0]


def spoil_rows(rows: Any) -> Any:
    rows += 1
    return rows


def pieced() -> pd.DataFrame:
    """Return a frame whose columns were added one by one."""
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    frame["b"] = [3.0, 4.0]
    return frame


def consolidate(frames: list[pd.DataFrame]) -> float:
    frames[0]._consolidate_inplace()  # as many methods do
    return float(frames[0].to_numpy().sum())


def ring(page: work.Page) -> str:
    return page.pages[0].pages[0].shout()


def sort_lazily(matrix: Any) -> bool:
    return bool(matrix.has_sorted_indices)  # which it remembers


UNCHANGED: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (len, ([1, 2],)),
    (sorted, ({3, 1},)),
    (work.Model().look, (1,)),
    (np.sum, (np.arange(5.0),)),
    (lambda a, b: [*a, *b], ([1], (2,))),
    (dict.copy, ({"a": [1]},)),
    (consolidate, ([pieced()],)),
    (work.Page("ab").shout, ()),
    (KNeighborsClassifier().fit(np.eye(9), range(9)).predict, (np.eye(9),)),
    (ring, (work.Page("ab"),)),
    (sort_lazily, (scipy.sparse.csr_array(np.eye(3)),)),
]


@pytest.mark.parametrize(("fn", "args"), UNCHANGED, ids=range(len(UNCHANGED)))
async def test_reading_is_no_mutation(session: InlineSession, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """What only reads its arguments is never said to have changed them."""
    assert np.all(await session.run(fn, *args) == fn(*args))


async def test_without_strictness_objects_are_passed(anyio_backend: object) -> None:
    """`strict=False` passes the very objects: what can't be pickled can be tested then, and nothing is checked."""
    held, seen = threading.Lock(), []
    async with InlineSession(strict=False) as session:
        assert await session.run(lambda one: one, held) is held
        await session.run_parallel(lambda x: seen.append(x), [1, 2])
        assert await session.run(work.append, seen) == 3
    assert seen == [1, 2, 1]


@pytest.mark.parametrize("error", [MutatedArgument("items[3]", 3, "app.score"), MisplacedFault("Crash()", 3, "app.score", "so it is")])
def test_errors_of_the_kit_are_errors_like_others(error: MutatedArgument | MisplacedFault) -> None:
    """They survive a pickle round trip, and their text names item and function."""
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert "items[3]" in str(error)
    assert "app.score" in str(error)


class Locked(Exception):
    """Can't be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


async def test_questions_travel(session: InlineSession) -> None:
    """A question, its answer and what the handler raises are copies, and are refused where they can't be pickled."""
    asked: list[Any] = []

    def handler(question: Any) -> Any:
        asked.append(question)
        if question == ["c"]:
            raise Locked
        return asked if question == ["a"] else threading.Lock()

    value = await session.run(work.ask, ["a"], answer=handler)
    assert value == [["a"]]
    assert value is not asked
    with pytest.raises(offloop.AskError, match=r"answer  \(_thread\.lock\)"):
        await session.run(work.ask, ["b"], answer=handler)
    with pytest.raises(offloop.AskError, match=r"the handler raised .*Locked"):
        await session.run(work.ask, ["c"], answer=handler)
    with pytest.raises(offloop.AskError, match=r"question  \(_thread\.lock\)"):
        await session.run(work.ask_lock, 1, answer=handler)
