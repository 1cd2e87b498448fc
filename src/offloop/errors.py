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
    ├── Overloaded              (RuntimeError)  the session takes no more calls just now
    ├── ItemError               (RuntimeError)  stands in for what fn raised and can't be raised here
    ├── AskError                (RuntimeError)  a question of fn got no answer; in ask_error.py
    └── SessionClosedError      (RuntimeError)  the session was closed, or never opened

    TaskCancelled               (BaseException) raised inside fn when its item is to stop

What the user's function raises arrives as itself, or as `ItemError` where it would end the caller's own loop or can't be rebuilt
here. Fields are positional and texts are composed from them, so that each class survives a pickle round trip; see `Explained`.
"""

from __future__ import annotations

from typing import Any

from .endings import crashed_stack, ending_of, signal_name
from .explaining import Explained


class OffloopError(Explained, Exception):
    """Base of every error that offloop itself raises."""

    code = "offloop-error"


class SettingError(OffloopError, ValueError):
    """A setting has a value that can't work.

    Args:
        setting: Its name, for example ``workers``.
        value: The value that was given.
        advice: What to write instead.
    """

    code = "setting-value"
    _what = "{setting}={value!r}: {advice}"

    def __init__(self, setting: str, value: object, advice: str) -> None:
        super().__init__(setting, value, advice)
        self.setting = setting
        self.value = value
        self.advice = advice


class SettingTypeError(SettingError, TypeError):
    """A setting is of the wrong type or does not exist."""

    code = "setting-type"


class AsyncFunctionError(OffloopError, TypeError):
    """fn is an ``async def`` function or returned a coroutine, which a worker can't await.

    Args:
        function: The function's name.
    """

    code = "async-function"
    _what = "fn is async, and a worker can't await its coroutine"
    _fn = "{function}"
    _fix = "await it on the loop, or pass the plain function that does the CPU-bound part"

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.function = function


class UnpicklableError(OffloopError, TypeError):
    """Something can't be pickled, so it can't travel between processes; the pickling error is the ``__cause__``.

    Args:
        subject: What was to travel, for example ``items[17]``.
        path: The attribute that can't be pickled, for example ``items[17].client._lock``.
        type_name: The type found there, for example ``_thread.lock``.
        function: The function it was for.
    """

    code = "unpicklable"
    _what = "{subject} can't be sent to a worker"
    _where = "{path}  ({type_name})"
    _fn = "{function}"
    _fix = "send plain data and build the object in worker_init=…, or use strategy=\"threads\""

    def __init__(self, subject: str, path: str, type_name: str, function: str) -> None:
        super().__init__(subject, path, type_name, function)
        self.subject = subject
        self.path = path
        self.type_name = type_name
        self.function = function


class UnpicklableFunction(UnpicklableError):
    """fn, or something bound in it, can't be pickled."""

    code = "unpicklable-function"
    _fix = "pass what it needs as plain arguments, build the rest in worker_init=…, or use strategy=\"threads\""


class UnpicklableItem(UnpicklableError):
    """An item, or an argument of `run`, can't be pickled, or can't be unpickled in the worker."""

    code = "unpicklable-item"


class UnpicklableResult(UnpicklableError):
    """What fn returned can't be pickled in the worker, or can't be unpickled here."""

    code = "unpicklable-result"
    _what = "{subject} can't be sent back from a worker"
    _fix = "return plain data, or use strategy=\"threads\""


