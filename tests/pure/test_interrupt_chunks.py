"""worker/interrupt.py: what interrupts make of a chunk, and of the worker that it was on."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

import offloop
from offloop.deciding.seeding import Seeded
from offloop.errors import TaskCancelled
from offloop.wire.frames import Flag
from offloop.wire.status_page import CANCEL, ITEM, SIZE, Spent, new_page
from offloop.worker.execute import execute
from offloop.worker.interrupt import ThreadGuard, interruptible
from offloop.worker.task import Task

from .interrupted import EPOCH, Interrupted, by_signal, by_thread, named
from .test_execute import Outcomes


@pytest.fixture(params=[by_signal, by_thread])
def item(request: pytest.FixtureRequest) -> Iterator[Interrupted]:
    """An item in a worker, and one in a thread."""
    with request.param() as found:
        yield found


# --- what a worker is left like ------------------------------------------------------------------------------------------


@pytest.fixture
def worker() -> Iterator[Interrupted]:
    """An item in a worker, where no timer runs."""
    before = signal.setitimer(signal.ITIMER_REAL, 0)
    with by_signal() as found:
        yield found
    signal.setitimer(signal.ITIMER_REAL, *before)


def test_an_interrupt_alone_does_no_damage(worker: Interrupted) -> None:
    """A worker whose item was interrupted is as good as new."""
    assert worker.runs(worker.interrupt)
    assert worker.guard.was_interrupted
    assert worker.guard.damage() == 0


def test_a_thread_that_is_left_behind_is_damage(worker: Interrupted) -> None:
    """A worker in which an interrupted item has left a thread is to be replaced; one that came before is none."""
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(2)]

    def work() -> None:
        threads[1].start()
        worker.interrupt()

    threads[0].start()
    try:
        assert worker.runs(work)
        assert worker.guard.damage() == Spent.THREADS
        assert worker.runs(worker.interrupt)
        assert worker.guard.damage() == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_handler_that_is_left_behind_is_damage(worker: Interrupted) -> None:
    """A worker in which an interrupted item has left a signal handler is to be replaced."""
    before = signal.getsignal(signal.SIGUSR1)

    def work() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        worker.interrupt()

    try:
        assert worker.runs(work)
        assert worker.guard.damage() == Spent.SIGNALS
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_timer_that_is_left_behind_is_damage(worker: Interrupted) -> None:
    """A worker in which an interrupted item has left a timer is to be replaced."""

    def work() -> None:
        signal.setitimer(signal.ITIMER_REAL, 3600)
        worker.interrupt()

    assert worker.runs(work)
    assert worker.guard.damage() == Spent.SIGNALS


def test_an_exception_that_is_still_handled_is_damage(worker: Interrupted) -> None:
    """A worker in which an exception is being handled though no item is executed is to be replaced."""
    assert worker.runs(worker.interrupt)
    try:
        raise KeyError
    except KeyError:
        assert worker.guard.damage() == Spent.EXCEPTION


def test_what_was_not_interrupted_is_not_looked_at(worker: Interrupted) -> None:
    """What an item leaves behind that was not interrupted is its own affair, also behind one that was."""
    before = signal.getsignal(signal.SIGUSR1)
    try:
        assert worker.runs(worker.interrupt)
        assert not worker.runs(lambda: signal.signal(signal.SIGUSR1, lambda *_: None))
        assert worker.guard.damage() == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


# --- with execute --------------------------------------------------------------------------------------------------------


def test_functions_in_c_get_a_frame() -> None:
    """What is written in C is called from a frame that may be interrupted; Python functions stay as they are."""

    def own(number: int) -> int:
        return number

    assert interruptible(own) is own
    assert interruptible(random.Random().uniform).__func__ is random.Random.uniform  # type: ignore[attr-defined]
    for fn, args, value in ((abs, (-1,), 1), (int, ("7",), 7), (Seeded(lambda x, rng: x, 7), (0, 5), 5)):
        assert interruptible(fn) is not fn
        assert isinstance(interruptible(fn), FunctionType)
        assert interruptible(fn)(*args) == value


def test_an_interrupted_item_ends_the_chunk(item: Interrupted) -> None:
    """An item that is interrupted has no outcome, those before keep theirs, and none is begun after it."""
    begun: list[int] = []
    item.words[CANCEL] = 0

    def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            item.words[CANCEL] = EPOCH
            item.interrupt()
        return number

    assert executed(item, work, range(5)) == [(0, 0), (1, 1)]
    assert begun == [0, 1, 2]


def test_a_swallowed_interrupt_leaves_a_value(item: Interrupted) -> None:
    """An item that stops in its own way has what it returned for its outcome; none is begun after it."""
    item.words[CANCEL] = 0

    def work(number: int) -> int:
        item.words[CANCEL] = EPOCH
        try:
            item.interrupt()
        except TaskCancelled:
            return -1
        return number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("offloop.worker.execute._LOOK_NS", 0)
        assert executed(item, work, range(5)) == [(0, -1)]


def test_items_that_are_rebuilt_are_not_torn_apart(item: Interrupted) -> None:
    """While an item is taken from where it comes, which is ours, the interrupt waits."""
    held: list[bool] = []
    item.words[CANCEL] = 0

    def rebuilt() -> Any:
        item.words[CANCEL] = EPOCH
        held.append(item.is_held_back())
        return 7

    class Items:
        """Rebuilds each item in a frame of offloop."""

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[Any]:
            yield named("offloop.wire.buffers", rebuilt)()

    assert executed(item, lambda number: number, Items()) == [(0, 7)]
    assert held == [True]


def executed(item: Interrupted, fn: Callable[[Any], Any], items: Any) -> list[tuple[int, Any]]:
    """Execute items from index 0 on and return their outcomes."""
    outcomes = Outcomes()
    task = Task(item.words, EPOCH, None, False, item.guard)
    return outcomes.all(execute(fn, items, start=0, flags=0, budget_ns=0, task=task, emit=outcomes))


def busy(number: int) -> int:
    """Execute a little Python."""
    for _ in range(30):
        pass
    return number


def failing(number: int) -> int:
    """Fail now and then."""
    if number % 7 == 3:
        raise ValueError(number)
    return busy(number)


def shielded(number: int) -> int:
    """Execute a little under a shield."""
    with offloop.shield():
        return busy(number)


def swallowing(number: int) -> int:
    """Let no interrupt through, and clean up after it."""
    try:
        return busy(number)
    except TaskCancelled:
        return number
    finally:
        busy(0)


WAYS: list[tuple[Callable[..., Any], int]] = [
    (busy, 0),
    (abs, 0),
    (failing, 0),
    (shielded, 0),
    (swallowing, 0),
    (busy, Flag.TIMED),
    (pow, Flag.STAR),
]


def outcomes_of(fn: Callable[..., Any], n_items: int) -> list[tuple[int, Any]]:
    """Return what becomes of items that are left alone."""
    if fn is failing:
        return [(i, ValueError if i % 7 == 3 else i) for i in range(n_items)]
    return [(i, i) for i in range(n_items)]


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Have threads take turns much more often than they do by themselves."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)
    yield
    sys.setswitchinterval(before)


class Chunks:
    """A thread's way through many chunks.

    Attributes:
        wrong: What is not as it should be.
        n_stopped: How many chunks were stopped.
        is_over: Whether it is through.
    """

    def __init__(self, words: memoryview, guard: ThreadGuard, chance: random.Random) -> None:
        self._words, self._guard, self._chance = words, guard, chance
        self.wrong: list[object] = []
        self.n_stopped = 0
        self.is_over = False

    def execute(self) -> None:
        """Execute all of them."""
        try:
            for epoch in range(1, 1501):
                self._execute(epoch, *self._chance.choice(WAYS), self._chance.randrange(1, 40))
        except BaseException as error:
            self.wrong.append(error)
        finally:
            self.is_over = True

    def _execute(self, epoch: int, fn: Callable[..., Any], flags: int, n_items: int) -> None:
        outcomes = Outcomes()
        task = Task(self._words, epoch, None, False, self._guard)
        items: Any = [(i, 1) for i in range(n_items)] if flags & Flag.STAR else range(n_items)
        rest = execute(fn, items, start=0, flags=flags, budget_ns=0, task=task, emit=outcomes)
        found = outcomes.all(rest)
        is_whole = len(found) == n_items
        self.n_stopped += not is_whole
        if found != outcomes_of(fn, n_items)[: len(found)] or not (is_whole or self._words[CANCEL] >= epoch):
            self.wrong.append((epoch, fn, found))


@pytest.mark.usefixtures("quick_switches")
def test_interrupts_at_random_stay_in_their_chunk() -> None:
    """Whenever a thread is interrupted, its chunk ends in order, nothing escapes from it, and the next one is not hit."""
    words, guard, chance = new_page(bytearray(SIZE)), ThreadGuard(), random.Random()
    chunks = Chunks(words, guard, chance)
    thread = threading.Thread(target=chunks.execute)
    thread.start()
    while not chunks.is_over:
        if chance.random() < 0.5:
            words[CANCEL] = words[ITEM] >> 40
        guard.interrupt()
        time.sleep(chance.random() * 1e-4)  # lets the other one have the GIL, for a moment that differs
    thread.join()
    assert chunks.wrong == []
    assert chunks.n_stopped > 10
