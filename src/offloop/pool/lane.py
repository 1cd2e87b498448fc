"""A lane to a worker process: frames out without blocking, frames in by waiting on the loop."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Sequence
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from ..deciding.stopping import Act, Stopping
from ..strategies.base import Chunk, Job, LaneLost
from ..telemetry import tell_worker_killed, tell_worker_retired
from ..wire.buffers import FILE_BYTES, Segment, alive
from ..wire.descriptors import Descriptors
from ..wire.frames import Flag, Frame, FrameReader, Kind, ProtocolError, pack_header
from ..wire.memory import MemoryFile
from ..wire.pickling import dumps_plain
from ..wire.status_page import CANCEL, ITEM, SPENT, WHY_SPENT, last_begun, n_finished, read_fraction
from ..wire.storage import Storage
from ..worker.context import NO_CONTEXT, Context
from .answering import Answerer
from .hearing import hear
from .readiness import Readiness
from .report import Unopened, WorkerReport
from .watchdog import Watchdog
from .worker import Worker
from .writing import BURST_S, Writer

# What a worker keeps of functions that it may be asked for again; the parent drops the least recently used.
_MAX_FUNCTIONS = 256
_MAX_FUNCTION_BYTES = 64 << 20

_REAPED_S = 0.4  # how long to wait until a dead process is reaped: usually 1 to 3 ms


class WorkerLane:
    """The near end of a lane; used by whoever leases it, one at a time."""

    def __init__(self, worker: Worker, storage: Storage) -> None:
        self.worker = worker
        self._storage = storage
        self.in_flight: deque[Chunk] = deque()
        self._jobs: dict[int, Job] = {}  # of the chunks in flight, by epoch
        self._socket = worker.lane
        self._reader = FrameReader()
        self._descriptors = Descriptors()
        self._writer = Writer(self._socket, worker.kill)
        self._segments: set[int] = set()  # numbers of those that the worker keeps
        self._epoch = 0
        self._known: OrderedDict[bytes, int] = OrderedDict()  # digests that the worker keeps, with their bytes
        self._known_bytes = 0
        self._context = NO_CONTEXT  # that the worker binds, and its bytes
        self._packed_context = b""
        self.loop: Any = None  # of whoever leases the lane
        self._readiness: Readiness | None = None
        self._frame: Frame | None = None  # received, not yet taken
        self._answerer: Answerer | None = None  # of questions of the chunk that is first in flight, once it has asked one
        self._watchdog = Watchdog(worker.words, worker.interrupt)
        self._is_broken_off = self._is_stopping = False  # what is in flight
        self._is_lost = False  # broken, or killed
        self._is_retired = False

    def send(self, job: Job, chunk: Chunk, budget_s: float) -> None:
        """Have a chunk executed; see `Lane`."""
        if not self.in_flight:
            self._is_broken_off = False  # that was of what came to its end all the same
        packed, message = job.packed, chunk.message
        assert packed is not None
        assert message is not None
        self.tidy()
        for segment in (*packed.segments, *message.segments):
            self._introduce(segment)
        digest = packed.digest
        if digest in self._known:
            self._known.move_to_end(digest)
        else:
            self._teach(digest, packed.data)
        if job.context is not self._context:
            self._bind(job.context)
        self._epoch += 1
        chunk.epoch, chunk.limit, chunk.expired = self._epoch, job.limit, None
        flags = job.flags | Flag.WATCH * chunk.is_watched
        if message.parts is not None:
            is_short = message.file is None and message.n_bytes >= FILE_BYTES  # of descriptors, or of memory for files
            flags |= Flag.PARTS | Flag.INLINE * is_short
        pieces = message.payload()
        header = pack_header(
            Kind.TASK,
            len(digest) + sum(map(len, pieces)),
            flags=flags,
            run=job.run,
            epoch=self._epoch,
            start=chunk.start,
            n_items=len(chunk.items),
            duration_ns=int(budget_s * 1e9),
            n_files=_n_passed(message.file),
        )
        self._writer.add(header + digest, pieces, message.file)
        self.in_flight.append(chunk)
        self._jobs[self._epoch] = job
        self._writer.flush()

    def _teach(self, digest: bytes, data: bytes) -> None:
        """Send a function, and have the worker drop those that it was not asked for longest."""
        self._known[digest] = len(data)
        self._known_bytes += len(data)
        while len(self._known) > _MAX_FUNCTIONS or (self._known_bytes > _MAX_FUNCTION_BYTES and len(self._known) > 1):
            dropped, size = self._known.popitem(last=False)
            self._known_bytes -= size
            self._writer.add(pack_header(Kind.FORGET, len(dropped)), [dropped])
        self._writer.add(pack_header(Kind.FUNCTION, len(digest) + len(data)) + digest, [data])

    def _bind(self, context: Context) -> None:
        """Have the worker bind a log context for what is sent from now on, unless it does."""
        packed = dumps_plain(context) if context else b""
        if packed != self._packed_context:
            self._writer.add(pack_header(Kind.CONTEXT, len(packed)), [packed])
        self._context, self._packed_context = context, packed

    def _introduce(self, segment: Segment) -> None:
        """Have the worker keep a segment, unless it does."""
        if segment.number not in self._segments:
            self._segments.add(segment.number)
            data = segment.introduction()
            header = pack_header(Kind.KEEP, len(data), n_files=_n_passed(segment.file))
            self._writer.add(header, [data], segment.file)

    def tidy(self) -> None:
        """Have the worker drop the segments to which nothing refers here any more."""
        if self._segments and (dead := self._segments - alive):
            self._segments -= dead
            for number in dead:
                self._writer.add(pack_header(Kind.DROP, 0, start=number), ())
            self._writer.flush()

    async def receive(self) -> WorkerReport:
        """Return the next news; see `Lane`."""
        while True:
            frame = self._frame or self._next_frame()
            is_end = self._is_lost if frame is None else bool(frame.header.flags & Flag.LAST)
            is_early = is_end and not self._is_stopping and self._answerer is not None and self._answerer.is_busy
            self._frame = frame if is_early else None  # until the handler is over
            if frame is not None and not is_early:
                kind = frame.header.kind
                if kind not in (Kind.LOG, Kind.CALL):
                    return self._report(frame)
                if kind == Kind.CALL:
                    self._take_question(frame)
                else:
                    hear(self.worker.pid, frame.payload)
                await anyio.lowlevel.checkpoint()  # a worker may have much to say, and the loop others to serve
                continue
            if self._is_lost and not is_early:
                raise await self._lost()
            if self._is_broken_off:
                self._is_broken_off = False
                raise LaneLost([])
            if is_early and self._answerer is not None:
                await self._answerer.over()
                continue
            readiness = self._readiness
            if readiness is None or readiness.loop is not self.loop:
                readiness = self._move_to_loop()
            readiness.want_room(bool(self._writer.left))
            chunk = self.in_flight[0]
            if chunk.limit is None or self._is_stopping:
                await readiness.until(self._progress)
            else:
                await self._watch(chunk, readiness)

    async def _watch(self, chunk: Chunk, readiness: Readiness) -> None:
        """Wait for news until an item may have executed for too long; end the worker if one does not stop."""
        wait_s = self._watchdog.look(chunk)
        if chunk.expired is not None and chunk.limit is not None and self._answerer is not None:
            self._answerer.stop(monotonic() + chunk.limit.grace_s, chunk.limit.grace_s)
        if wait_s is not None:
            with anyio.move_on_after(wait_s):
                await readiness.until(self._progress)
            return
        assert chunk.expired is not None
        what = "an item" if chunk.expired.begun is not None else "a chunk that it did not begin"
        tell_worker_killed(self.worker.pid, f"the time of {what} was over, and it did not stop")
        self.kill()
        if self._answerer is not None and chunk.limit is not None:
            self._answerer.stop(monotonic(), chunk.limit.grace_s)

    def _move_to_loop(self) -> Readiness:
        if self._readiness is not None:
            self._readiness.close()
        self._readiness = readiness = Readiness(self.loop, self._socket, self.worker.fileno_of_death())
        return readiness

    def _progress(self) -> bool:
        """Move what bytes there are; True once there is a frame, or the lane has ended."""
        if self._writer.left:
            self._writer.flush()
            assert self._readiness is not None
            self._readiness.want_room(bool(self._writer.left))
        deadline, is_gone = 0.0, False
        while True:
            try:
                count = self._descriptors.receive_into(self._socket, self._reader.writable())
            except BlockingIOError:
                if monotonic() < deadline:
                    os.sched_yield()  # the worker is writing
                    continue
                if not is_gone and not self.worker.is_alive:
                    is_gone = True  # and may have written something before that
                    continue
                self._is_lost = is_gone
                return is_gone
            except OSError:
                count = 0
            if count == 0:
                self._is_lost = True
                return True
            self._reader.received(count)
            self._frame = self._next_frame()
            if self._frame is not None or self._is_lost:
                return True
            if not deadline:
                deadline = monotonic() + BURST_S
            elif monotonic() >= deadline:
                return False

    def _next_frame(self) -> Frame | None:
        if self._reader.is_empty:
            return None
        try:
            return self._reader.next_frame()
        except ProtocolError:
            self._is_lost = True
            return None

    def _report(self, frame: Frame) -> WorkerReport:
        chunk = self.in_flight[0]
        header = frame.header
        name = self._jobs[chunk.epoch].name
        if header.flags & Flag.LAST:
            self.in_flight.popleft()
            del self._jobs[chunk.epoch]
            self._watchdog.over(chunk)
            if self._answerer is not None and not self._answerer.is_busy:
                self._let_answerer_go()
            if spent := self.worker.words[SPENT]:
                self._retire(WHY_SPENT[spent])
        return WorkerReport(frame, chunk, name, self._file_of(frame), self._storage)

    def _take_question(self, frame: Frame) -> None:
        """Have a question of the chunk first in flight answered."""
        chunk = self.in_flight[0]
        answer = self._jobs[chunk.epoch].answer
        assert answer is not None
        if self._answerer is None:
            self._answerer = Answerer(answer, self.loop, self._reply)
        self._answerer.ask(frame, is_to_stop=self._is_stopping or chunk.expired is not None)

    def _reply(self, number: int, pieces: Sequence[bytes | memoryview]) -> None:
        """Answer a question."""
        if not self._is_lost:
            self._writer.add(pack_header(Kind.REPLY, sum(map(len, pieces)), start=number), pieces)
            self._writer.flush()
            if self._writer.left and self._readiness is not None:
                self._readiness.wake()  # so that the rest is waited for

    def _let_answerer_go(self) -> None:
        if self._answerer is not None:
            self._answerer.leave()
            self._answerer = None

    def _file_of(self, frame: Frame) -> MemoryFile | Unopened | OSError | None:
        header = frame.header
        if not header.n_files:
            may_have_name = header.kind == Kind.VALUES and header.flags & Flag.PARTS and self._storage.kind == "portable"
            return Unopened(frame.payload, self._storage) if may_have_name else None
        try:
            return self._storage.received(self._descriptors.take())
        except OSError as error:
            return error

    async def _lost(self) -> LaneLost:
        """Return what is known of the worker's end."""
        await self._until_gone()
        word = self.worker.words[ITEM]
        begun = [(chunk, last_begun(word, chunk.epoch)) for chunk in self.in_flight]
        self.in_flight.clear()
        if not self._is_stopping:
            self._let_answerer_go()
        return LaneLost(begun, *self.worker.death())

    async def _until_answered(self, deadline: float, grace_s: float) -> None:
        """Wait for a handler that is at a question still, until a deadline; then let it go."""
        if self._answerer is not None:
            self._answerer.stop(deadline, grace_s)
            while self._answerer.is_busy:
                await self._answerer.over()
            self._let_answerer_go()

    async def _until_gone(self) -> None:
        """Wait until a worker that has ended, or was killed, is reaped; it may do nothing any more."""
        deadline = monotonic() + _REAPED_S
        while self.worker.exit_code() is None and monotonic() < deadline:
            await anyio.sleep(0.002)  # the lane closes a moment before

    async def abandon(self, grace_s: float) -> bool:
        """Stop what is in flight and say whether the lane may be leased again; see `Lane`."""
        self.worker.words[CANCEL] = self._epoch
        self._is_broken_off, self._is_stopping = False, True
        now = monotonic()
        if self._answerer is not None:
            self._answerer.stop(now + grace_s, grace_s)
        stopping = Stopping(now, grace_s)
        try:
            while self.in_flight:
                step = stopping.step(monotonic())
                if step.act is Act.GIVE_UP:
                    tell_worker_killed(self.worker.pid, f"its item did not stop within grace_s={grace_s:g}")
                    self.kill()
                    await self._until_gone()
                    return False
                if step.act is Act.INTERRUPT:
                    self.worker.interrupt()
                with anyio.move_on_after(step.wait_s):
                    while self.in_flight:
                        await self.receive()
        except LaneLost:
            return False
        finally:
            self._is_stopping = False
            await self._until_answered(now + grace_s, grace_s)
        return self.is_usable and self.is_empty

    @property
    def is_usable(self) -> bool:
        """Whether more may be sent."""
        return not (self._is_lost or self._is_retired)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way on the lane, so that another may lease it."""
        return not (self.in_flight or self._writer.left or self._frame) and self._reader.is_empty

    @property
    def n_finished(self) -> int:
        """How many items of the chunk first in flight are finished; see `Lane`."""
        chunk = self.in_flight[0]
        return n_finished(last_begun(self.worker.words[ITEM], chunk.epoch), chunk.start, len(chunk.items))

    @property
    def fraction(self) -> float:
        """How much of the item that it is on is done; see `Lane`."""
        return read_fraction(self.worker.words)

    @property
    def gil_held(self) -> float | None:
        """Nothing can be seen of it from here before the chunk is over."""
        return None

    def watch(self) -> None:
        """Do nothing: a worker watches if the chunk says so when it is sent."""

    def break_off(self) -> None:
        """Have `receive` raise LaneLost instead of waiting on, once; called on the event loop that leases the lane."""
        self._is_broken_off = bool(self.in_flight)
        if self._readiness is not None:
            self._readiness.wake()
        if self._answerer is not None:
            self._answerer.wake()

    def retire(self) -> None:
        """Let nothing more be sent; see `Lane`."""
        self._retire("the function of this name is another one here")

    def _retire(self, why: str) -> None:
        if not self._is_retired:
            tell_worker_retired(self.worker.pid, why)
        self._is_retired = True

    def kill(self) -> None:
        """End the worker at once, whatever it is doing."""
        self._is_lost = True
        self.worker.kill()

    def close(self) -> None:
        """Free this process's descriptors of it. Idempotent."""
        self._let_answerer_go()
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        self._descriptors.close()
        self.worker.close()


def _n_passed(file: MemoryFile | None) -> int:
    """Return how many descriptors a file travels by."""
    return len(file.fds) if file is not None and file.path is None else 0