class PayloadTooLarge(MemoryError, OffloopError):  # in this order, so that `__new__` is the base's own
    """Memory has no room for what should travel to a worker; nothing of it was sent.

    Args:
        needed_bytes: How much it is.
        available_bytes: How much may still be taken, the limits of control groups included.
    """

    code = "payload-too-large"
    _what = "{needed_bytes:,} bytes should travel to a worker, and memory has room for {available_bytes:,}"
    _cause = "probably the data is in memory once already, and no copy fits beside it"
    _fix = 'send less at a time, or a path to the data; or use strategy="threads", where nothing travels'

    def __init__(self, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(needed_bytes, available_bytes)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class WorkerError(OffloopError, RuntimeError):
    """A worker process failed, as opposed to the function that it ran."""

    code = "worker-error"


class WorkerStartError(WorkerError):
    """No worker process could be started; the operating system's error is the ``__cause__``.

    Args:
        reason: What happened.
    """

    code = "worker-start-failed"
    _what = "no worker process could be started"
    _cause = "{reason}"
    _fix = (
        "look at ulimit -a, at the container's limits, and at what the process wrote to standard error; "
        'strategy="serial" works without workers'
    )

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WorkerInitError(WorkerError):
    """``worker_init`` raised, or ended its process; what it raised is the ``__cause__`` where it could travel.

    Args:
        initializer: The name of worker_init.
        reason: What it raised, or how its process ended.
    """

    code = "worker-init-failed"
    _what = "worker_init={initializer} failed"
    _cause = "{reason}"
    _fix = "it runs once in every process that executes items: call it by hand in a fresh one to see it fail"

    def __init__(self, initializer: str, reason: str) -> None:
        super().__init__(initializer, reason)
        self.initializer = initializer
        self.reason = reason


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

    code = "worker-crashed"
    _fn = "{function}"

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
        return signal_name(self.exit_code)

    def _parts(self) -> dict[str, str]:
        where = f"items[{self.first}]" if self.first == self.last else f"items[{self.first}…{self.last}]"
        how, cause, fix = ending_of(self.exit_code)
        known = {"where": where, "cause": self.cause or cause, "fix": fix, "stack": crashed_stack(self.dump)}
        return super()._parts() | known | {"what": f"a worker died on {where}: {how}"}


class ItemTimeout(OffloopError, TimeoutError):
    """An item executed for longer than ``item_timeout_s``, or a call for longer than ``timeout_s``, and was stopped.

    Args:
        index: Index of the item; 0 for a single call.
        limit_s: Seconds that it was allowed.
        age_s: Seconds that it had executed when it was stopped; waiting doesn't count.
        function: The function that it ran.
    """

    code = "item-timeout"
    _what = "items[{index}] was stopped after {age_s:.3f} s, and was allowed {limit_s:g} s"
    _where = "items[{index}]"
    _fn = "{function}"
    _cause = "probably an endless loop, a deadlock, or an item much larger than others"
    _fix = (
        "raise item_timeout_s (timeout_s of run), or split the item; "
        "offloop.checkpoint() in its loops lets it stop by itself, so that its worker is not lost"
    )

    def __init__(self, index: int, limit_s: float, age_s: float, function: str) -> None:
        super().__init__()  # OSError would take them for errno, text and file name
        self.args: tuple[Any, ...] = (index, limit_s, age_s, function)
        self.index = index
        self.limit_s = limit_s
        self.age_s = age_s
        self.function = function


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

    code = "item-error"
    _what = "items[{index}] raised {type_name}, {why}"
    _where = "items[{index}]"
    _cause = "{type_name}: {message}"
    _fix = "in fn, raise an Exception that can be pickled, and that ends neither a program nor an iteration"

    def __init__(self, index: int, type_name: str, message: str, why: str) -> None:
        super().__init__(index, type_name, message, why)
        self.index = index
        self.type_name = type_name
        self.message = message
        self.why = why


class BatchLengthError(OffloopError, ValueError):
    """fn returned another number of rows than the block had that it was called with.

    Args:
        function: The function's name.
        n_rows: Rows of the block.
        n_returned: Rows of what fn returned.
    """

    code = "batch-length"
    _fn = "{function}"
    _cause = "probably it filters or aggregates rows, so its results can't be put together as those of the rows"
    _fix = 'return one row for each row; combine="list" returns what fn returned for each block as it is'

    def __init__(self, function: str, n_rows: int, n_returned: int) -> None:
        super().__init__(function, n_rows, n_returned)
        self.function = function
        self.n_rows = n_rows
        self.n_returned = n_returned

    def _parts(self) -> dict[str, str]:
        rows = "row" if self.n_returned == 1 else "rows"
        return super()._parts() | {"what": f"fn returned {self.n_returned} {rows} for a block of {self.n_rows}"}


class BatchTypeError(OffloopError, TypeError):
    """What fn returned for blocks of rows can't be concatenated; a library's own error is the ``__cause__``.

    Args:
        function: The function's name.
        found: The type, or types, that it returned.
        why: What is wrong with that.
    """

    code = "batch-type"
    _what = "what fn returned for blocks of rows can't be concatenated"
    _fn = "{function}"
    _cause = "{found}, {why}"
    _fix = (
        "return an array, a table or a list with one row for each row of the block, or a tuple of these; "
        'combine="list" returns the results of the blocks as they are'
    )

    def __init__(self, function: str, found: str, why: str) -> None:
        super().__init__(function, found, why)
        self.function = function
        self.found = found
        self.why = why


class Overloaded(OffloopError, RuntimeError):
    """The session takes no more calls just now, or could not begin this one in time; nothing of it was executed.

    Args:
        why: ``max_pending``, ``max_pending_bytes``, ``max_wait_s``, or ``deadline`` for that of the caller's own cancel scope.
        retry_after_s: When to try again: seconds of work that calls under way are estimated to bring ÷ number of workers.
        pending: Calls that waited or executed.
        limit: Of calls, of bytes, or of seconds.
    """

    code = "overloaded"
    _what = "the session takes no more calls just now"
    _fix = "try again after {retry_after_s:.2g} s, or tell the client to; more workers or a higher limit let more wait"

    def __init__(self, why: str, retry_after_s: float, pending: int, limit: float) -> None:
        super().__init__(why, retry_after_s, pending, limit)
        self.why = why
        self.retry_after_s = retry_after_s
        self.pending = pending
        self.limit = limit

    def _parts(self) -> dict[str, str]:
        causes = {
            "max_pending": f"{self.pending} call{' waits or executes' if self.pending == 1 else 's wait or execute'}, and max_pending={self.limit:g}",
            "max_pending_bytes": f"with what {self.pending} calls under way bring it exceeds max_pending_bytes={self.limit:.0f}",
            "max_wait_s": f"it waited for a worker, or would have to, for longer than max_wait_s={self.limit:g}",
        }
        deadline = f"no worker would come free within the {self.limit:.2g} s that its caller allows"
        return super()._parts() | {"cause": causes.get(self.why, deadline)}


class SessionClosedError(OffloopError, RuntimeError):
    """The session was closed, is draining, or was not opened yet.

    Args:
        state: ``closed``, ``draining``, ``not open`` or the like.
    """

    code = "session-closed"
    _what = "the session is {state}"
    _fix = "use it inside `async with ParallelSession(...) as session:`; once closed it can't be opened again"

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state

    def _parts(self) -> dict[str, str]:
        parts = super()._parts()
        draining = {"cause": "it finishes what it has admitted and takes nothing new", "fix": "open another session"}
        return parts | draining if self.state == "draining" else parts


class TaskCancelled(Explained, BaseException):
    """Raised inside fn when its item is to stop: its run was cancelled, or its time is over.

    `checkpoint` raises it, and where that isn't called the interrupt of a worker does, at whatever place its Python code has
    reached. A BaseException, so that ``except Exception`` in the user's code lets it through.
    """

    code = "task-cancelled"
    _what = "this item is to stop: its run was cancelled, or its time is over"
    _fix = "let it pass; clean up in `finally`, or in a `with` block"
