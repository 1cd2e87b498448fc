"""The worker's side of a lane: one long task that reads frames, executes chunks and writes outcomes.

All that a worker process imports is here and below: the standard library, cloudpickle and offloop's vocabulary.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from time import monotonic_ns
from typing import Any, NoReturn

from ..errors import WorkerInitError
from ..wire import status_page
from ..wire.buffers import FILE_BYTES, Packer, Received, Unreadable, forget, keep
from ..wire.descriptors import above_standard_streams, complete_standard_streams
from ..wire.failures import pack_failure, safe_text, type_name, unpicklable_result, unreadable_item
from ..wire.frames import NOT_WATCHED, Flag, Frame, Header, Kind, Refusal, pack_header
from ..wire.functions import segments_of, unpack_function
from ..wire.memory import MemoryFile
from ..wire.pickling import (
    DIGEST_SIZE,
    StaleFunction,
    describe_function,
    dumps,
    dumps_plain,
    function_name,
    is_plain,
    loads,
    travels_by_name,
)
from ..wire.storage import Storage
from . import task as this_task
from .asking import Questions
from .capturing import capture, capture_structlog
from .channel import Channel
from .context import NO_CONTEXT, Context, bind
from .execute import Rest, execute
from .gil import GilWatch
from .interrupt import Guard
from .last_words import leave_in
from .lifeline import arm
from .limits import all_cores, inner_threads, limit_loaded
from .output import Output
from .recycling import Recycling
from .task import Task
from .wiring import Wiring

_LEAST_PRIORITY = 19  # see setpriority(2)
_BROKEN = 70  # exit code of a worker whose own code failed: EX_SOFTWARE of sysexits.h
_MAX_LOADED = 16  # runs whose function is kept unpickled; runs that take turns on a lane are few

_NOTHING = (0, 0, NOT_WATCHED)  # measured: longest item, longest stall, how the GIL was held

_lane: socket.socket
_page: memoryview
_storage: Storage


def prepare(wiring: Wiring, nice: int, storage: tuple[str, str | None]) -> None:
    """Tie a new process to its parent; loky's initializer, so the first thing that runs in it.

    Args:
        wiring: How to get hold of the lane and the lifeline.
        nice: How much to lower the scheduling priority.
        storage: Where large buffers go that it sends back; arguments of `Storage`.
    """
    global _lane, _page, _storage
    lane, lifeline = map(above_standard_streams, wiring.connect())
    complete_standard_streams()
    arm(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if nice:
        os.nice(min(nice, _LEAST_PRIORITY))
    lane.setblocking(True)
    _lane = lane
    _page, text = wiring.open_page(lane)
    leave_in(text)
    _storage = Storage(*storage, trusts=True)
    _lifelines.append(lifeline)
    os.register_at_fork(after_in_child=_release)
    this_task.is_worker_process = True


_lifelines: list[socket.socket] = []  # kept open for as long as the process lives


def _release() -> None:
    """In a process forked by user code: let go of what ties the worker to its parent."""
    _lane.close()
    for lifeline in _lifelines:
        lifeline.close()


def serve(init: bytes | None, idle_timeout_s: float, recycling: Recycling, levels: Mapping[str, int]) -> NoReturn:
    """Execute chunks until the parent closes the lane, or nothing has come for `idle_timeout_s`; ends the process.

    Args:
        init: The pickled worker_init and its arguments.
        idle_timeout_s: How long to wait for work.
        recycling: When this process is to be replaced.
        levels: Of the parent's loggers, see `capture`.
    """
    try:
        _serve(init, idle_timeout_s, recycling, levels)
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
        os._exit(_BROKEN)
    _flush_output()
    os._exit(0)  # at once: its executor is of no more use, and the parent waits for nothing else


def _serve(init: bytes | None, idle_timeout_s: float, recycling: Recycling, levels: Mapping[str, int]) -> None:
    output = Output(Channel(_lane, _storage), _page)
    os.register_at_fork(after_in_child=output.leave_behind)
    capture(output, levels)
    try:
        _answer_and_execute(output, init, idle_timeout_s, recycling)
    except SystemExit:
        raise
    except BaseException:
        output.give_up()  # what is said of it goes where this process's output went before
        raise


def _answer_and_execute(output: Output, init: bytes | None, idle_timeout_s: float, recycling: Recycling) -> None:
    channel = output.channel
    channel.send(Kind.HELLO)
    limit_loaded()  # before worker_init, so that what it sets on purpose holds
    state = _initialize(output, init) if init is not None else None
    channel.send(Kind.READY)
    channel.limit_idleness(idle_timeout_s)
    worker = Worker(output, _page, state, recycling)
    while (frame := channel.receive()) is not None:
        worker.handle(frame)


def _initialize(output: Output, init: bytes) -> Any:
    name = "worker_init"
    output.begin()
    try:
        worker_init, args = loads(init)
        name = function_name(worker_init)
        state = worker_init(*args)
    except BaseException as error:
        wrapped = WorkerInitError(name, f"{type_name(error)}: {safe_text(error)}")
        wrapped.__cause__ = error
        output.end()
        output.channel.send(Kind.INIT_FAILED, dumps(tuple(pack_failure(wrapped))), flags=Flag.PLAIN)
        raise SystemExit from None
    output.end()
    return state


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue


class Worker:
    """Handles the frames of one lane; is itself where a chunk's outcomes go."""

    def __init__(self, output: Output, words: memoryview, state: Any, recycling: Recycling) -> None:
        self._output, self._channel = output, output.channel
        self._context: Context = NO_CONTEXT  # the caller's
        self._words = words
        self._state = state
        self._recycling, self._is_limited = recycling, any(recycling)
        self._guard = Guard()
        self._guard.install()
        self._functions: dict[bytes, bytes] = {}  # by digest; the parent drives what is kept
        self._segments: dict[bytes, set[int]] = {}  # that they refer to, for those that do
        self._named: dict[bytes, Callable[..., Any]] = {}
        self._loaded: OrderedDict[tuple[int, bytes], Callable[..., Any]] = OrderedDict()
        self._task: Header
        self._fn: Callable[..., Any]  # what is executed
        self._last = _NOTHING

    def handle(self, frame: Frame) -> None:
        """Act on one frame from the parent."""
        kind, payload = frame.header.kind, frame.payload
        if kind == Kind.TASK:
            self._execute(frame.header, payload)
        elif kind == Kind.FUNCTION:
            digest, data = bytes(payload[:DIGEST_SIZE]), bytes(payload[DIGEST_SIZE:])
            self._functions[digest] = data
            if segments := segments_of(data):
                self._segments[digest] = segments
        elif kind == Kind.CONTEXT:
            self._context = loads(payload) if payload else NO_CONTEXT
        elif kind == Kind.FORGET:
            self._forget(bytes(payload))
        elif kind == Kind.KEEP:
            self._keep(payload)
        elif kind == Kind.DROP:
            self._drop(frame.header.start)
        elif kind != Kind.REPLY:  # to a question that its item has left
            raise RuntimeError(f"a frame of kind {kind} has no meaning for a worker")

    def _forget(self, digest: bytes) -> None:
        self._functions.pop(digest, None)
        self._named.pop(digest, None)
        self._segments.pop(digest, None)

    def _keep(self, introduction: bytes | memoryview) -> None:
        try:
            keep(introduction, self._channel.open_file)
        except OSError:  # what needs it fails, and says so
            return

    def _drop(self, number: int) -> None:
        """Let go of a segment and of all that was made from it."""
        forget(number)
        for digest in [digest for digest, segments in self._segments.items() if number in segments]:
            self._forget(digest)
            for key in [key for key in self._loaded if key[1] == digest]:
                del self._loaded[key]

    def _execute(self, header: Header, payload: bytes | memoryview) -> None:
        self._task = header
        self._output.begin()
        if self._words[status_page.SPENT]:
            self._finish(Rest(header.start, [], 0))
            return
        self._note(status_page.LOADING)
        try:
            fn = self._function(header.run, bytes(payload[:DIGEST_SIZE]))
        except StaleFunction:
            self._refuse(Refusal.STALE)
            return
        except BaseException as error:
            self._refuse(Refusal.NO_FUNCTION, dumps(tuple(pack_failure(error))))
            return
        self._note(status_page.UNPACKING)
        body = memoryview(payload)[DIGEST_SIZE:]
        try:
            is_apart = header.flags & Flag.PARTS
            items = Received(body, self._channel.open_file) if is_apart else loads(body)
        except BaseException as error:
            self._unreadable(describe_function(fn), error)
            return
        self._fn = fn
        try:
            bind(self._context)
            capture_structlog(self._output)
            with inner_threads(all_cores()) if header.flags & Flag.ALONE else nullcontext():
                rest = execute(
                    fn,
                    items,
                    start=header.start,
                    flags=header.flags,
                    budget_ns=header.duration_ns,
                    task=Task(self._words, header.epoch, self._state, True, self._guard, self._asked_by(header)),
                    emit=self,
                    most=self._recycling.items_left(self._words[status_page.DONE]) if self._is_limited else None,
                    watch=GilWatch() if header.flags & Flag.WATCH else None,
                )
        finally:
            bind(NO_CONTEXT)
            _flush_output()
        if self._guard.was_interrupted or self._is_limited:
            spent = self._recycling.spent(self._words[status_page.DONE])
            self._words[status_page.SPENT] = self._guard.damage() or spent
        self._finish(rest)

    def _asked_by(self, header: Header) -> Callable[[Any, bool], Any] | None:
        return Questions(self._output, header).ask if header.flags & Flag.ANSWERED else None

    def _note(self, phase: int) -> None:
        """Tell on the status page what comes before the first item."""
        self._words[status_page.SINCE] = monotonic_ns()
        self._words[status_page.ITEM] = status_page.item_base(self._task.epoch) | phase

    def _function(self, run: int, digest: bytes) -> Callable[..., Any]:
        """Return the function of a run: one that travels by its name is the module's own, others are the run's own."""
        fn = self._named.get(digest)
        if fn is not None:
            return fn
        key = (run, digest)
        fn = self._loaded.get(key)
        if fn is None:
            fn = unpack_function(self._functions[digest])
            if travels_by_name(fn):
                self._named[digest] = fn
                return fn
            self._loaded[key] = fn
            if len(self._loaded) > _MAX_LOADED:
                self._loaded.popitem(last=False)
        return fn

    def _unreadable(self, function: str, error: BaseException) -> None:
        """Items that can't be rebuilt together are sent again one by one; a single one fails."""
        if self._task.n_items > 1:
            self._refuse(Refusal.UNREADABLE)
            return
        index = self._task.start
        self.failure(index, unreadable_item(index, function, error))
        self._finish(Rest(index + 1, [], 0))

    def _refuse(self, why: int, detail: bytes = b"") -> None:
        self._answer(Kind.REFUSED, bytes([why]) + detail, Flag.LAST)

    def _answer(
        self,
        kind: int,
        data: bytes | list[bytes | memoryview],
        flags: int,
        start: int = 0,
        count: int = 0,
        elapsed_ns: int = 0,
        measured: tuple[int, int, int] = _NOTHING,
        file: MemoryFile | None = None,
    ) -> None:
        task = self._task
        longest_ns, stall_ns, held_pct = measured
        if flags & Flag.LAST:
            self._output.end()
        else:
            self._output.flush()
        pieces = [data] if isinstance(data, bytes) else data
        header = pack_header(
            kind,
            sum(map(len, pieces)),
            flags,
            task.run,
            task.epoch,
            start,
            count,
            elapsed_ns,
            longest_ns=longest_ns,
            stall_ns=stall_ns,
            gil_held_pct=held_pct,
            n_files=len(file.fds) if file is not None and file.path is None else 0,
        )
        self._channel.write(header, pieces, file)

    def _finish(self, rest: Rest) -> None:
        """Send the last outcomes of a chunk, and what was measured of it."""
        held_pct = NOT_WATCHED if rest.gil_held is None else round(100 * rest.gil_held)
        self._last = (rest.longest_ns, rest.stall_ns, held_pct)
        self.values(rest.start, rest.values, rest.elapsed_ns, Flag.LAST)

    def gather(self, start: int, values: list[Any]) -> None:
        """Do nothing: the parent sees the status page alone."""

    def values(self, start: int, values: list[Any], elapsed_ns: int, flags: int = 0) -> None:
        """Send what consecutive items returned: together where that is plain, else each in bytes of its own."""
        if self._is_limited and not flags & Flag.LAST:
            self._words[status_page.SPENT] = self._recycling.spent(0)
        if is_plain(values):
            self._send(dumps_plain(values), start, len(values), elapsed_ns, flags | Flag.PLAIN)
            return
        packer = Packer()
        for index, value in enumerate(values, start):
            try:
                packer.add(value)
            except BaseException as error:
                if packer.parts:
                    self._send_apart(packer, index - len(packer.parts), elapsed_ns)
                    packer = Packer()
                self.failure(index, unpicklable_result(index, value, describe_function(self._fn), error))
        self._send_apart(packer, start + len(values) - len(packer.parts), elapsed_ns, flags)

    def _send_apart(self, packer: Packer, start: int, elapsed_ns: int, flags: int = 0) -> None:
        goes_apart = packer.n_bytes >= FILE_BYTES and not self._task.flags & Flag.INLINE
        file = packer.store(_storage) if goes_apart else None
        payload = packer.message(file).payload()
        self._send(payload, start, len(packer.parts), elapsed_ns, flags | Flag.PARTS, file)

    def _send(
        self,
        data: bytes | list[bytes | memoryview],
        start: int,
        count: int,
        elapsed_ns: int,
        flags: int,
        file: MemoryFile | None = None,
    ) -> None:
        measured = self._last if flags & Flag.LAST else _NOTHING
        self._answer(Kind.VALUES, data, flags, start, count, elapsed_ns, measured, file)

    def failure(self, index: int, error: BaseException) -> None:
        """Send what one item raised."""
        if isinstance(error, Unreadable) and error.__cause__ is not None:
            error = unreadable_item(index, describe_function(self._fn), error.__cause__)
        payload = dumps(tuple(pack_failure(error)))
        self._answer(Kind.FAILURE, payload, Flag.PLAIN, index, 1)
