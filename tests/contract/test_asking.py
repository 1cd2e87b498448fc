"""Asking the caller: what a handler gets and gives, and what happens where there is none, from every strategy."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

import inquisitive as q
import offloop
import workloads as w

pytestmark = pytest.mark.anyio

GRACE_S = 0.3
MARGIN_S = 0.5 + 1.5  # the promise, and what two busy cores may add to it

request_id: ContextVar[str] = ContextVar("request_id", default="none")


@pytest.fixture
def events() -> Iterator[list[offloop.Event]]:
    """What is told meanwhile."""
    told: list[offloop.Event] = []
    remove = offloop.add_sink(told.append)
    yield told
    remove()


class Blocking:
    """A handler that blocks until it is let go on; then it returns the question."""

    def __init__(self) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self.is_over = False

    def __call__(self, question: Any) -> Any:
        self.begun.set()
        self.may_go_on.wait(30)
        self.is_over = True
        return question

    async def has_begun(self) -> None:
        with anyio.fail_after(20):
            while not self.begun.is_set():
                await anyio.sleep(0.002)


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_the_handler_answers(session: offloop.ParallelSession) -> None:
    """What the handler returns, in the caller's process and off its event loop, is what `ask` returns."""
    loops_thread = threading.get_ident()

    def handler(question: Any) -> Any:
        assert threading.get_ident() != loops_thread
        return question, os.getpid()

    assert await session.run(q.ask, {"a": [1, 2.5]}, answer=handler) == ({"a": [1, 2.5]}, os.getpid())


@pytest.mark.one_loop
async def test_questions_are_answered_one_after_another(session: offloop.ParallelSession) -> None:
    """All questions of an item come, in their order; None is an answer too."""
    asked: list[Any] = []
    assert await session.run(q.ask_each, list(range(20)), answer=asked.append) == [None] * 20
    assert asked == list(range(20))


async def test_each_call_has_its_own_handler(session: offloop.ParallelSession) -> None:
    """Calls of one function that are under way together are answered each by its own handler, and keep none for later ones."""
    answers: dict[int, Any] = {}

    async def call(number: int) -> None:
        answers[number] = await session.run(q.ask_each, [1, 2], answer=lambda question: (number, question))

    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(call, number)
    assert answers == {number: [(number, 1), (number, 2)] for number in range(6)}
    with pytest.raises(offloop.AskError, match="nobody to answer it"):
        await session.run(q.ask_each, [1, 2])


@pytest.mark.one_loop
async def test_the_handler_has_the_callers_context(session: offloop.ParallelSession) -> None:
    """The handler finds the context variables of the call."""
    request_id.set("7f3a")
    assert await session.run(q.ask, 0, answer=lambda question: request_id.get()) == "7f3a"


@pytest.mark.one_loop
@pytest.mark.parametrize("error", [KeyError("no"), OSError(2, "gone"), StopIteration(3), SystemExit(4), KeyboardInterrupt(), q.Late("x", 5)])
async def test_what_the_handler_raises_is_raised_there(session: offloop.ParallelSession, error: BaseException) -> None:
    """`ask` raises the handler's exception as itself, whatever it is; over a lane its notes tell where it comes from."""

    def handler(question: Any) -> Any:
        raise error  # in the handler

    text, notes = await session.run(q.ask_and_catch, 0, answer=handler)
    assert text == repr(error)
    if session.config.strategy == "processes":
        assert "raise error  # in the handler" in notes[-1]


@pytest.mark.one_loop
async def test_what_fn_does_not_catch_is_its_own_failure(session: offloop.ParallelSession) -> None:
    """A handler's exception that passes through fn fails the call like one of fn's own."""

    def handler(question: Any) -> Any:
        raise w.OwnError("not this one")

    with pytest.raises(w.OwnError, match="not this one") as caught:
        await session.run(q.ask, 0, answer=handler)
    assert "ask" in "".join(caught.value.__notes__)


