"""Steps of the protocol at which workers end, and work that ends its worker; light, since workers import it.

What happens is settled by counting, not by time, so that it is the same in every run of a test.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import workloads as w
from offloop.wire import frames
from offloop.worker import serve
from offloop.worker.channel import Channel

POINTS = ("start", "hello", "ready", "received", "loading", "unpacking", "packing", "mid_send", "sent", "idle")
HOWS = ("SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "exit 0")


class Death(NamedTuple):
    """Where and how workers end.

    Attributes:
        point: Of `POINTS`, the step of the protocol.
        how: Of `HOWS`, or ``SIGSTOP``.
        path: A file in which each notes its end.
        times: How many of them end so.
    """

    point: str
    how: str
    path: str
    times: int = 1

    def claims(self, point: str) -> bool:
        """Whether this process is to end here; notes it, so that no more than `times` do."""
        if point != self.point:
            return False
        for number in range(self.times):
            try:
                os.close(os.open(f"{self.path}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            w.append(self.path, os.getpid())
            return True
        return False

    def comes(self, point: str) -> None:
        """End this process if that is to happen here; called in a worker."""
        if self.claims(point):
            end(self.how)


def end(how: str) -> None:
    """End this process; only ever to be called in a worker."""
    faulthandler.disable()
    if how == "exit 0":
        os._exit(0)
    number = signal.Signals[how]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


@contextmanager
def deadly(death: Death) -> Iterator[None]:
    """Have workers that are started in this context end as this says."""
    really = serve.serve
    serve.serve = _Serving(death, really)  # type: ignore[assignment]
    try:
        yield
    finally:
        serve.serve = really


class _Serving(NamedTuple):
    """What workers do in place of `serve`: the same, with an end in between."""

    death: Death
    really: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        self.death.comes("start")
        _patch_channel(self.death)
        _patch_worker(self.death)
        return self.really(*args)


def _patch_channel(death: Death) -> None:
    """Let this worker end as it reads or writes."""
    really_write, really_receive = Channel.write, Channel.receive
    has_executed = False

    def write(channel: Any, header: Any, pieces: Any, file: Any = None) -> None:
        nonlocal has_executed
        told = frames.Header._make(frames._HEADER.unpack_from(header))
        has_executed |= bool(told.flags & frames.Flag.LAST)
        if told.kind == frames.Kind.VALUES and death.claims("mid_send"):
            whole = b"".join((header, *pieces))
            channel._lane.sendall(whole[: len(whole) // 2])
            end(death.how)
        really_write(channel, header, pieces, file)
        if told.kind in _GREETINGS:
            death.comes(_GREETINGS[told.kind])
        elif told.flags & frames.Flag.LAST:
            death.comes("sent")

    def receive(channel: Any) -> Any:
        if has_executed:
            death.comes("idle")
        frame = really_receive(channel)
        if frame is not None and frame.header.kind == frames.Kind.TASK:
            death.comes("received")
        return frame

    Channel.write, Channel.receive = write, receive  # type: ignore[method-assign]


_GREETINGS = {frames.Kind.HELLO: "hello", frames.Kind.READY: "ready"}


def _patch_worker(death: Death) -> None:
    """Let this worker end as it unpacks or packs."""

    def ends_before(really: Any, point: str) -> Any:
        def before(*args: Any) -> Any:
            death.comes(point)
            return really(*args)

        return before

    serve.unpack_function = ends_before(serve.unpack_function, "loading")
    serve.loads, serve.Received = ends_before(serve.loads, "unpacking"), ends_before(serve.Received, "unpacking")
    serve.Worker.values = ends_before(serve.Worker.values, "packing")  # type: ignore[method-assign]


# --- work --------------------------------------------------------------------------------------------------------------


def die_at_7(how: str, path: str, x: int) -> int:
    """Note the execution of an item; the seventh ends its worker."""
    w.append(path, x)
    if x == 7:
        end(how)
    return 2 * x


def die_as_told(plan: dict[int, int], path: str, x: int) -> int:
    """Note the execution of an item, and die while it has been executed no more often than the plan says."""
    w.append(path, x)
    if w.lines(Path(path)).count(str(x)) <= plan.get(x, 0):
        end("SIGKILL")
    return -x


def hold_the_gil_for_good(path: str) -> None:
    """Say that it began, and stay in C code that holds the GIL and looks at no signal."""
    w.append(f"{path}.began", os.getpid())
    sum(repeat(0))


def log_and_square(path: str, x: int) -> int:
    """Note the execution of an item, and take a while."""
    w.append(path, x)
    w.spin(0.0005)
    return x * x


def slow_init(path: str) -> None:
    """Be the worker_init of workers that are never up."""
    w.append(f"{path}.began", os.getpid())
    while True:
        w.spin(1.0)
