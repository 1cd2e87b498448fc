"""Interrupting an item: raising TaskCancelled at whatever place its Python code has reached.

In a worker the parent sends a signal, whose handler raises in the main thread. In a thread the event loop's side has the
interpreter raise. Both only while user code is executed, and only if the chunk under way is to stop, so that a late
interrupt never hits another item. Held back, to be tried again by whoever wants it, is what comes

- while an import, a log call, the threading module or offloop itself is on the stack: they hold locks, and what is torn
  apart there is torn for all that follows;
- within `shield`;
- while an item that looks at `checkpoint` or `is_cancelled` is given time to do so, and once `is_cancelled` has told it;
- while an interrupt is being handled, or an object or a generator is cleaned up: ``finally`` and ``except`` blocks and
  ``__del__`` run to their end, and nothing is raised where nobody would hear it.

SIGURG is the signal: nobody else uses it, and where it comes too early or too late the default is to ignore it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, FunctionType, MethodType
from typing import Any

from ..errors import TaskCancelled
from ..wire.status_page import Spent, is_to_stop

SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)

_HELD_BACK = frozenset({"importlib", "_frozen_importlib", "_frozen_importlib_external", "logging", "threading", "offloop"})
# What calls user code for us, and holds nothing: to leave it costs the item, which is to be left.
_TRANSPARENT = frozenset(
    {
        *("offloop.worker.rows", "offloop.deciding.seeding", "offloop.functions", "offloop.adapters.joblib.nested"),
        *("offloop.bench.witness", "offloop.bench.workloads"),
    }
)

# So many interrupts are held back from an item that looks by itself, which comes to 50 ms; see deciding/stopping.py. A guess.
_LOOKING_HOLDS = 6

_executing: set[Any] = set()  # code of ours that calls fn


def calls_user_code(function: Callable[..., Any]) -> Any:
    """Mark a function as one below which the stack is the user's."""
    _executing.add(function.__code__)
    return function


