"""Faults to inject, and the book of those that have not happened yet."""

from __future__ import annotations

import signal as signals
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..wire.pickling import describe_function, function_name


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        times: How often, counted over all runs.
    """

    times: int = 1

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"times={self.times!r}: a fault happens once or more")


@dataclass(frozen=True, kw_only=True)
class Crash(Fault):
    """The worker dies as it begins with the item, so that this is retried alone, as ``retries`` has it, or fails as `WorkerCrashed`.

    Attributes:
        signal: What kills it. None: it exits by itself.
        exit_code: Its exit code then.
        cause: The likely cause, as the error is to tell it.
    """

    signal: int | None = signals.SIGKILL
    exit_code: int = 1
    cause: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.signal is not None:
            signals.Signals(self.signal)

    @property
    def ending(self) -> int:
        """How the worker ended, as `os.waitstatus_to_exitcode` has it."""
        return self.exit_code if self.signal is None else -self.signal


@dataclass(frozen=True, kw_only=True)
class TimeOut(Fault):
    """The item executes for longer than ``item_timeout_s`` (``timeout_s`` of `run`) allows, and fails as `ItemTimeout`; no time passes."""


@dataclass(frozen=True, kw_only=True)
class Slow(Fault):
    """The item counts as if it had taken so long, also against its time limit; no time passes.

    Attributes:
        seconds: How long.
    """

    seconds: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Overload(Fault):
    """The call is refused with `Overloaded`; nothing of it is executed.

    Attributes:
        retry_after_s: Seconds after which the caller is told to come again.
        why: Which limit it is said to exceed: ``max_pending``, ``max_wait_s`` or ``deadline``.
    """

    retry_after_s: float = 1.0
    why: str = "max_pending"


Choice = Callable[[int, Any], Fault | None]
Faults = Mapping[int, Fault | Sequence[Fault]] | Choice


class Inject(Protocol):
    """What the fixture ``offloop_faults`` is; see `InlineSession.inject`."""

    def __call__(self, faults: Faults, *, fn: Callable[..., Any] | None = None) -> None:
        """Have something go wrong."""
        ...


class _Entry:
    """One fault that was injected.

    Attributes:
        fault: The fault.
        place: Index of the item that it happens to; of an `Overload`, number of the call.
        function: The only function that it happens to; None for any.
        n_left: How often it still happens.
        n_calls: How many calls have come that an `Overload` might have refused.
    """

    def __init__(self, fault: Fault, place: int, function: Any) -> None:
        self.fault, self.place, self.function = fault, place, function
        self.n_left, self.n_calls = fault.times, 0


def _is_for(function: Any, name: str) -> bool:
    """Whether what is for this function, or any if None, is for the one with this name in errors or in logs.

    What is for a function is for a partial or a `star` of it too.
    """
    if function is None or name == function_name(function):
        return True
    described = describe_function(function)
    return name == described or name.endswith(f" of {described}")


@dataclass(frozen=True)
class Fate:
    """What is to happen to an item.

    Attributes:
        index: Of the item.
        fault: The fault; or why it could not be chosen.
        happened: To be called when it has.
    """

    index: int
    fault: Fault | Exception
    happened: Callable[[], None]


def _chosen(choice: Choice, index: int, item: Any) -> Fault | Exception | None:
    """Return what a function of the test's chooses for an item; what it raises, or should not return, as an error."""
    try:
        fault = choice(index, item)
    except Exception as error:
        return error
    if fault is None or (isinstance(fault, Fault) and not isinstance(fault, Overload)):
        return fault
    return TypeError(f"faults to choose for an item are Crash(), TimeOut(), Slow() or None, not {fault!r}")


class FaultBook:
    """Faults that were injected; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._choices: list[tuple[Choice, Any]] = []

    def add(self, faults: Faults, fn: Callable[..., Any] | None) -> None:
        """Inject faults."""
        if callable(faults):
            self._choices.append((faults, fn))
            return
        if not isinstance(faults, Mapping):
            raise TypeError(f"write faults by index, as in {{3: Crash()}}, or a function of index and item, not {faults!r}")
        entries: list[_Entry] = []
        for place, given in faults.items():
            if type(place) is not int or place < 0:
                raise TypeError(f"faults are by the index of an item, or the number of a call, from 0, not by {place!r}")
            for fault in given if isinstance(given, list | tuple) else (given,):
                if not isinstance(fault, Fault):
                    raise TypeError(f"faults are Crash(), TimeOut(), Slow() or Overload(), not {fault!r}")
                entries.append(_Entry(fault, place, fn))
        self._entries += entries

    @property
    def left(self) -> list[Fault]:
        """Those that have not happened as often as they were to."""
        return [entry.fault for entry in self._entries if entry.n_left > 0]

    def of(self, name: str, start: int, items: Sequence[Any]) -> Iterator[Fate]:
        """Yield what is to happen to items of a function, in their order."""
        for index, item in enumerate(items, start):
            for entry in self._entries:
                is_here = entry.place == index and entry.n_left > 0 and not isinstance(entry.fault, Overload)
                if is_here and _is_for(entry.function, name):
                    yield Fate(index, entry.fault, lambda entry=entry: self._count(entry))  # type: ignore[misc]
                    break
            else:
                yield from self._chosen(name, index, item)

    def _chosen(self, name: str, index: int, item: Any) -> Iterator[Fate]:
        for choice, fn in self._choices:
            fault = _chosen(choice, index, item) if _is_for(fn, name) else None
            if fault is not None:
                yield Fate(index, fault, lambda: None)
                return

    def _count(self, entry: _Entry) -> None:
        with self._lock:
            entry.n_left -= 1

    def overload(self, name: str) -> Overload | None:
        """Return why a call that comes now is refused, if it is."""
        refusal: Overload | None = None
        with self._lock:
            for entry in self._entries:
                fault = entry.fault
                if not isinstance(fault, Overload) or not _is_for(entry.function, name):
                    continue
                is_due = entry.n_calls >= entry.place and entry.n_left > 0
                entry.n_calls += 1
                if is_due and refusal is None:
                    refusal = fault
                    entry.n_left -= 1
        return refusal
