"""Answering what an item in a worker asks, in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import Any

import anyio

from ..ask_error import AskError
from ..strategies.job import Answer
from ..telemetry import tell_item_abandoned
from ..wire.failures import pack_failure, safe_text, type_name
from ..wire.frames import Flag, Frame, Reply
from ..wire.pickling import dumps, function_name, loads
from ..wire.unpicklable import find_unpicklable
from .waiting import poster

Payload = Sequence[bytes | memoryview]

_STOPPED: Payload = [bytes([Reply.STOPPED])]


class Answerer:
    """Answers the questions of one call, one after another; used on the event loop of whoever leases the lane.

    Its thread starts with the first question and ends with the call. A handler can't be stopped: that its item is to stop is
    told to the item at once, and what the handler returns then is dropped.

    Args:
        answer: How the caller answers.
        loop: The event loop.
        send: Sends the answer to the question of a number.

    Attributes:
        is_busy: Whether the handler is at a question.
    """

    def __init__(self, answer: Answer, loop: Any, send: Callable[[int, Payload], None]) -> None:
        self._answer, self._loop, self._send = answer, loop, send
        self._questions: SimpleQueue[tuple[int, bytes | memoryview] | None] = SimpleQueue()
        self._waiting: dict[int, bool] = {}  # questions whose items wait, by number: whether nothing stops them there
        self._n_given = 0  # to the thread, and not come back
        self._thread: threading.Thread | None = None
        self._news: anyio.Event | None = None  # for who waits for the handler
        self._is_left = False
        self._grace_s, self._deadline = 0.0, inf  # for how long the handler is waited for

    @property
    def is_busy(self) -> bool:
        """Whether the handler is at a question."""
        return self._n_given > 0 and not self._is_left

    def ask(self, frame: Frame, *, is_to_stop: bool) -> None:
        """Take in a question; of an item that is to stop only where nothing stops it."""
        number, is_held = frame.header.start, bool(frame.header.flags & Flag.HELD)
        if self._is_left or (is_to_stop and not is_held):
            self._send(number, _STOPPED)
            return
        try:
            self._start()
        except RuntimeError as error:  # no room for another thread
            self._send(number, _failed(AskError(f"its thread could not be started: {error}", "look at ulimit -u")))
            return
        self._waiting[number] = is_held
        self._n_given += 1
        self._questions.put((number, frame.payload))

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="offloop-answer", daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            number, payload = question
            replied = _replied(payload, self._answer) if number in self._waiting else None
            del question, payload
            try:
                poster(self._loop)(self._arrived, number, replied)
            except RuntimeError:  # its loop is closed
                return
            del replied

    def _arrived(self, number: int, replied: Payload | None) -> None:
        self._n_given -= 1
        if self._is_left:
            return
        if self._waiting.pop(number, None) is not None and replied is not None:
            self._send(number, replied)
        self.wake()

    def stop(self, deadline: float, grace_s: float) -> None:
        """Tell the item, which is to stop, to wait no more, unless nothing stops it where it asks.

        Args:
            deadline: How long the handler is waited for, by the monotonic clock; an earlier one holds.
            grace_s: How long that is from when the item was to stop.
        """
        self._grace_s, self._deadline = grace_s, min(self._deadline, deadline)
        for number in [number for number, is_held in self._waiting.items() if not is_held]:
            del self._waiting[number]
            self._send(number, _STOPPED)

    async def over(self) -> None:
        """Wait until the handler has returned, or is left since its time is over; or until `wake`."""
        if not self.is_busy:
            return
        self._news = anyio.Event()
        with anyio.move_on_after(self._deadline - monotonic()):
            await self._news.wait()
        if self.is_busy and monotonic() >= self._deadline:
            tell_item_abandoned(f"answer={function_name(self._answer.handler)}", None, self._grace_s)
            self.leave()

    def wake(self) -> None:
        """Have `over` return."""
        if self._news is not None:
            self._news.set()

    def leave(self) -> None:
        """Let the thread end, once its handler does; nothing of it is sent any more. Idempotent."""
        self._is_left = True
        self._waiting.clear()
        self._questions.put(None)


def _replied(payload: bytes | memoryview, answer: Answer) -> Payload:
    """Call the handler, and make what comes of it ready to travel."""
    try:
        question = loads(payload)
    except BaseException as error:
        why = f"unpickling the question at the caller's raised {type_name(error)}: {safe_text(error)}"
        return _failed(AskError(why, "ask with plain data"))
    try:
        value = answer.to(question)
    except BaseException as error:
        return _failed(error)
    try:
        return [bytes([Reply.VALUE]), dumps(value)]
    except BaseException:
        path, kind = find_unpicklable(value, "answer")
        return _failed(AskError(f"the answer can't be pickled: {path}  ({kind})", "answer with plain data"))


def _failed(error: BaseException) -> Payload:
    return [bytes([Reply.RAISED]), dumps(tuple(pack_failure(error)))]

