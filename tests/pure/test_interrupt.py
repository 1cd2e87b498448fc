"""worker/interrupt.py: where an interrupt is raised, and where it is held back."""

from __future__ import annotations

import importlib
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import pytest

import offloop
from offloop.deciding.seeding import Seeded
from offloop.errors import TaskCancelled
from offloop.wire.frames import Flag
from offloop.wire.status_page import CANCEL, ITEM, SIZE, Spent, new_page
from offloop.worker import interrupt as module
from offloop.worker.execute import execute
from offloop.worker.interrupt import SIGNAL, Guard, ThreadGuard, calls_user_code, interruptible
from offloop.worker.task import Task, current

from .test_execute import Outcomes

EPOCH = 5


class Interrupted:
    """An item that is interrupted where it says so itself, in the chunk of `EPOCH`, which is to stop.

    Attributes:
        guard: What may be interrupted.
        words: The status page.
        interrupt: Interrupts the caller.
    """

    def __init__(self, guard: Guard, interrupt: Callable[[], None]) -> None:
        self.guard, self.interrupt = guard, interrupt
        self.words = new_page(bytearray(SIZE))
        self.words[CANCEL] = EPOCH

    def runs(self, work: Callable[[], Any]) -> bool:
        """Execute an item; return whether it was interrupted."""
        current.task = Task(self.words, EPOCH, None, False, self.guard)
        self.guard.open(self.words, EPOCH)
        try:
            _as_item(work)
        except TaskCancelled:
            return True
        finally:
            self.guard.shut()
            current.task = None
        return False

    def is_held_back(self) -> bool:
        """Return whether an interrupt that comes here is held back; only within an item."""
        try:
            self.interrupt()
        except TaskCancelled:
            return False
        return True


@calls_user_code
def _as_item(work: Callable[[], Any]) -> None:
    work()


@contextmanager
def by_signal() -> Iterator[Interrupted]:
    """Interrupt this thread, the main one, as the parent does a worker."""
    assert SIGNAL is not None
    before = signal.getsignal(SIGNAL)
    guard = Guard()
    guard.install()
    try:
        yield Interrupted(guard, lambda: signal.raise_signal(SIGNAL))
    finally:
        signal.signal(SIGNAL, before)


@contextmanager
def by_thread() -> Iterator[Interrupted]:
    """Interrupt this thread from another one, as an event loop does."""
    guard = ThreadGuard()
    asked, done = threading.Lock(), threading.Lock()  # of C, so that what is looked at is the frame that waits for them
    asked.acquire()
    done.acquire()
    is_over = False

    def serve() -> None:
        while True:
            asked.acquire()
            if is_over:
                return
            guard.interrupt()
            done.release()

    def interrupt() -> None:
        asked.release()
        done.acquire()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Interrupted(guard, interrupt)
    finally:
        is_over = True
        asked.release()
        thread.join()


@pytest.fixture(params=[by_signal, by_thread])
def item(request: pytest.FixtureRequest) -> Iterator[Interrupted]:
    """An item in a worker, and one in a thread."""
    with request.param() as found:
        yield found


# --- when it is raised -------------------------------------------------------------------------------------------------


def test_user_code_is_interrupted(item: Interrupted) -> None:
    """What executes in an item that is to stop is interrupted where it is."""
    passed: list[str] = []

    def work() -> None:
        try:
            item.interrupt()
            passed.append("went on")
        finally:
            passed.append("finally")

    assert item.runs(work)
    assert passed == ["finally"]
    assert item.guard.was_interrupted or isinstance(item.guard, ThreadGuard)


@pytest.mark.parametrize(("cancelled", "is_raised"), [(0, False), (EPOCH - 1, False), (EPOCH, True), (EPOCH + 1, True)])
def test_only_what_is_to_stop_is_interrupted(item: Interrupted, cancelled: int, is_raised: bool) -> None:
    """An interrupt that was meant for an earlier chunk of the lane never hits a later one."""
    item.words[CANCEL] = cancelled
    assert item.runs(item.interrupt) is is_raised


def test_nothing_is_raised_outside_of_a_chunk(item: Interrupted) -> None:
    """Before a chunk is open, and once it is shut, an interrupt does nothing; opened again it is raised again."""

    def work() -> None:
        item.guard.shut()
        item.interrupt()
        item.guard.reopen(item.words, EPOCH)
        with pytest.raises(TaskCancelled):
            item.interrupt()

    item.interrupt()
    assert not item.runs(work)
    item.interrupt()


