"""The trip of a chunk to a worker and back, without the worker: by the same pickles, in a thread of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CoroutineType
from typing import Any

from ..errors import OffloopError, TaskCancelled, UnpicklableFunction, UnpicklableItem, UnpicklableResult
from ..pool.answering import _replied
from ..strategies.job import Answer, Job
from ..wire.failures import (
    PackedFailure,
    pack_failure,
    safe_text,
    type_name,
    unpack_failure,
    unpicklable_result,
    unreadable_item,
)
from ..wire.frames import Flag, Reply
from ..wire.pickling import dumps, loads, travels_by_name
from ..wire.unpicklable import find_unpicklable
from ..worker.asking import _answer_in, _error_of, _packed
from ..worker.interrupt import calls_user_code
from .errors import MutatedArgument
from .mutation import Watch, bound_parts, given_parts


class Carried(Exception):
    """Carries what an item has raised, as it arrives at the caller's.

    Attributes:
        error: That.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _arrived(error: BaseException, index: int, function: str) -> Carried:
    """Carry what was raised in a worker's place, as it arrives from one."""
    return Carried(unpack_failure(pack_failure(error), index, function))


class Function:
    """The function of a run as its worker has it: a copy of its own, unless it goes by its name.

    Args:
        job: What all chunks of the run share.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._is_named = travels_by_name(job.fn) and not job.by_value
        self._data = b"" if self._is_named else dumps(job.fn, by_value=job.by_value)
        self._fn: Callable[..., Any] | None = job.fn if self._is_named else None
        self._bound: Watch | None = None

    def get(self) -> Callable[..., Any]:
        """Return it.

        Raises:
            UnpicklableFunction: It can't be rebuilt.
        """
        if self._fn is None:
            try:
                self._fn = loads(self._data)
            except Exception as error:
                why = f"unpickling in the worker raised {type_name(error)}: {safe_text(error)}"
                raise UnpicklableFunction("the function", "fn", why, self._job.name) from error
        assert self._fn is not None
        return self._fn

    def watch(self) -> Watch:
        """Return what sees changes of the data bound in it since it was asked for first, or since one was seen."""
        if self._bound is None:
            self._bound = Watch(bound_parts(self.get()))
        return self._bound

    def changed(self) -> str | None:
        """Return what has changed of that data; None if nothing has."""
        changed = self.watch().changed()
        if changed is not None:
            self.forget()
        return changed

    def forget(self) -> None:
        """Let nobody be blamed for what has changed so far."""
        self._bound = None


class Trip:
    """Executes the items of one chunk, given their indexes; what goes wrong comes as `Carried`.

    Args:
        job: What all chunks of the run share.
        function: Its function.
        start: Index of the first item.
        items: The items; pickled right here, as a chunk is when it is sent.
        may_mutate: Whether fn may change what it is given.
    """

    def __init__(self, job: Job, function: Function, start: int, items: Sequence[Any], *, may_mutate: bool) -> None:
        self.__qualname__ = getattr(job.fn, "__qualname__", job.name)  # told where fn turns out to be async
        self._job, self._function, self._start, self._may_mutate = job, function, start, may_mutate
        self._items = [_Sent(item, f"items[{index}]", job.name) for index, item in enumerate(items, start)]

    @calls_user_code
    def __call__(self, index: int) -> Any:
        """Execute an item."""
        name = self._job.name
        try:
            fn = self._function.get()
            item = self._items[index - self._start].rebuilt(index)
        except OffloopError as error:
            raise Carried(error) from None
        args = item if self._job.flags & Flag.STAR else (index, item) if self._job.flags & Flag.SEEDED else (item,)
        given = None if self._may_mutate else self._watched(fn, args, index)
        try:
            value = fn(*args)
        except TaskCancelled:
            raise
        except BaseException as error:
            self._function.forget()
            raise _arrived(error, index, name) from None
        if type(value) is CoroutineType:
            return value
        if given is not None and (changed := given.changed() or self._function.changed()) is not None:
            raise Carried(MutatedArgument(changed, index, name))
        return self._back(value, index)

    def _watched(self, fn: Callable[..., Any], args: tuple[Any, ...], index: int) -> Watch:
        self._function.watch()
        return Watch(given_parts(fn, args, f"items[{index}]", is_call=bool(self._job.flags & Flag.STAR)))

    def _back(self, value: Any, index: int) -> Any:
        """Return a result as it arrives at the caller's."""
        name = self._job.name
        try:
            data = dumps(value)
        except TaskCancelled:
            raise
        except BaseException as error:
            raise _arrived(unpicklable_result(index, value, name, error), index, name) from None
        try:
            return loads(data)
        except TaskCancelled:
            raise
        except BaseException as error:
            subject = f"results[{index}]"
            failure = UnpicklableResult(subject, subject, f"unpickling raised {type_name(error)}", name)
            failure.__cause__ = error
            raise Carried(failure) from None


class _Sent:
    """An item on its way.

    Args:
        item: The item.
        subject: What it is called.
        function: The function's name.
    """

    def __init__(self, item: Any, subject: str, function: str) -> None:
        self._function = function
        self._data, self._failure = b"", UnpicklableItem(subject, subject, "", function)
        try:
            self._data = dumps(item)
        except Exception as error:
            self._failure = UnpicklableItem(subject, *find_unpicklable(item, subject), function)
            self._failure.__cause__ = error

    def rebuilt(self, index: int) -> Any:
        """Return it as it arrives.

        Raises:
            UnpicklableItem: It could not be sent.
            Carried: It could not be rebuilt.
        """
        if not self._data:
            raise self._failure
        try:
            return loads(self._data)
        except TaskCancelled:
            raise
        except BaseException as error:
            raise _arrived(unreadable_item(index, self._function, error), index, self._function) from None


class Asked:
    """A caller that answers questions, at the other end of a trip of its own; in place of `Answer`.

    Args:
        answer: How the caller answers.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.context = answer.context

    def to(self, question: Any) -> Any:
        """Return the answer to a question, both as they arrive; what the handler raises is raised, as it arrives.

        Raises:
            AskError: One of these does not.
        """
        [reply], data = _replied(_packed(question), self._answer)
        if reply == Reply.RAISED:
            raise _error_of(PackedFailure(*loads(data)))
        return _answer_in(memoryview(data))
