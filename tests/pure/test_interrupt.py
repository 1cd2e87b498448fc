"""worker/interrupt.py: where an interrupt is raised, and where it is held back."""

from __future__ import annotations

import _thread
import importlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import offloop
from offloop.errors import TaskCancelled
from offloop.wire.status_page import CANCEL, ITEM, LATE, SIZE, item_base, new_page
from offloop.worker import interrupt as module
from offloop.worker.interrupt import SIGNAL, ThreadGuard, calls_user_code

from .interrupted import EPOCH, Interrupted, by_signal, by_thread, named


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


@pytest.mark.parametrize(("executed", "is_raised"), [(12, False), (13, True), (14, False)])
def test_only_the_item_that_is_late_is_interrupted(item: Interrupted, executed: int, is_raised: bool) -> None:
    """An interrupt that was meant for an item of the chunk never hits another one."""
    item.words[CANCEL] = 0
    item.words[LATE] = item_base(EPOCH) + 13
    item.words[ITEM] = item_base(EPOCH) + executed
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


def test_a_thread_that_an_item_has_just_started_is_no_trap() -> None:
    """An interrupt that is on its way when the chunk ends is taken back, though a thread is starting meanwhile."""
    guard = ThreadGuard()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1.0)  # so that what is started begins late
    try:
        for _ in range(5):
            guard.open(new_page(bytearray(SIZE)), EPOCH)
            guard.was_interrupted = True
            _thread.start_new_thread(time.sleep, (0,))  # of C, so that nothing can be raised in it
            guard.shut()
    finally:
        sys.setswitchinterval(before)
    assert not guard.was_interrupted


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


@pytest.mark.parametrize("clause", ["finally", "except"])
def test_a_shield_in_a_cleanup_lets_it_go_on(item: Interrupted, clause: str) -> None:
    """What TaskCancelled has led to runs to its end, shields in it and behind them included."""
    passed: list[str] = []

    def clean_up() -> None:
        for step in ("one", "two"):
            with offloop.shield():
                item.interrupt()
            passed.append(step)

    def work() -> None:
        try:
            item.interrupt()
        except TaskCancelled:
            if clause == "except":
                clean_up()
            raise
        finally:
            if clause == "finally":
                clean_up()

    assert item.runs(work)
    assert passed == ["one", "two"]


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
