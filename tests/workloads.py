"""Functions and classes that tests send to workers, importable there by name."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio

import offloop
from offloop.worker.interrupt import Guard
from offloop.worker.task import current

# --- honest work -------------------------------------------------------------------------------------------------------


def double(x: Any) -> Any:
    return 2 * x


def echo(x: Any) -> Any:
    return x


def add(a: Any, b: Any, c: Any = 0) -> Any:
    return a + b + c


def nothing() -> None:
    """Do nothing."""


def pid_of(_: Any = None) -> int:
    return os.getpid()


def thread_of(_: Any = None) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def draws(item: int, *, rng: Any) -> list[Any]:
    return [item, *rng.random(3).tolist(), int(rng.integers(1 << 40))]


def spin(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def log_and_return(path: str, item: Any) -> Any:
    """Note the execution of an item in a file that many processes append to."""
    append(path, item)
    return item


def append(path: str, item: Any) -> None:
    guard = current.task.guard if current.task is not None else Guard()
    guard.shield()  # an interrupt between opening and closing would leave the descriptor behind
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, f"{item}\n".encode())
        finally:
            os.close(fd)
    finally:
        guard.n_shields -= 1


def log_pid(path: str, item: Any) -> Any:
    """Note in a file which process executes an item."""
    append(path, os.getpid())
    return item


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


class Multiplier:
    """A callable object with a method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> int:
        return self.factor * x

    def times(self, x: int) -> int:
        return self.factor * x

    @classmethod
    def twice(cls, x: int) -> int:
        return 2 * x

    @staticmethod
    def thrice(x: int) -> int:
        return 3 * x


class Boxed:
    """A class that is its own work function."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Boxed) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


# --- waiting -----------------------------------------------------------------------------------------------------------


def loop_until_cancelled(path: str, limit_s: float = 30.0) -> str:
    """Say that it began, go on until cancelled, and say that it stopped."""
    append(f"{path}.began", os.getpid())
    try:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            offloop.checkpoint()
            time.sleep(0.001)
    finally:
        append(f"{path}.stopped", os.getpid())
    return "never cancelled"


def loop_deaf(path: str, limit_s: float = 30.0) -> str:
    """Say that it began, and go on whatever happens."""
    append(f"{path}.began", os.getpid())
    end = time.monotonic() + limit_s
    while True:
        try:
            while time.monotonic() < end:
                sum(range(1000))
            return "never stopped"
        except BaseException:
            continue


def wait_for_file(path: str, limit_s: float = 30.0) -> str:
    """Say that it began, and wait for a file."""
    append(f"{path}.began", os.getpid())
    end = time.monotonic() + limit_s
    while not os.path.exists(f"{path}.go") and time.monotonic() < end:
        time.sleep(0.001)
    return "went"


def wait_at(path: str, number: int, x: int) -> int:
    """Return the item; this one waits for a file."""
    if x == number:
        wait_for_file(path)
    return x


def report_and_wait(path: str, fraction: float = 0.25) -> float:
    """Say how much is done, then wait for a file."""
    offloop.report_progress(fraction)
    wait_for_file(path)
    return fraction


def rows_and_wait(path: str, rows: Any) -> Any:
    """Return the rows; the block that begins with row 512 waits for a file."""
    if rows[0] == 512:
        wait_for_file(path)
    return rows


def wait_deafly(path: str, limit_s: float = 30.0) -> str:
    """Say that it began, and wait for a file whatever happens."""
    append(f"{path}.began", os.getpid())
    end = time.monotonic() + limit_s
    while True:
        try:
            while not os.path.exists(f"{path}.go") and time.monotonic() < end:
                time.sleep(0.001)
            return "went"
        except BaseException:
            continue


def hold_the_gil(path: str, seconds: int = 60) -> None:
    append(f"{path}.began", os.getpid())
    ctypes.PyDLL(None).sleep(seconds)


def meet(path: str, count: int, item: Any, limit_s: float = 30.0) -> Any:
    """Wait until so many items are executing this at the same time."""
    append(path, item)
    end = time.monotonic() + limit_s
    while len(lines(Path(path))) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"only {lines(Path(path))} of {count} came")
        time.sleep(0.001)
    return item


async def appears(path: str | Path, count: int = 1, limit_s: float = 20.0) -> list[str]:
    """Wait until a file has so many lines, and return them."""
    with anyio.fail_after(limit_s):
        while len(found := lines(Path(path))) < count:
            await anyio.sleep(0.002)
    return found


async def start_all(session: offloop.ParallelSession, strategy: str) -> None:
    """Have every lane of a session execute an item."""
    n_lanes = 1
    if strategy == "processes":
        await session.warm()
        n_lanes = len(session.statistics().workers)
    elif strategy == "threads":
        n_lanes = session._threads.limit
    with tempfile.TemporaryDirectory() as folder:
        together = partial(meet, f"{folder}/meeting", n_lanes)
        await session.run_parallel(together, range(n_lanes), chunk_size=1, strategy=strategy)  # type: ignore[arg-type]


# --- failing -----------------------------------------------------------------------------------------------------------


class OwnError(Exception):
    """An exception like any other."""


class OwnInit(Exception):
    """An exception whose class can't be called with its args."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}: {detail}")
        self.code, self.detail = code, detail