def test_nothing_is_raised_outside_of_user_code(item: Interrupted) -> None:
    """Code that no item has called is not interrupted, though a chunk is open."""
    item.guard.open(item.words, EPOCH)
    item.interrupt()
    _call_from_ours(item.interrupt)
    item.guard.shut()


@calls_user_code
def _call_from_ours(interrupt: Callable[[], None]) -> None:
    if SIGNAL is not None:
        signal.raise_signal(SIGNAL)  # between two items


def test_it_comes_again(item: Interrupted) -> None:
    """One that was swallowed, by a callback or an `except` that is too wide, is raised again the next time."""

    def work() -> None:
        for _ in range(3):
            with pytest.raises(TaskCancelled):
                item.interrupt()
        item.interrupt()

    assert item.runs(work)


def test_each_chunk_begins_anew(item: Interrupted) -> None:
    """What an item has shielded, looked at or been told holds nothing back from the next one."""

    def work() -> None:
        offloop.shield().__enter__()
        assert offloop.is_cancelled()
        assert item.is_held_back()

    assert not item.runs(work)
    assert item.runs(item.interrupt)


# --- what is on the stack ----------------------------------------------------------------------------------------------


def named(name: object, work: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function of a module of this name that calls another one."""

    namespace: dict[str, Any] = {"work": work}
    exec("def call():\n    return work()", namespace)
    namespace["__name__"] = name
    found: Callable[[], Any] = namespace["call"]
    return found


@pytest.mark.parametrize(
    ("name", "is_held_back"),
    [
        ("importlib", True),
        ("importlib._bootstrap_external", True),
        ("_frozen_importlib", True),
        ("_frozen_importlib_external", True),
        ("logging", True),
        ("logging.handlers", True),
        ("threading", True),
        ("offloop", True),
        ("offloop.worker.task", True),
        ("offloop.wire.buffers", True),
        ("offloop.functions", False),  # what only passes calls on to the user's code
        ("offloop.deciding.seeding", False),
        ("offloop.worker.rows", False),
        ("offloop_app", False),
        ("loggings", False),
        ("app.logging", False),
        ("", False),
        (None, False),
        (7, False),
    ],
)
def test_what_holds_locks_is_left_alone(item: Interrupted, name: object, is_held_back: bool) -> None:
    """While an import, a log call, the threading module or offloop is on the stack the interrupt waits."""
    assert item.runs(named("app", named(name, item.interrupt))) is not is_held_back
    assert item.runs(named(name, named("app", item.interrupt))) is not is_held_back


def test_only_the_item_is_looked_at(item: Interrupted) -> None:
    """What has called the item, logging for instance, has nothing to do with it."""
    interrupted: list[bool] = []
    named("logging", lambda: interrupted.append(item.runs(item.interrupt)))()
    assert interrupted == [True]


def test_a_log_call_is_not_torn_apart(item: Interrupted) -> None:
    """A handler of the user's that is interrupted goes on, and what follows the log call is interrupted."""
    seen: list[bool] = []

    class Handler(logging.Handler):
        """Is interrupted as it emits."""

        def emit(self, record: logging.LogRecord) -> None:
            """Note whether that is held back."""
            seen.append(item.is_held_back())

    def work() -> None:
        logger.warning("interrupted")
        item.interrupt()

    logger = logging.Logger("of this test")
    logger.addHandler(Handler())
    assert item.runs(work)
    assert seen == [True]


def test_an_import_is_not_torn_apart(item: Interrupted, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an import executes is not interrupted, so that no half module is left."""
    seen: list[bool] = []

    class Finder:
        """Is interrupted as a module is looked for."""

        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            """Find nothing."""
            if name == "offloops_missing_module":
                seen.append(item.is_held_back())

    def work() -> None:
        with pytest.raises(ImportError):
            importlib.import_module("offloops_missing_module")
        item.interrupt()

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert item.runs(work)
    assert seen == [True]


def test_a_condition_is_not_torn_apart(item: Interrupted) -> None:
    """What the threading module calls is not interrupted, so that no lock stays taken."""
    seen: list[bool] = []
    condition = threading.Condition()

    def work() -> None:
        with condition:
            condition.wait_for(lambda: seen.append(item.is_held_back()) is None)
        item.interrupt()

    assert item.runs(work)
    assert seen == [True]


# --- what is handled ---------------------------------------------------------------------------------------------------


def test_a_finally_runs_to_its_end(item: Interrupted) -> None:
    """While an interrupt is on its way out, what cleans up is not interrupted, nor what it calls."""
    passed: list[str] = []

    class Resource:
        """Takes its time to close."""

        def __enter__(self) -> None:
            """Open it."""

        def __exit__(self, *_: object) -> None:
            """Close it."""
            item.interrupt()
            passed.append("exit")

    def clean_up() -> None:
        try:
            item.interrupt()
            raise KeyError
        except KeyError:
            item.interrupt()
            passed.append("handled")

    def work() -> None:
        try:
            with Resource():
                item.interrupt()
        except TaskCancelled:
            item.interrupt()
            passed.append("except")
            raise
        finally:
            clean_up()
            item.interrupt()
            passed.append("finally")

    assert item.runs(work)
    assert passed == ["exit", "except", "handled", "finally"]


def test_an_exception_of_the_users_is_no_shelter(item: Interrupted) -> None:
    """Code that handles an exception of its own is interrupted like any other."""

    def work() -> None:
        try:
            raise KeyError
        except KeyError:
            item.interrupt()

    assert item.runs(work)


def test_a_generator_that_is_closed_cleans_up_to_its_end(item: Interrupted) -> None:
    """What a generator does as it is closed, where an exception may be heard by nobody, is not interrupted."""
    seen: list[bool] = []

    def generate() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(item.is_held_back())

    def work() -> None:
        generator = generate()
        next(generator)
        del generator
        item.interrupt()

    assert item.runs(work)
    assert seen == [True]


def test_an_object_that_dies_cleans_up_to_its_end(item: Interrupted) -> None:
    """In `__del__`, where an exception would be swallowed with a message, nothing is raised."""
    seen: list[bool] = []

    class Resource:
        """Takes its time to go."""

        def __del__(self) -> None:
            seen.append(item.is_held_back())

    def work() -> None:
        Resource()
        item.interrupt()

    assert item.runs(work)
    assert seen == [True]


def test_a_ring_of_contexts_is_no_trap(item: Interrupted) -> None:
    """Exceptions that are each other's context are looked at once around."""
    one, two = KeyError(1), KeyError(2)

    def work() -> None:
        try:
            raise one
        except KeyError:
            one.__context__, two.__context__ = two, one
            item.interrupt()

    assert item.runs(work)
    one.__context__ = two.__context__ = None


# --- shields, and looking oneself --------------------------------------------------------------------------------------


def test_a_shield_holds_back_until_its_end(item: Interrupted) -> None:
    """Within a shield nothing is raised; at its end what was held back is, at the outermost if there are several."""
    passed: list[str] = []

    def work() -> None:
        with offloop.shield():
            item.interrupt()
            with offloop.shield():
                item.interrupt()
                offloop.checkpoint()
                passed.append("inner")
            item.interrupt()
            offloop.checkpoint()
            passed.append("outer")
        passed.append("behind")

    assert item.runs(work)
    assert passed == ["inner", "outer"]


def test_a_shield_keeps_an_exception(item: Interrupted) -> None:
    """An exception that leaves a shield is not replaced by what was held back, which comes with the next interrupt."""

    def work() -> None:
        with pytest.raises(KeyError), offloop.shield():
            raise KeyError
        with pytest.raises(TaskCancelled):
            item.interrupt()

    assert not item.runs(work)


def test_a_shield_without_a_cancellation_costs_nothing(item: Interrupted) -> None:
    """Where nothing is to stop, a shield is left as it was entered."""
    item.words[CANCEL] = 0

    def work() -> None:
        with offloop.shield():
            assert not offloop.is_cancelled()

    assert not item.runs(work)


def test_a_shield_outside_of_an_item_does_nothing() -> None:
    """Code with a shield may run anywhere."""
    with offloop.shield(), offloop.shield():
        assert not offloop.is_cancelled()


def test_what_was_told_is_left_to_stop_by_itself(item: Interrupted) -> None:
    """An item that is_cancelled has told may finish in its own way, within its grace."""

    def work() -> None:
        assert offloop.is_cancelled()
        for _ in range(3 * module._LOOKING_HOLDS):
            assert item.is_held_back()

    assert not item.runs(work)


def test_what_was_told_stops_at_a_checkpoint_all_the_same(item: Interrupted) -> None:
    """checkpoint() raises in an item that was told before."""

    def work() -> None:
        assert offloop.is_cancelled()
        offloop.checkpoint()

    assert item.runs(work)


@pytest.mark.parametrize("look", [offloop.checkpoint, offloop.is_cancelled])
def test_what_looks_has_a_head_start(item: Interrupted, look: Callable[[], object]) -> None:
    """An item that looks by itself is given time to do so again; one that then doesn't is interrupted."""
    item.words[CANCEL] = 0

    def work() -> None:
        look()
        item.words[CANCEL] = EPOCH
        for _ in range(module._LOOKING_HOLDS):
            assert item.is_held_back()
        item.interrupt()

    assert item.runs(work)


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
