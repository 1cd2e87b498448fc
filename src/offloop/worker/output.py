"""What is said in a worker, on its way to the parent: records in a bounded ring, sent between frames of outcomes.

Rules:

- While a chunk is under way, or worker_init, what is said is sent in frames of `Kind.LOG`: by the main thread as it says it,
  if the socket has room and no frame is being written, at the latest before the next frame of outcomes. So what a long item
  says is seen while it executes, and what it says last is seen if it dies.
- What other threads say goes into the ring, and along with the next frame.
- Nothing is sent when no chunk is under way, since nobody reads the lane then: what is said goes where it went without us.
- If the ring overflows, the oldest records are dropped and counted.
"""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from time import monotonic_ns
from typing import Any

from ..wire.frames import Kind, Said
from ..wire.pickling import dumps_plain
from ..wire.status_page import ITEM, PACKED
from .channel import Channel
from .task import current

# A thousand records of a usual size come to about so much; guesses.
MOST_RECORDS = 1000
MOST_CHARS = 1 << 18

# A frame is handled at one go on the parent's event loop: 64 records take it 1 to 2 ms. It also fits a socket that is
# mostly empty, so that sending it does not wait.
FRAME_RECORDS = 64
_FRAME_CHARS = 1 << 14

# The main thread sends what it says at once, up to so many frames on end, and so many in the long run: a frame costs it 15 µs,
# and the parent 50.
_BURST = 16
_STEP_NS = 5_000_000

_TELL_NS = 1_000_000_000

_OVERHEAD = 100  # characters that a record counts besides its texts
MOST_LINE = 8192  # characters; a longer line is sent in pieces

Record = tuple[Any, ...]  # a kind of `Said`, an item, and what else there is, as built-in values


class Ring:
    """Records that wait to be sent; drops the oldest when there are too many."""

    def __init__(self, most_records: int = MOST_RECORDS, most_chars: int = MOST_CHARS) -> None:
        self._most_records, self._most_chars = most_records, most_chars
        self._records: deque[tuple[Record, int]] = deque()
        self._n_chars = 0
        self._n_dropped = 0  # since that was told last

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record, n_chars: int) -> None:
        """Take in a record, at the expense of the oldest."""
        n_chars += _OVERHEAD
        self._records.append((record, n_chars))
        self._n_chars += n_chars
        while len(self._records) > self._most_records or (self._n_chars > self._most_chars and len(self._records) > 1):
            self._n_chars -= self._records.popleft()[1]
            self._n_dropped += 1

    def take_dropped(self) -> int:
        """Return how many were dropped since the last time."""
        n_dropped, self._n_dropped = self._n_dropped, 0
        return n_dropped

    def take(self) -> list[Record]:
        """Take out the oldest records, as many as fit a frame."""
        taken: list[Record] = []
        n_chars = 0
        while self._records and len(taken) < FRAME_RECORDS and n_chars < _FRAME_CHARS:
            record, size = self._records.popleft()
            taken.append(record)
            n_chars += size
        self._n_chars -= n_chars
        return taken