async def test_large_questions_and_answers(session: offloop.ParallelSession) -> None:
    """What is larger than any buffer between the two passes in both directions, from several calls at once."""
    question = b"q" * 3_000_000

    async def call() -> None:
        assert await session.run(q.ask, question, answer=lambda got: got[:10] + b"a" * 5_000_000) == b"q" * 10 + b"a" * 5_000_000

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)


async def test_the_handler_may_start_runs(session: offloop.ParallelSession) -> None:
    """A handler may have the caller's event loop make calls of the same session, and wait for them."""
    if session.config.strategy == "processes" and len(session.statistics().workers) < 2:
        pytest.skip("one usable core")
    token = anyio.lowlevel.current_token()

    def handler(question: int) -> int:
        doubled: int = anyio.from_thread.run(session.run, w.double, question, token=token)
        return doubled

    with anyio.fail_after(20):
        assert await session.run(q.ask_each, [1, 2], answer=handler) == [2, 4]


async def test_what_was_printed_before_comes_before(workers: offloop.ParallelSession, events: list[offloop.Event]) -> None:
    """What an item says before it asks has been heard when its question comes."""
    heard = await workers.run(q.tell_then_ask, "before", answer=lambda _: [getattr(event, "text", "") for event in events])
    assert "before" in heard


# --- no answers ------------------------------------------------------------------------------------------------------


@pytest.mark.one_loop
async def test_without_a_handler(session: offloop.ParallelSession) -> None:
    """Without `answer=` a question is an error that says what to write, in maps too."""
    with pytest.raises(offloop.AskError, match="answer=handler"):
        await session.run(q.ask, 0)
    with pytest.raises(offloop.AskError, match="answer=handler"):
        await session.run_parallel(q.ask, [1, 2])


def test_outside_of_an_item() -> None:
    """Outside of an item a question is an error."""
    with pytest.raises(offloop.AskError, match="outside of an item"):
        offloop.ask("anybody there?")


@pytest.mark.one_loop
async def test_in_another_thread(session: offloop.ParallelSession) -> None:
    """A thread that fn starts can't ask."""
    assert "outside of an item" in await session.run(q.ask_elsewhere, 0, answer=w.echo)


@pytest.mark.one_loop
async def test_a_handler_can_not_ask(session: offloop.ParallelSession) -> None:
    """A handler that asks gets an error; the item that waits gets what it makes of it."""
    text, _ = await session.run(q.ask_and_catch, 0, answer=offloop.ask)
    assert "by a handler" in text


@pytest.mark.one_loop
@pytest.mark.parametrize("handler", [7, "handler"])
async def test_what_is_no_function_is_refused(workers: offloop.ParallelSession, handler: Any) -> None:
    """What can't be called is refused at once."""
    with pytest.raises(offloop.SettingTypeError, match="answer="):
        await workers.run(q.ask, 0, answer=handler)


async def test_an_async_handler_is_refused(workers: offloop.ParallelSession) -> None:
    """An async handler is refused with what to write instead."""

    async def handler(question: Any) -> Any:
        return question

    with pytest.raises(offloop.SettingTypeError, match="from_thread"):
        await workers.run(q.ask, 0, answer=handler)


# --- stopping --------------------------------------------------------------------------------------------------------


