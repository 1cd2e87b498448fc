"""The errors that offloop raises.

    OffloopError
    ├── SettingError            (ValueError)    a setting has a value that can't work
    │   └── SettingTypeError    (TypeError)     … or is of the wrong type, or unknown
    ├── AsyncFunctionError      (TypeError)     fn is async, or returned a coroutine
    ├── UnpicklableError        (TypeError)     something can't travel between processes
    │   ├── UnpicklableFunction
    │   ├── UnpicklableItem
    │   └── UnpicklableResult
    ├── PayloadTooLarge         (MemoryError)   memory has no room for what should travel
    ├── WorkerError             (RuntimeError)
    │   ├── WorkerStartError                    no worker process could be started
    │   ├── WorkerInitError                     worker_init failed
    │   └── WorkerCrashed                       a worker died with this work on it
    ├── ItemTimeout             (TimeoutError)  an item executed for longer than it may
    ├── BatchLengthError        (ValueError)    fn returned another number of rows than it got
    ├── BatchTypeError          (TypeError)     what fn returned for blocks of rows can't be concatenated
    ├── ItemError               (RuntimeError)  stands in for what fn raised and can't be raised here
    └── SessionClosedError      (RuntimeError)  the session was closed, or never opened

    TaskCancelled               (BaseException) raised inside fn when its item is to stop

An exception raised by the user's function arrives as itself; `ItemError` stands in only for those that would end
the caller's own loop (SystemExit, StopIteration, …) or can't be rebuilt here.

Every class takes its fields by position and composes its text from them, so that each survives a pickle round trip.
"""

from __future__ import annotations

import signal


class OffloopError(Exception):
    """Base of every error that offloop itself raises."""


class SettingError(OffloopError, ValueError):
    """A setting has a value that can't work.

    Args:
        setting: Its name, for example ``workers``.
        value: The value that was given.
        advice: What to write instead.
    """

    def __init__(self, setting: str, value: object, advice: str) -> None:
        super().__init__(setting, value, advice)
        self.setting = setting
        self.value = value
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.setting}={self.value!r}: {self.advice}"


class SettingTypeError(SettingError, TypeError):
    """A setting is of the wrong type or does not exist."""


class AsyncFunctionError(OffloopError, TypeError):
    """fn is an ``async def`` function or returned a coroutine, which a worker can't await.

    Args:
        function: The function's name.
    """

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.function = function

    def __str__(self) -> str:
        return (
            f"{self.function} is async: its coroutine can't be awaited in a worker. "
            "Await it on the loop, or pass the plain function that does the CPU-bound part."
        )


class UnpicklableError(OffloopError, TypeError):
    """Something can't be pickled, so it can't travel between processes; the pickling error is the ``__cause__``.

    Args:
        subject: What was to travel, for example ``items[17]``.
        path: The attribute that can't be pickled, for example ``items[17].client._lock``.
        type_name: The type found there, for example ``_thread.lock``.
        function: The function it was for.
    """

    verb = "can't be sent to a worker"
    fix = "send plain data and build the object in worker_init=…, or use strategy=\"threads\""

    def __init__(self, subject: str, path: str, type_name: str, function: str) -> None:
        super().__init__(subject, path, type_name, function)
        self.subject = subject
        self.path = path
        self.type_name = type_name
        self.function = function

    def __str__(self) -> str:
        return (
            f"{self.subject} {self.verb}\n"
            f"  where: {self.path}  ({self.type_name})\n"
            f"  fn:    {self.function}\n"
            f"  fix:   {self.fix}"
        )


class UnpicklableFunction(UnpicklableError):
    """fn, or something bound in it, can't be pickled."""

    fix = "pass what it needs as plain arguments, build the rest in worker_init=…, or use strategy=\"threads\""


class UnpicklableItem(UnpicklableError):
    """An item, or an argument of `run`, can't be pickled, or can't be unpickled in the worker."""


class UnpicklableResult(UnpicklableError):
    """What fn returned can't be pickled in the worker, or can't be unpickled here."""

    verb = "can't be sent back from a worker"
    fix = "return plain data, or use strategy=\"threads\""