def interruptible(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that executes in a Python frame of its own: fn, or one that calls it if it is written in C.

    Between two items no frame but ours is there, and while one in C executes neither.
    """
    if isinstance(fn, FunctionType | MethodType):
        return fn

    def call(*args: Any) -> Any:
        return fn(*args)

    return call


_CALL = interruptible(abs).__code__  # of every function that it makes


def _may_raise_in(frame: FrameType | None) -> bool:
    """Whether user code executes in this frame, and nothing on the stack that must not be torn apart."""
    is_users = False
    while frame is not None:
        if frame.f_code in _executing:
            return is_users
        is_users = True
        name = frame.f_globals.get("__name__")
        if frame.f_code.co_name == "__del__":
            return False
        is_ours = isinstance(name, str) and name.partition(".")[0] in _HELD_BACK and name not in _TRANSPARENT
        if is_ours and frame.f_code is not _CALL:
            return False
        frame = frame.f_back
    return False


def cleans_up(error: BaseException | None) -> bool:
    """Whether who handles this exception is cleaning up after an interrupt, or a generator after itself."""
    for _ in range(100):  # a chain may be a ring
        if error is None:
            return False
        if isinstance(error, TaskCancelled | GeneratorExit):
            return True
        error = error.__context__
    return False


class Guard:
    """What may be interrupted in one thread that executes items; this one is the main thread of a worker.

    Attributes:
        n_shields: How many contexts of `shield` the item is in.
        looks: Whether it has looked whether it is to stop.
        is_told: Whether it knows that it is.
        was_interrupted: Whether an interrupt was raised in the chunk under way.
    """

    def __init__(self) -> None:
        self.n_shields = self._n_held = 0
        self.looks = self.is_told = False
        self.was_interrupted = False
        self._words: memoryview
        self._epoch: int | None = None  # of the chunk under way, while user code may be interrupted
        self._n_threads = 0
        self._is_held = False  # by what was on the stack

    def _may_come(self) -> bool:
        """Whether what is executed is to stop, and has neither shielded itself nor been told."""
        is_to = self._epoch is not None and is_to_stop(self._words, self._epoch)
        return is_to and not self.n_shields and not self.is_told

    def _is_wanted(self) -> bool:
        """Whether what is executed is to be interrupted; asked once for each interrupt."""
        if not self._may_come():
            return False
        self._n_held += self.looks
        return not self.looks or self._n_held > _LOOKING_HOLDS

    def open(self, words: memoryview, epoch: int) -> None:
        """Begin a chunk: from now on until `shut` user code may be interrupted."""
        self._words, self._epoch = words, epoch
        self.n_shields = self._n_held = 0
        self.looks = self.is_told = self.was_interrupted = self._is_held = False
        self._n_threads = threading.active_count()

    def reopen(self, words: memoryview, epoch: int) -> None:
        """Go on with it after `shut`."""
        self.n_shields = self._n_held = 0
        self.looks = self.is_told = self._is_held = False
        self._words, self._epoch = words, epoch

    def shut(self) -> None:
        """End that; nothing is raised any more once this returns."""
        self._epoch = None

    def shield(self) -> None:
        """Hold interrupts back."""
        self.n_shields += 1

    def install(self) -> None:
        """Raise where the signal comes and is wanted; called in the main thread."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._is_wanted():
                self._raise_at(frame)
                self._is_held = True

        if SIGNAL is not None:
            signal.signal(SIGNAL, on_signal)
        self._handlers = _handlers()

    def _raise_at(self, frame: FrameType | None) -> None:
        if _may_raise_in(frame) and not cleans_up(sys.exc_info()[1]):
            self.was_interrupted = True
            raise TaskCancelled

    def catch_up(self) -> None:
        """Raise what was held back; called by code of ours that user code calls often, as it returns to that.

        A loop that only prints would be interrupted once in a hundred times otherwise.
        """
        if self._is_held and self._may_come():
            self._raise_at(sys._getframe(2))

    def damage(self) -> int:
        """Return what an interrupted chunk has left behind, as `Spent`; 0 if nothing."""
        if not self.was_interrupted:
            return 0
        if threading.active_count() > self._n_threads:
            return Spent.THREADS
        if _handlers() != self._handlers or signal.getitimer(signal.ITIMER_REAL)[0]:
            return Spent.SIGNALS
        return Spent.EXCEPTION if sys.exc_info()[1] is not None else 0


def _handlers() -> list[Any]:
    return [signal.getsignal(number) for number in signal.valid_signals()]


class ThreadGuard(Guard):
    """What may be interrupted in a thread of a process whose main thread is somebody else's."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._thread = 0

    def open(self, words: memoryview, epoch: int) -> None:
        """Begin a chunk; see `Guard`."""
        self.reopen(words, epoch)

    def reopen(self, words: memoryview, epoch: int) -> None:
        """Go on with it; see `Guard`."""
        with self._lock:
            self._thread = threading.get_ident()
            super().reopen(words, epoch)

    def shut(self) -> None:
        """End that, and take back what was not raised yet."""
        while True:
            try:
                with self._lock:
                    self._epoch = None
                self._take_back()
                return
            except TaskCancelled:  # it was on its way: now nothing more is
                continue

    def shield(self) -> None:
        """Hold interrupts back, one that is on its way too."""
        with self._lock:
            self.n_shields += 1
        self._take_back()

    def _take_back(self) -> None:
        """Have nothing raised that has not been yet; called in the thread itself.

        What is on its way is replaced by one that is raised right here. To replace it by none would be simpler, but up to
        Python 3.12 the interpreter then believes for good that one is pending, and hangs under `sys.settrace`.
        """
        if self.was_interrupted:
            self.was_interrupted = False
            try:
                while True:  # for up to Python 3.11 a thread that this one has just started may get it instead
                    _raise_in(self._thread)
            except TaskCancelled:
                return

    def interrupt(self) -> None:
        """Have TaskCancelled raised in the thread, where that may be; called in another one.

        It comes as soon as the thread executes Python code: a call into C is not interrupted. The stack is looked at
        while the thread waits for the GIL, so what it does next can't be excluded; the way in to an import, say.
        """
        with self._lock:
            if not self._is_wanted():
                return
            handled = sys._current_exceptions().get(self._thread)
            error = handled[1] if isinstance(handled, tuple) else handled  # before Python 3.12 with type and traceback
            if _may_raise_in(sys._current_frames().get(self._thread)) and not cleans_up(error):
                self.was_interrupted = True
                _raise_in(self._thread)


def _raise_in(thread: int) -> None:
    """Have the interpreter raise TaskCancelled in a thread."""
    import ctypes  # 10 ms, and of no use before

    asynchronously = ctypes.pythonapi.PyThreadState_SetAsyncExc
    asynchronously(ctypes.c_ulong(thread), ctypes.py_object(TaskCancelled))