class HoldsLock(Exception):
    """An exception that can't be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class BadText(Exception):
    """An exception whose text can't be had."""

    def __str__(self) -> str:
        raise ValueError("no text")


class OwnBase(BaseException):
    """A BaseException of the user's."""


def fail_on_3(x: int) -> int:
    if x == 3:
        raise OwnError(f"no {x} please")  # the line that fails
    return 2 * x


def fail_on_0(x: int) -> int:
    if x == 0:
        raise OwnError("no zero please")
    return 2 * x


def fail_on_odd(x: int) -> int:
    if x % 2:
        raise OwnError(x)
    return 2 * x


def raise_named(name: str) -> str:
    """Raise what the name says."""
    match name:
        case "SystemExit":
            sys.exit(3)
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "StopIteration":
            next(iter(()))
        case "StopAsyncIteration":
            raise StopAsyncIteration
        case "GeneratorExit":
            raise GeneratorExit
        case "OwnBase":
            raise OwnBase("mine")
        case "OwnInit":
            raise OwnInit(7, detail="seven")
        case "HoldsLock":
            raise HoldsLock("it holds a lock")
        case "BadText":
            raise BadText
        case "group":
            raise ExceptionGroup("two", [OwnError(1), OwnError(2)])
        case "caused":
            try:
                raise KeyError("inner")
            except KeyError as inner:
                raise OwnError("outer") from inner
    return name


def recurse(depth: int) -> int:
    return 1 + recurse(depth + 1)


# --- odd work ----------------------------------------------------------------------------------------------------------


def shout(x: int) -> int:
    print(f"printed {x}", flush=True)
    print(f"printed {x} to stderr", file=sys.stderr)
    return x


def move_away(path: str) -> str:
    """Change the working directory, and come back."""
    before = os.getcwd()
    os.chdir(path)
    try:
        return os.getcwd()
    finally:
        os.chdir(before)


def move_away_for_good(path: str) -> str:
    os.chdir(path)
    return os.getcwd()


def start_thread(x: int) -> list[int]:
    """Start a thread, and wait for it."""
    found: list[int] = []
    thread = threading.Thread(target=found.append, args=(x,))
    thread.start()
    thread.join()
    return found


def leave_daemon(x: int) -> int:
    """Leave a daemon thread behind."""
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    return x


async def async_double(x: int) -> int:
    return 2 * x


def returns_coroutine(x: int) -> Any:
    return async_double(x)


class AsyncCallable:
    """A callable object whose call is async."""

    async def __call__(self, x: int) -> int:
        return x


# --- nesting -----------------------------------------------------------------------------------------------------------


def nested_map(x: int) -> list[int]:
    """Run a map from inside an item."""
    return anyio.run(offloop.run_parallel, double, [x, x + 1, x + 2])


def nested_on(strategy: str, x: int) -> list[int]:
    """Run a map that asks for a strategy from inside an item."""
    return anyio.run(partial(offloop.run_parallel, strategy=strategy), double, [x, x + 1, x + 2])


def nested_twice(x: int) -> list[list[int]]:
    """Run a map of maps from inside an item."""
    return anyio.run(offloop.run_parallel, nested_map, [x, x + 1])


# --- state of the worker -----------------------------------------------------------------------------------------------


def make_state(value: Any) -> dict[str, Any]:
    return {"value": value, "pid": os.getpid()}