class PayloadTooLarge(OffloopError, MemoryError):
    """Memory has no room for what should travel to a worker; nothing of it was sent.

    Args:
        needed_bytes: How much it is.
        available_bytes: How much may still be taken, the limits of control groups included.
    """

    def __init__(self, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(needed_bytes, available_bytes)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes

    def __str__(self) -> str:
        return (
            f"{self.needed_bytes:,} bytes should travel to a worker, and memory has room for {self.available_bytes:,}. "
            "Likely cause: the data is in memory once already. Send less at a time (run_batches, or a path to the data), "
            'or use strategy="threads", where nothing travels.'
        )


class WorkerError(OffloopError, RuntimeError):
    """A worker process failed, as opposed to the function that it ran."""


class WorkerStartError(WorkerError):
    """No worker process could be started; the operating system's error is the ``__cause__``.

    Args:
        reason: What happened.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"a worker process could not be started: {self.reason}. "
            "Likely causes: the limit of processes, descriptors or memory is reached (ulimit -a, the container's "
            "limits). strategy=\"serial\" works without workers."
        )


class WorkerInitError(WorkerError):
    """``worker_init`` raised, or ended its process; what it raised is the ``__cause__`` where it could travel.

    Args:
        initializer: The name of worker_init.
        reason: What it raised, or how its process ended.
    """

    def __init__(self, initializer: str, reason: str) -> None:
        super().__init__(initializer, reason)
        self.initializer = initializer
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"worker_init={self.initializer} failed: {self.reason}. "
            "It runs once in every process that executes items; call it by hand to see it fail."
        )


class WorkerCrashed(WorkerError):
    """A worker process died while these items were on it.

    Args:
        first: Index of the first item concerned; 0 for a single call.
        last: Index of the last one, inclusive.
        exit_code: As `os.waitstatus_to_exitcode` gives it: negative for a signal, None where it isn't known.
        function: The function that it ran.
        cause: What is known of why it died; empty where that can only be guessed.
        dump: What faulthandler wrote as it died: the Python stack of each thread; empty if nothing.
    """

    def __init__(
        self, first: int, last: int, exit_code: int | None, function: str, cause: str = "", dump: str = ""
    ) -> None:
        super().__init__(first, last, exit_code, function, cause, dump)
        self.first = first
        self.last = last
        self.exit_code = exit_code
        self.function = function
        self.cause = cause
        self.dump = dump

    @property
    def signal(self) -> str | None:
        """Name of the signal that ended the worker, for example ``SIGSEGV``; None if it exited by itself."""
        if self.exit_code is None or self.exit_code >= 0:
            return None
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}"

    def __str__(self) -> str:
        items = f"items[{self.first}]" if self.first == self.last else f"items[{self.first}…{self.last}]"
        return f"a worker died on {items} of {self.function}: {self._how()}"

    def _how(self) -> str:
        if self.signal == "SIGKILL":
            return "killed by SIGKILL. Likely cause: out of memory, or someone killed it."
        if self.signal is not None:
            return f"killed by {self.signal}. Likely cause: a bug in compiled code that the function calls."
        if self.exit_code is None:
            return "how it ended isn't known."
        return f"exit code {self.exit_code}. Likely cause: os._exit() or C code that calls exit()."


class ItemTimeout(OffloopError, TimeoutError):
    """An item executed for longer than ``item_timeout_s``, or a call for longer than ``timeout_s``, and was stopped.

    Args:
        index: Index of the item; 0 for a single call.
        limit_s: Seconds that it was allowed.
        age_s: Seconds that it had executed when it was stopped; waiting doesn't count.
        function: The function that it ran.
    """

    def __init__(self, index: int, limit_s: float, age_s: float, function: str) -> None:
        super().__init__(index, limit_s, age_s, function)
        self.index = index
        self.limit_s = limit_s
        self.age_s = age_s
        self.function = function

    def __str__(self) -> str:
        return (
            f"items[{self.index}] of {self.function} executed for {self.age_s:.3g} s and was allowed {self.limit_s:g} s. "
            "Likely cause: an endless loop, a deadlock, or an item much larger than others."
        )


class ItemError(OffloopError, RuntimeError):
    """Stands in for what fn raised where that itself can't be raised here.

    That is the case for SystemExit, KeyboardInterrupt, StopIteration and other exceptions that would end the
    caller's loop or coroutine (then it is the ``__cause__``), and for those that can't be rebuilt in this process.

    Args:
        index: Index of the item; 0 for a single call.
        type_name: Qualified name of the exception's class.
        message: Its text.
        why: Why it isn't raised as itself.
    """

    def __init__(self, index: int, type_name: str, message: str, why: str) -> None:
        super().__init__(index, type_name, message, why)
        self.index = index
        self.type_name = type_name
        self.message = message
        self.why = why

    def __str__(self) -> str:
        return f"items[{self.index}] raised {self.type_name}({self.message}), {self.why}"


class BatchLengthError(OffloopError, ValueError):
    """fn returned another number of rows than the block had that it was called with.

    Args:
        function: The function's name.
        n_rows: Rows of the block.
        n_returned: Rows of what fn returned.
    """

    def __init__(self, function: str, n_rows: int, n_returned: int) -> None:
        super().__init__(function, n_rows, n_returned)
        self.function = function
        self.n_rows = n_rows
        self.n_returned = n_returned

    def __str__(self) -> str:
        returned = f"{self.n_returned} row{'s' * (self.n_returned != 1)}"
        return (
            f"{self.function} returned {returned} for a block of {self.n_rows}, so its results can't be put together "
            "as those of the rows. Likely cause: it filters or aggregates rows. "
            "combine=\"list\" returns what it returned for each block as it is."
        )


class BatchTypeError(OffloopError, TypeError):
    """What fn returned for blocks of rows can't be concatenated; a library's own error is the ``__cause__``.

    Args:
        function: The function's name.
        found: The type, or types, that it returned.
        why: What is wrong with that.
    """

    def __init__(self, function: str, found: str, why: str) -> None:
        super().__init__(function, found, why)
        self.function = function
        self.found = found
        self.why = why

    def __str__(self) -> str:
        return (
            f"what {self.function} returned for blocks of rows can't be concatenated: {self.found}, {self.why}. "
            "Return an array, a table or a list with one row for each row of the block, or a tuple of these; "
            "combine=\"list\" returns the results of the blocks as they are."
        )


class SessionClosedError(OffloopError, RuntimeError):
    """The session was closed, or not opened yet.

    Args:
        state: ``closed``, ``not open`` or the like.
    """

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"the session is {self.state}: use it inside `async with ParallelSession(...) as session:`"


class TaskCancelled(BaseException):
    """Raised inside fn when its item is to stop: its run was cancelled, or its time is over.

    `checkpoint` raises it, and where that isn't called the interrupt of a worker does, at whatever place its Python code has
    reached. A BaseException, so that ``except Exception`` in the user's code lets it through.
    """
