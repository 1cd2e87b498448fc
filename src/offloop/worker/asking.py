"""Asking the caller: a question of an item, over the lane or to a handler in this process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from itertools import count
from typing import Any, NoReturn

from ..ask_error import AskError
from ..errors import TaskCancelled
from ..wire.failures import PackedFailure, safe_text, type_name
from ..wire.frames import Flag, Frame, Header, Kind, Reply, pack_header
from ..wire.pickling import dumps, loads
from ..wire.status_page import SIZE, new_page
from ..wire.unpicklable import find_unpicklable
from .channel import no_signals
from .interrupt import Guard, cleans_up
from .output import Output
from .task import Task, current

_numbers = count(1)  # of the questions of this process


def ask(question: Any) -> Any:
    """Ask the caller of this item, and return the answer: what the call's ``answer=`` handler returns.

        def handler(question): ...
        await session.run(fn, *args, answer=handler)

    The handler is called in a thread of the caller's process while the item waits; where fn executes in that process, in the
    item's own thread. Question and answer travel by pickle; in one process they may be the very objects. An item that runs
    again, since its worker died, asks again.

    An item that is cancelled while it waits stops waiting at once. In `shield`, in a ``finally`` block that the cancelling
    has led to, and once `is_cancelled` has told, questions are still asked and answered, until ``grace_s`` is over.

    Args:
        question: Anything that can be pickled.

    Raises:
        Exception: What the handler raised, as itself.
        AskError: The call has no ``answer=``; this is no item's own thread; question or answer can't travel.
        TaskCancelled: The item is to stop.
    """
    task = current.task
    if task is None:
        raise AskError(
            "it was asked outside of an item, or in a thread or process that fn has started",
            "call offloop.ask in fn itself, in the thread that executes it",
        )
    if task.ask is None:
        raise AskError(
            "the call that executes fn has nobody to answer it", "write `await session.run(fn, ..., answer=handler)`"
        )
    is_held = bool(task.guard.n_shields or task.guard.is_told or cleans_up(sys.exc_info()[1]))
    if task.is_cancelled and not is_held:
        raise TaskCancelled
    try:
        return task.ask(question, is_held)
    finally:
        if task.is_cancelled and not is_held:
            raise TaskCancelled


def _of_a_handler(question: Any, is_held: bool) -> NoReturn:
    raise AskError("it was asked by a handler, which is there to answer", "have the handler return what it wants to tell")


# What a handler runs in, wherever that is: nothing stops it, and it can't ask.
AT_THE_CALLERS = Task(new_page(bytearray(SIZE)), 1, None, False, Guard(), _of_a_handler)


class Questions:
    """The way of a chunk's questions over the lane; called in the worker's main thread.

    Args:
        output: The worker's; what was said before a question is told before it.
        header: Of the chunk.
    """

    def __init__(self, output: Output, header: Header) -> None:
        self._output, self._channel, self._header = output, output.channel, header
        self._process, self._is_waiting = os.getpid(), False

    def ask(self, question: Any, is_held: bool) -> Any:
        """Send a question, wait for the answer and return it; see `ask`."""
        if os.getpid() != self._process:
            raise AskError("it was asked in a process that was forked in fn", "ask in the process that executes fn")
        if self._is_waiting or self._channel.is_writing:
            raise AskError(
                "it was asked by a signal handler or a finalizer, in the middle of what goes over the lane", "ask in fn itself"
            )
        data = _packed(question)
        self._is_waiting = True
        try:
            reply = self._reply_to(data, Flag.HELD if is_held else 0)
        finally:
            self._is_waiting = False
        if reply is None:
            os._exit(0)  # the parent has closed the lane: nobody is there for what this item does
        kind, payload = reply.payload[0], memoryview(reply.payload)[1:]
        if kind == Reply.STOPPED:
            raise TaskCancelled
        if kind == Reply.RAISED:
            raise _error_of(PackedFailure(*loads(payload)))
        return _answer_in(payload)

    def _reply_to(self, data: bytes, flags: int) -> Frame | None:
        number = next(_numbers)
        header = pack_header(Kind.CALL, len(data), flags, self._header.run, self._header.epoch, number)
        self._output.flush()
        with no_signals():
            self._channel.write(header, [data])
        while True:
            reply = self._channel.receive_reply()
            if reply is None or reply.header.start == number:  # else it is to a question that was left
                return reply


def _packed(question: Any) -> bytes:
    try:
        return dumps(question)
    except Exception as error:
        path, kind = find_unpicklable(question, "question")
        raise AskError(f"the question can't be pickled: {path}  ({kind})", "ask with plain data") from error


def _answer_in(payload: memoryview) -> Any:
    try:
        return loads(payload)
    except Exception as error:
        why = f"unpickling the answer in the worker raised {type_name(error)}: {safe_text(error)}"
        raise AskError(why, "answer with plain data") from error


def _error_of(packed: PackedFailure) -> BaseException:
    """Return what the handler raised, as itself where it can be rebuilt."""
    found: object = None
    try:
        found = loads(packed.data) if packed.data is not None else None
    except BaseException:  # whatever its class does: it is told below
        found = None
    if isinstance(found, BaseException):
        error = found
    else:
        why = f"the handler raised {packed.type_name}: {packed.message}"
        error = AskError(why, "have it raise an exception that can be pickled, to get that itself")
    if packed.remote_traceback:
        with suppress(Exception):  # one that takes no notes goes without
            error.add_note(f"offloop: in the handler, at the caller's\n{packed.remote_traceback}")
    return error