async def cancel_while_asked(session: offloop.ParallelSession, handler: Blocking, path: str) -> None:
    """Begin a call that asks, and cancel it once its handler is called; returns when the call has."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run, q.ask_and_note, path, answer=handler, grace_s=10.0))
        await handler.has_begun()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            if session.config.strategy == "processes":
                await w.appears(f"{path}.stopped")
                assert not handler.is_over
            await anyio.wait_all_tasks_blocked()  # the call is being stopped
            handler.may_go_on.set()


async def test_cancelling_waits_for_the_handler(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """An item in a worker that waits for its answer stops at once when cancelled; the call returns when the handler has too."""
    path, handler = f"{tmp_path}/run", Blocking()
    before = session.statistics().workers
    await cancel_while_asked(session, handler, path)
    assert handler.is_over
    assert w.lines(Path(f"{path}.stopped")) == ["TaskCancelled"]
    assert session.statistics().workers == before
    assert await session.run(q.ask, 2, answer=w.double) == 4


async def test_a_handler_that_never_ends_is_left(
    anyio_backend: object, strategy: str, tmp_path: Path, events: list[offloop.Event]
) -> None:
    """Cancelling waits for a handler no longer than grace; it is left and told of, and the session goes on."""
    handler = Blocking()
    try:
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
            cancelled_at = 0.0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(session.run, q.ask, 0, answer=handler, grace_s=GRACE_S))
                await handler.has_begun()
                cancelled_at = anyio.current_time()
                tasks.cancel_scope.cancel()
            assert GRACE_S / 2 < anyio.current_time() - cancelled_at < GRACE_S + MARGIN_S
            assert [event.event for event in events].count("item.abandoned") == 1
            with anyio.fail_after(10):
                assert await session.run(q.ask, 2, answer=w.double) == 4
    finally:
        handler.may_go_on.set()
    with anyio.fail_after(10):
        while not handler.is_over:
            await anyio.sleep(0.002)


@pytest.mark.parametrize("fn", [q.ask_at_the_end, q.ask_shielded, q.ask_once_told])
async def test_questions_of_a_clean_up_are_answered(session: offloop.ParallelSession, tmp_path: Path, fn: Any) -> None:
    """In ``finally``, in a shield, and once it was told that it is to stop, an item still gets answers."""
    path, asked = f"{tmp_path}/run", []

    def handler(question: Any) -> str:
        asked.append(question)
        return "answered"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run, fn, path, answer=handler, grace_s=10.0))
        await w.appears(f"{path}.began")
        tasks.cancel_scope.cancel()
    assert w.lines(Path(f"{path}.answer")) == ["answered"]
    assert len(asked) == 1


async def test_a_shielded_question_outlasts_the_cancelling(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A question asked in a shield before the cancelling gets its answer; the item stops at the end of the shield."""
    path, handler = f"{tmp_path}/run", Blocking()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run, q.ask_shielded, path, answer=handler, grace_s=10.0))
        await handler.has_begun()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()  # the call is being stopped
            handler.may_go_on.set()
    assert w.lines(Path(f"{path}.answer")) == ["shielded"]
    assert w.lines(Path(f"{path}.stopped")) == ["cancelled"]


async def test_a_cancelled_item_asks_no_more(session: offloop.ParallelSession, tmp_path: Path) -> None:
    """A question after the cancelling stops the item in place of being asked."""
    path, asked = f"{tmp_path}/run", []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(session.run, q.ask_too_late, path, answer=asked.append, grace_s=10.0))
        await w.appears(f"{path}.began")
        tasks.cancel_scope.cancel()
    assert asked == []


async def test_waiting_counts_as_executing(workers: offloop.ParallelSession, tmp_path: Path) -> None:
    """The time that an item waits for an answer counts against its limit; it stops then, and its worker stays."""
    path, handler = f"{tmp_path}/run", Blocking()
    before = workers.statistics().workers
    timer = threading.Timer(0.5, handler.may_go_on.set)
    timer.start()
    with pytest.raises(offloop.ItemTimeout):
        await workers.run(q.ask_and_note, path, answer=handler, timeout_s=0.1, grace_s=10.0)
    timer.join()
    assert handler.is_over
    assert w.lines(Path(f"{path}.stopped")) == ["TaskCancelled"]
    assert workers.statistics().workers == before


async def test_closing_the_session_waits_for_the_handler(anyio_backend: object, strategy: str) -> None:
    """A session that is closed while a handler is at a question ends the call, and waits for the handler as a cancel does."""
    handler, errors = Blocking(), []

    async def call() -> None:
        try:
            await session.run(q.ask, 0, answer=handler, grace_s=10.0)
        except offloop.SessionClosedError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        async with offloop.ParallelSession(strategy=strategy, workers=1) as session:
            tasks.start_soon(call)
            await handler.has_begun()
            threading.Timer(0.1, handler.may_go_on.set).start()
    assert handler.is_over
    assert len(errors) == 1
