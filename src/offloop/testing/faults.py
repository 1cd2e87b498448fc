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

    def is_for(self, name: str) -> bool:
        """Whether it happens to a function, by its name in errors or in logs."""
        return self.function is None or name in (describe_function(self.function), function_name(self.function))


@dataclass(frozen=True)
class Fate:
    """What is to happen to an item.

    Attributes:
        index: Of the item.
        fault: The fault.
        happened: To be called when it has.
    """

    index: int
    fault: Fault
    happened: Callable[[], None]


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
        for place, given in faults.items():
            for fault in given if isinstance(given, list | tuple) else (given,):
                if not isinstance(fault, Fault):
                    raise TypeError(f"faults are Crash(), TimeOut(), Slow() or Overload(), not {fault!r}")
                self._entries.append(_Entry(fault, place, fn))

    @property
    def left(self) -> list[Fault]:
        """Those that have not happened as often as they were to."""
        return [entry.fault for entry in self._entries if entry.n_left > 0]

    def of(self, name: str, start: int, items: Sequence[Any]) -> Iterator[Fate]:
        """Yield what is to happen to items of a function, in their order."""
        for index, item in enumerate(items, start):
            for entry in self._entries:
                is_here = entry.place == index and entry.n_left > 0 and not isinstance(entry.fault, Overload)
                if is_here and entry.is_for(name):
                    yield Fate(index, entry.fault, lambda entry=entry: self._count(entry))  # type: ignore[misc]
                    break
            else:
                yield from self._chosen(name, index, item)

    def _chosen(self, name: str, index: int, item: Any) -> Iterator[Fate]:
        for choice, fn in self._choices:
            if fn is None or name in (describe_function(fn), function_name(fn)):
                fault = choice(index, item)
                if fault is not None and not isinstance(fault, Overload):
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
                if not isinstance(fault, Overload) or not entry.is_for(name):
                    continue
                is_due = entry.n_calls >= entry.place and entry.n_left > 0
                entry.n_calls += 1
                if is_due and refusal is None:
                    refusal = fault
                    entry.n_left -= 1
        return refusal