def count_init(path: str) -> str:
    append(path, os.getpid())
    return path


def failing_init(text: str) -> None:
    raise OwnError(text)


def exiting_init() -> None:
    os._exit(9)


def sys_exiting_init() -> None:
    sys.exit(4)


def state_value(x: Any) -> tuple[Any, Any]:
    state = offloop.worker_state()
    return x, state["value"]


def whole_state(_: Any) -> Any:
    return offloop.worker_state()


# --- what can't be pickled ---------------------------------------------------------------------------------------------


class Client:
    """Something that holds a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()


class Request:
    """Something that holds something that holds a lock."""

    def __init__(self, number: int, *, has_client: bool) -> None:
        self.number = number
        self.client = Client() if has_client else None


def number_of(request: Any) -> int:
    return getattr(request, "number", request)


def lock_for_3(x: int) -> Any:
    return threading.Lock() if x == 3 else x


def client_for_3(x: int) -> Any:
    return {"client": Client()} if x == 3 else x


class FailsToPickle:
    """Raises what it is told to when it is pickled."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error("while pickling")


def _raise_here(text: str) -> None:
    raise OwnError(text)


def _exit_here(code: int) -> None:
    os._exit(code)


def _sys_exit_here(code: int) -> None:
    sys.exit(code)


class FailsToUnpickle:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return _raise_here, ("while unpickling",)


class FailsToSetState:
    """Raises when it is given its state."""

    def __init__(self) -> None:
        self.x = 1

    def __setstate__(self, state: Any) -> None:
        raise OwnError("no state please")


class ExitsOnUnpickle:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return _exit_here, (11,)


class SysExitsOnUnpickle:
    """Raises SystemExit in the process that unpickles it."""

    def __reduce__(self) -> Any:
        return _sys_exit_here, (12,)


def unpickle_failure_for_3(x: int) -> Any:
    return FailsToUnpickle() if x == 3 else x


def sys_exit_on_unpickle_for_3(x: int) -> Any:
    return SysExitsOnUnpickle() if x == 3 else x


