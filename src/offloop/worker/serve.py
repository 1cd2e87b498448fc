"""The worker's side of a lane: one long task that reads frames, executes chunks and writes outcomes.

All that a worker process imports is here and below: the standard library, cloudpickle and offloop's vocabulary.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NoReturn

from ..errors import WorkerInitError
from ..wire import status_page
from ..wire.failures import pack_failure, safe_text, type_name, unpicklable_result, unreadable_item
from ..wire.frames import NOT_WATCHED, Flag, Frame, FrameReader, Header, Kind, Refusal, pack_header
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
    unpack_function,
)
from . import task as this_task
from .execute import Rest, execute
from .gil import GilWatch
from .lifeline import arm
from .limits import all_cores, inner_threads, limit_loaded
from .task import Task

_BROKEN = 70  # exit code of a worker whose own code failed: EX_SOFTWARE of sysexits.h
_MAX_LOADED = 16  # runs whose function is kept unpickled; runs that take turns on a lane are few

_NOTHING = (0, 0, NOT_WATCHED)  # measured: longest item, longest stall, how the GIL was held

_lane: socket.socket


def prepare(lane: socket.socket, lifeline: socket.socket, inherited: tuple[int, ...], nice: int) -> None:
    """Tie a new process to its parent; loky's initializer, so the first thing that runs in it.

    Args:
        lane: This worker's end of the lane.
        lifeline: The far end of its lifeline.
        inherited: The descriptors that these were inherited as; loky's reducers duplicate them.
        nice: How much to lower the scheduling priority.
    """
    global _lane
    arm(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if nice:
        os.nice(nice)
    for fd in inherited:
        os.close(fd)
    lane.setblocking(True)
    _lane = lane
    _lifelines.append(lifeline)
    os.register_at_fork(after_in_child=_release)
    this_task.is_worker_process = True


_lifelines: list[socket.socket] = []  # kept open for as long as the process lives


def _release() -> None:
    """In a process forked by user code: let go of what ties the worker to its parent."""
    _lane.close()
    for lifeline in _lifelines:
        lifeline.close()


def serve(init: bytes | None, idle_timeout_s: float) -> NoReturn:
    """Execute chunks until the parent closes the lane, or nothing has come for `idle_timeout_s`; ends the process."""
    try:
        _serve(init, idle_timeout_s)
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
        os._exit(_BROKEN)
    _flush_output()
    os._exit(0)  # at once: its executor is of no more use, and the parent waits for nothing else


def _serve(init: bytes | None, idle_timeout_s: float) -> None:
    channel = Channel(_lane)
    words = channel.receive_page()
    channel.send(Kind.HELLO)
    limit_loaded()  # before worker_init, so that what it sets on purpose holds
    state = _initialize(channel, init) if init is not None else None
    channel.send(Kind.READY)
    channel.limit_idleness(idle_timeout_s)
    worker = Worker(channel, words, state)
    while (frame := channel.receive()) is not None:
        worker.handle(frame)


def _initialize(channel: Channel, init: bytes) -> Any:
    name = "worker_init"
    try:
        worker_init, args = loads(init)
        name = function_name(worker_init)
        return worker_init(*args)
    except BaseException as error:
        wrapped = WorkerInitError(name, f"{type_name(error)}: {safe_text(error)}")
        wrapped.__cause__ = error
        channel.send(Kind.INIT_FAILED, dumps(tuple(pack_failure(wrapped))), flags=Flag.PLAIN)
        raise SystemExit from None


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue


class Channel:
    """Blocking frames over the lane."""

    def __init__(self, lane: socket.socket) -> None:
        self._lane = lane
        self._reader = FrameReader()

    def receive_page(self) -> memoryview:
        """Map the status page, whose descriptor is the first thing that the parent sends."""
        _, fds, _, _ = socket.recv_fds(self._lane, 1, 1)
        try:
            return status_page.open_page(mmap.mmap(fds[0], status_page.SIZE))
        finally:
            os.close(fds[0])

    def limit_idleness(self, seconds: float) -> None:
        """Let `receive` give up after so long without a byte."""
        whole, fraction = divmod(min(seconds, 1e8), 1)
        limit = struct.pack("ll", int(whole), int(fraction * 1e6) or (0 if whole else 1))
        self._lane.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def receive(self) -> Frame | None:
        """Return the next frame; None at the end of the lane, or after idleness."""
        reader = self._reader
        while True:
            frame = reader.next_frame()
            if frame is not None:
                return frame
            try:
                count = self._lane.recv_into(reader.writable())
            except BlockingIOError:  # SO_RCVTIMEO has passed
                if not reader.is_empty:
                    continue
                return None
            except ConnectionResetError:
                return None
            if count == 0:
                return None
            reader.received(count)

    def send(self, kind: int, payload: bytes = b"", flags: int = 0) -> None:
        """Write one frame that belongs to no chunk."""
        self.write(pack_header(kind, len(payload), flags), payload)

    def write(self, header: bytes, payload: bytes) -> None:
        """Write a packed header and its payload."""
        if len(payload) < 1 << 16:
            self._lane.sendall(header + payload)
        else:
            self._lane.sendall(header)
            self._lane.sendall(payload)


class Worker:
    """Handles the frames of one lane; is itself where a chunk's outcomes go."""

    def __init__(self, channel: Channel, words: memoryview, state: Any) -> None:
        self._channel = channel
        self._words = words
        self._state = state
        self._functions: dict[bytes, bytes] = {}  # by digest; the parent drives what is kept
        self._named: dict[bytes, Callable[..., Any]] = {}
        self._loaded: OrderedDict[tuple[int, bytes], Callable[..., Any]] = OrderedDict()
        self._task: Header
        self._fn: Callable[..., Any]
        self._last = _NOTHING

    def handle(self, frame: Frame) -> None:
        """Act on one frame from the parent."""
        kind, payload = frame.header.kind, frame.payload
        if kind == Kind.TASK:
            self._execute(frame.header, payload)
        elif kind == Kind.FUNCTION:
            self._functions[bytes(payload[:DIGEST_SIZE])] = bytes(payload[DIGEST_SIZE:])
        elif kind == Kind.FORGET:
            self._functions.pop(bytes(payload), None)
            self._named.pop(bytes(payload), None)
        else:
            raise RuntimeError(f"a frame of kind {kind} has no meaning for a worker")

    def _execute(self, header: Header, payload: bytes | memoryview) -> None:
        self._task = header
        self._words[status_page.ITEM] = status_page.item_base(header.epoch) | status_page.UNPACKING
        try:
            fn = self._function(header.run, bytes(payload[:DIGEST_SIZE]))
        except StaleFunction:
            self._refuse(Refusal.STALE)
            return
        except BaseException as error:
            self._refuse(Refusal.NO_FUNCTION, dumps(tuple(pack_failure(error))))
            return
        try:
            items = loads(memoryview(payload)[DIGEST_SIZE:])
        except BaseException as error:
            self._unreadable(describe_function(fn), error)
            return
        self._fn = fn
        try:
            with inner_threads(all_cores()) if header.flags & Flag.ALONE else nullcontext():
                rest = execute(
                    fn,
                    items,
                    start=header.start,
                    flags=header.flags,
                    budget_ns=header.duration_ns,
                    task=Task(self._words, header.epoch, self._state, True),
                    emit=self,
                    watch=GilWatch() if header.flags & Flag.WATCH else None,
                )
        finally:
            _flush_output()
        self._finish(rest)

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
        data: bytes,
        flags: int,
        start: int = 0,
        count: int = 0,
        elapsed_ns: int = 0,
        measured: tuple[int, int, int] = _NOTHING,
    ) -> None:
        task = self._task
        longest_ns, stall_ns, held_pct = measured
        header = pack_header(
            kind,
            len(data),
            flags,
            task.run,
            task.epoch,
            start,
            count,
            elapsed_ns,
            longest_ns=longest_ns,
            stall_ns=stall_ns,
            gil_held_pct=held_pct,
        )
        self._channel.write(header, data)

    def _finish(self, rest: Rest) -> None:
        """Send the last outcomes of a chunk, and what was measured of it."""
        held_pct = NOT_WATCHED if rest.gil_held is None else round(100 * rest.gil_held)
        self._last = (rest.longest_ns, rest.stall_ns, held_pct)
        self.values(rest.start, rest.values, rest.elapsed_ns, Flag.LAST)

    def values(self, start: int, values: list[Any], elapsed_ns: int, flags: int = 0) -> None:
        """Send what consecutive items returned: together where that is plain, else each in bytes of its own."""
        if is_plain(values):
            self._send(dumps_plain(values), start, len(values), elapsed_ns, flags | Flag.PLAIN)
            return
        packed: list[bytes] = []
        for index, value in enumerate(values, start):
            try:
                packed.append(dumps(value))
            except BaseException as error:
                if packed:
                    self._send(dumps(packed), index - len(packed), len(packed), elapsed_ns)
                    packed = []
                self.failure(index, unpicklable_result(index, value, describe_function(self._fn), error))
        self._send(dumps(packed), start + len(values) - len(packed), len(packed), elapsed_ns, flags)

    def _send(self, data: bytes, start: int, count: int, elapsed_ns: int, flags: int = 0) -> None:
        self._answer(Kind.VALUES, data, flags, start, count, elapsed_ns, self._last if flags & Flag.LAST else _NOTHING)

    def failure(self, index: int, error: BaseException) -> None:
        """Send what one item raised."""
        payload = dumps(tuple(pack_failure(error)))
        self._answer(Kind.FAILURE, payload, Flag.PLAIN, index, 1)
