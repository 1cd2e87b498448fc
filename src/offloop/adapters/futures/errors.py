"""Errors of offloop as what handles those of a process pool knows them."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError

from ...errors import UnpicklableFunction, UnpicklableItem, UnpicklableResult, WorkerCrashed, WorkerInitError


class CallCrashed(WorkerCrashed, BrokenProcessPool):
    """A worker died with this call on it, or with its chunk of a map; the executor goes on, and no other call is concerned."""


class InitFailed(WorkerInitError, BrokenProcessPool):
    """``worker_init`` failed, so that no worker could take this call; the executor goes on, and tries again for the next."""


class FunctionUnpicklable(UnpicklableFunction, PicklingError, BrokenProcessPool):
    """The function of a call can't travel."""


class ArgumentUnpicklable(UnpicklableItem, PicklingError, BrokenProcessPool):
    """An argument of a call can't travel. A process pool would raise what pickling it raised, or break as it is unpickled."""


class ResultUnpicklable(UnpicklableResult, PicklingError, BrokenProcessPool):
    """The result of a call can't travel. A process pool would raise what pickling it raised, or break as it is unpickled."""


_AS_TOLD: dict[type[Exception], type[Exception]] = {
    WorkerCrashed: CallCrashed,
    WorkerInitError: InitFailed,
    UnpicklableFunction: FunctionUnpicklable,
    UnpicklableItem: ArgumentUnpicklable,
    UnpicklableResult: ResultUnpicklable,
}


def as_told(error: Exception) -> Exception:
    """Return an error as a future has it: without this process's stack, in which a call's own frames have no part."""
    told_as = _AS_TOLD.get(type(error))
    if told_as is None:
        BaseException.with_traceback(error, None)  # their own may do anything
        return error
    told = told_as(*error.args)
    told.__cause__ = error.__cause__
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told