def nest(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


# --- dying -------------------------------------------------------------------------------------------------------------


def die(how: str) -> None:
    """End this process; only ever to be called in a worker."""
    if not offloop.in_worker():
        raise AssertionError("not in a worker")
    match how:
        case "exit":
            os._exit(5)
        case "exit 0":
            os._exit(0)
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case "SIGSEGV":
            import faulthandler

            with contextlib.suppress(Exception):
                faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
        case "SIGABRT":
            os.kill(os.getpid(), signal.SIGABRT)
    time.sleep(30)


def die_on_5(how: str, path: str, x: int) -> int:
    append(path, x)
    if x == 5:
        die(how)
    return 2 * x


def die_once(path: str, x: int) -> int:
    """Die the first time that item 5 runs."""
    if x == 5 and not os.path.exists(path):
        append(path, x)
        die("SIGKILL")
    return 2 * x


def fork_and_stay(path: str) -> int:
    """Leave a child that keeps everything open."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    append(path, pid)
    return pid


def die_with_child(path: str) -> None:
    fork_and_stay(path)
    os._exit(5)


def fail_once_met(path: str, x: int) -> int:
    """Item 0 fails as soon as another one has begun, or at once where there is no other lane; others never end."""
    if x == 0:
        time.sleep(0.05)
        raise OwnError("zero")
    loop_until_cancelled(path)
    return x


def log_and_fail_on_odd(path: str, x: int) -> int:
    append(path, x)
    return fail_on_odd(x)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def nap(seconds: float) -> float:
    """Sleep in small steps, heeding cancellation."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        offloop.checkpoint()
        time.sleep(0.001)
    return seconds


def loop_first(path: str, x: int) -> int:
    """Every fifth item goes on until cancelled."""
    if x % 5 == 0:
        loop_until_cancelled(path)
    return x


def ask_until_cancelled(path: str) -> str:
    append(f"{path}.began", os.getpid())
    end = time.monotonic() + 30
    while not offloop.is_cancelled() and time.monotonic() < end:
        time.sleep(0.001)
    append(f"{path}.stopped", os.getpid())
    return "stopped by itself"


def swallow_exceptions(path: str) -> None:
    append(f"{path}.began", os.getpid())
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            try:
                offloop.checkpoint()
                time.sleep(0.001)
            except Exception:
                continue
    finally:
        append(f"{path}.stopped", os.getpid())


def close_stdio() -> str:
    """Close descriptors 1 and 2 of a worker."""
    assert offloop.in_worker()
    os.close(1)
    os.close(2)
    return "closed"


def leave_thread(x: int) -> int:
    """Leave a thread behind that is not a daemon."""
    threading.Thread(target=time.sleep, args=(30,), daemon=False).start()
    return x


def grow(item: list[Any]) -> list[Any]:
    item.append("more")
    return item


def own_loop(x: int) -> int:
    async def inner() -> int:
        await anyio.sleep(0.001)
        return 2 * x

    return anyio.run(inner)


def nested_pids() -> tuple[int, list[int]]:
    return os.getpid(), anyio.run(offloop.run_parallel, pid_of, range(3))


def die_named(how: str) -> str:
    if how:
        die(how)
    return how


def nest_for_3(x: int) -> Any:
    return nest(100_000) if x == 3 else x


def reduce_exit_for_3(x: int) -> Any:
    return FailsToPickle(SystemExit) if x == 3 else x


class BadToRebuild(Exception):
    """An exception that pickles well, and raises where it is rebuilt outside of a worker."""

    def __reduce__(self) -> Any:
        return _rebuild_in_worker_only, (str(self),)


def _rebuild_in_worker_only(text: str) -> BadToRebuild:
    if not offloop.in_worker():
        raise OwnError("not here")
    return BadToRebuild(text)


def bad_exception_for_3(x: int) -> int:
    if x == 3:
        raise BadToRebuild("its text")
    return x


def fork_and_loop(path: str) -> None:
    """Leave a child behind, and go on whatever happens."""
    fork_and_stay(f"{path}.child")
    loop_deaf(path)


# --- what a decision rests on ------------------------------------------------------------------------------------------

_inside: list[int] = []  # threads of this process that execute `guarded` now
_inside_lock = threading.Lock()


def guarded(seconds: float) -> tuple[int, int]:
    """Take so long, and return the process and how many of its threads were in here at the most."""
    with _inside_lock:
        _inside.append(threading.get_ident())
        most = len(_inside)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        offloop.checkpoint()
        time.sleep(min(seconds, 0.001))
        with _inside_lock:
            most = max(most, len(_inside))
    with _inside_lock:
        _inside.remove(threading.get_ident())
    return os.getpid(), most


def sleep_and_tell(seconds: float) -> tuple[int, int]:
    """Take so long without the GIL, and return the process and the thread."""
    time.sleep(seconds)
    return thread_of()


def sleep_by_size(seconds_per_byte: float, data: bytes) -> int:
    if len(data) > 1000:
        time.sleep(seconds_per_byte * len(data))
    return os.getpid()


def sleep_by_size_here(data: bytes) -> int:
    time.sleep(1e-6 * len(data))
    return os.getpid()


def log_and_sleep(path: str, item: tuple[int, float]) -> tuple[int, int]:
    """Note the execution of a numbered item, take its seconds, and return its number and the process."""
    number, seconds = item
    append(path, number)
    if seconds:
        time.sleep(seconds)
    return number, os.getpid()


def spin_and_tell(seconds: float) -> int:
    spin(seconds)
    return os.getpid()


def loop_until_cancelled_as(path: str, _: Any) -> str:
    return loop_until_cancelled(path)


def echo_after(seconds: float, x: Any) -> Any:
    if seconds:
        nap(seconds)
    return x


def hold_gil_for(seconds: float) -> int:
    """Keep the GIL for so long, without using the processor."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


def log_and_wait(path: str, x: int) -> int:
    """Note the execution of an item, and wait until the file ``path.go`` is there, heeding cancellation."""
    append(path, x)
    end = time.monotonic() + 30
    while not os.path.exists(f"{path}.go") and time.monotonic() < end:
        offloop.checkpoint()
        time.sleep(0.001)
    return x


def die_if_told(how: str, x: int) -> tuple[int, int]:
    if how:
        die(how)
    return x, os.getpid()


def log_and_lock(path: str, x: int) -> Any:
    """Note the execution of an item, and take a while; the result of item 3 can't be pickled."""
    append(path, x)
    time.sleep(0.015)
    return threading.Lock() if x == 3 else (x, os.getpid())


def log_request(path: str, request: Any) -> tuple[int, int]:
    append(path, request.number)
    time.sleep(0.015)
    return request.number, os.getpid()


def log_request_of(_: Any, path: str, request: Any) -> tuple[int, int]:
    return log_request(path, request)


def log_request_slowly(path: str, request: Any) -> tuple[int, int]:
    append(path, request.number)
    return request.number, hold_gil_for(0.02)


def hold_and_lock(path: str, seconds: float, x: int) -> Any:
    append(path, x)
    hold_gil_for(seconds)
    return lock_for_3(x)


def fail_on_odd_or_lock(x: Any) -> Any:
    time.sleep(0.015)
    return fail_on_odd(x) if isinstance(x, int) else x


def niceness() -> int:
    return os.nice(0)


def hold_memory(n_bytes: int) -> bytearray:
    """Be the worker_init of workers that hold so much of their own."""
    return bytearray(os.urandom(1 << 20)) * (n_bytes >> 20)


class SlowToRebuild:
    """A result that takes so long to unpickle."""

    def __init__(self, number: int, seconds: float) -> None:
        self.number, self.seconds = number, seconds

    def __reduce__(self) -> Any:
        return _rebuild_slowly, (self.number, self.seconds)


def _rebuild_slowly(number: int, seconds: float) -> SlowToRebuild:
    time.sleep(seconds)
    return SlowToRebuild(number, seconds)


def slow_to_rebuild(x: int) -> SlowToRebuild:
    return SlowToRebuild(x, 0.02)


def reasons_inside(x: int) -> tuple[str, str, list[int]]:
    """Run a map in a session of this process, and return where and why."""

    async def inner() -> tuple[str, str, list[int]]:
        async with offloop.ParallelSession(workers=2) as session:
            results = await session.run_parallel(double, [x, x + 1], strategy="processes")
            return session.decisions[-1].strategy.value, session.decisions[-1].reason.value, results

    return anyio.run(inner)


@contextlib.contextmanager
def heard(kind: str = "") -> Iterator[list[Any]]:
    """Collect the events that are told in this context: all of them, or those of one name."""
    events: list[Any] = []
    remove = offloop.add_sink(lambda event: events.append(event) if kind in ("", event.event) else None)
    try:
        yield events
    finally:
        remove()


async def gather(*calls: Any) -> list[Any]:
    """Await calls side by side and return their results in order."""
    results: list[Any] = [None] * len(calls)

    async def one(place: int, call: Any) -> None:
        results[place] = await call

    async with anyio.create_task_group() as tasks:
        for place, call in enumerate(calls):
            tasks.start_soon(one, place, call)
    return results


# --- blocks of rows --------------------------------------------------------------------------------------------------


def fail_at_row(row: int, block: Any) -> Any:
    if row in block:
        raise ZeroDivisionError(f"at {row}")
    return block


def log_span(path: str, block: Any) -> Any:
    """Note the first and last row of a block in a file."""
    append(path, f"{block[0]}-{block[-1]}")
    return block


def noisy(block: Any, *, rng: Any) -> Any:
    return block + rng.normal(size=block.shape)


def noisy_pair(block: Any, other: Any, *, rng: Any) -> Any:
    return block + other + rng.normal(size=block.shape)


def layout_of(block: Any) -> list[Any]:
    """Return, for each row, the type of the block, whether it is in Fortran order, and whether it is a view."""
    return [(type(block), block.flags.f_contiguous, block.base is not None)] * len(block)


def die_once_in_block(path: str, block: Any) -> Any:
    """Die the first time that the block with row 120 runs."""
    if 120 in block and not os.path.exists(path):
        append(path, 120)
        die("SIGKILL")
    return block


def mapped_from(array: Any) -> str:
    """Return the path of the file that an array is mapped from; empty if it is not."""
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, *rest = line.split(maxsplit=5)
            begin, end = (int(part, 16) for part in span.split("-"))
            if begin <= address < end:
                return rest[4].strip() if len(rest) == 5 else ""
    return ""


def nap_of_an_array(array: Any) -> tuple[float, float]:
    """Sleep for as long as an array says; return when that began and ended, by the machine's monotonic clock."""
    begun = time.monotonic()
    time.sleep(float(array[0]))
    return begun, time.monotonic()