class Output:
    """Where everything goes that is said in a worker; made in its main thread.

    Args:
        channel: The worker's end of the lane.
        words: Its status page, which tells the item.

    Attributes:
        is_live: Whether a chunk is under way, or worker_init, so that somebody reads the lane.
        lock: Held while the ring, or the beginning of a line, is changed. Signal handlers and finalizers may say something
            at any place, also here, so it is one that its holder may take again.
        streams: The captured streams by name.
    """

    def __init__(self, channel: Channel, words: memoryview) -> None:
        self.channel = channel
        self._words = words
        self._ring = Ring()
        self._main = threading.get_ident()
        self._free_at = 0  # when the main thread may send again at once, by the monotonic clock
        self._tell_at = 0  # when to tell again how many records were dropped
        self.is_live = False
        self.lock = threading.RLock()
        self.streams: dict[str, Captured] = {}

    @property
    def item(self) -> int | None:
        """Index of the item that is executed; None between items."""
        index = self._words[ITEM] & (2 * PACKED - 1)
        return index if index < PACKED else None

    def say(self, record: Record, n_chars: int) -> None:
        """Take in a record, of about so many characters."""
        with self.lock:
            is_live = self.is_live
            if is_live:
                self._ring.add(record, n_chars)
        if not is_live:
            self._write_here(record)
        elif threading.get_ident() == self._main and self._is_due() and self.channel.has_room:
            self._send()

    def _is_due(self) -> bool:
        now = monotonic_ns()
        if self._free_at > now:
            return len(self._ring) >= FRAME_RECORDS
        self._free_at = max(self._free_at, now - _BURST * _STEP_NS) + _STEP_NS
        return True

    def begin(self) -> None:
        """From now on what is said is sent."""
        self.is_live = True

    def flush(self) -> None:
        """Send what there is, and not what comes meanwhile; called in the main thread."""
        left = len(self._ring)
        while left > 0 and self._ring:
            left -= self._send()

    def end(self) -> None:
        """Send what there is, and nothing more after it; called in the main thread."""
        for stream in self.streams.values():
            stream.cut()
        with self.lock:
            self.is_live = False  # now the ring only gets shorter
        while self._ring:
            self._send()

    def _send(self) -> int:
        """Send a frame, and return how many records it brings."""
        n_dropped = 0
        with self.lock:
            taken = self._ring.take()  # before it is sent: what a signal handler raises must not send it twice
            if not self._ring or monotonic_ns() >= self._tell_at:  # not with every frame of a flood
                self._tell_at = monotonic_ns() + _TELL_NS
                n_dropped = self._ring.take_dropped()
        self.channel.send(Kind.LOG, dumps_plain((n_dropped, taken)))
        return len(taken)

    def give_up(self) -> None:
        """Send nothing any more, and write here what there is: the worker ends."""
        self.is_live = False
        while self._ring:
            for record in self._ring.take():
                self._write_here(record)

    def leave_behind(self) -> None:
        """In a forked child: what was said before is the parent's to send, and what is said from now on goes here."""
        self.is_live = False
        self.lock = threading.RLock()
        self._ring = Ring()
        for stream in self.streams.values():
            stream.forget()

    def _write_here(self, record: Record) -> None:
        name, text = plainly(record)
        if name in self.streams:
            try:
                self.streams[name].write_here(text)
            except (OSError, ValueError):  # it is closed
                return


def plainly(record: Record) -> tuple[str, str]:
    """Return on which stream a record is written where nobody reads the lane, and how."""
    kind, _, *fields = record
    if kind == Said.PRINTED:
        name, text = fields
        return name, f"{text}\n"
    if kind == Said.LOGGED:
        own = fields[0]
        texts = [f"{own['levelname']} {own['name']}: {own['msg']}", own["exc_text"], own["stack_info"]]
        text = "\n".join(filter(None, texts))
    elif kind == Said.WARNED:
        category, message, filename, lineno = fields
        text = f"{filename}:{lineno}: {category}: {message}"
    else:
        _, _, event, others = fields
        text = " ".join([event, *(f"{name}={value!r}" for name, value in others.items())])
    return "stderr", f"[worker {os.getpid()}] {text}\n"


class Captured(io.TextIOWrapper):
    """A standard stream whose lines go to the parent; all else about it is as in the stream that it replaces.

    What is written to its `buffer`, or by C code to its descriptor, goes where it went without us.

    Args:
        output: Where the lines go.
        name: ``stdout`` or ``stderr``.
        inherited: The stream as the process got it.
    """

    def __init__(self, output: Output, name: str, inherited: Any) -> None:
        inherited.flush()
        super().__init__(inherited.buffer, inherited.encoding, inherited.errors, line_buffering=True)
        vars(self)["mode"] = "w"  # as the interpreter gives it to its own
        self._inherited = inherited  # it closes the buffer that they have in common as soon as nobody holds it
        self._output, self._stream = output, name
        self._begun = ""  # a line without its end
        self._item: int | None = None  # that has begun it

    def write(self, text: str) -> int:
        """Send all lines that are ended by this text, and keep the beginning of the next."""
        output = self._output
        if not output.is_live:
            return super().write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        item = now = output.item
        with output.lock:
            if self._begun:
                item = self._item
            *lines, self._begun = f"{self._begun}{text}".split("\n")
            self._item = now if lines else item
            if len(self._begun) > MOST_LINE:
                lines.append(self._begun)
                self._begun = ""
        for line in lines:
            self._say(line, item)
            item = now
        if (task := current.task) is not None:
            task.guard.catch_up()
        return len(text)

    def _say(self, line: str, item: int | None) -> None:
        for start in range(0, len(line) or 1, MOST_LINE):
            piece = line[start : start + MOST_LINE]
            self._output.say((Said.PRINTED, item, self._stream, piece), len(piece))

    def cut(self) -> None:
        """End the line that has begun."""
        if self._begun:
            with self._output.lock:
                line, self._begun = self._begun, ""
            self._say(line, self._item)

    def forget(self) -> None:
        """Drop the line that has begun."""
        self._begun = ""

    def flush(self) -> None:
        """Send what has been written, though its line isn't ended."""
        self.cut()
        super().flush()

    def write_here(self, text: str) -> None:
        """Write to the stream as the process got it."""
        super().write(text)

