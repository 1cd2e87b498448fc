"""A stream: items in from whatever yields them, results out to whoever iterates, with a bounded number in between."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from anyio.lowlevel import current_token

from .alongside import Alongside

R = TypeVar("R")


class Run(Protocol):
    """What executes beside the consumer."""

    name: str

    @property
    def n_taken(self) -> int:
        """How many items were taken from the source."""
        ...

    async def execute(self) -> None:
        """Execute all items; raises nothing."""
        ...

    def stop(self, loop: Any) -> None:
        """End it, from any thread; `loop` is the event loop that it runs on."""
        ...


class Supply(Protocol):
    """Where results wait; see `Outbox`."""

    batch: Iterator[Any]

    @property
    def n_given(self) -> int:
        """How many results the consumer is done with."""
        ...

    @property
    def last_index(self) -> int:
        """Index of the item whose result was the last taken from `batch`."""
        ...

    async def has_more(self) -> bool:
        """Wait until there is something in `batch`; False when the stream is over."""
        ...


class Results(Generic[R]):
    """The results of a stream: an async iterator, for one task at a time.

    Waiting for a result is cancellable. Nothing is lost by that, or by a ``break``: the next iteration goes on where the
    last one was left.
    """

    def __init__(self, supply: Supply, run: Run) -> None:
        self._supply, self._run = supply, run

    @property
    def in_flight(self) -> int:
        """Items that were taken from the source and are not done with: the consumer is, when it asks for the next."""
        return self._run.n_taken - self._supply.n_given

    def __aiter__(self) -> Results[R]:
        """Return itself."""
        return self

    async def __anext__(self) -> R:
        """Return the next result.

        Raises:
            StopAsyncIteration: There is none any more.
            Exception: What fn or the source raised, in its place: after the results before it. The stream ends with that.
        """
        for result in self._supply.batch:
            return result  # type: ignore[no-any-return]
        if not await self._supply.has_more():
            raise StopAsyncIteration
        first: R = next(self._supply.batch)
        return first

    def indexed(self) -> Indexed[R]:
        """Return an async iterator over the index of each item, from 0 as they came from the source, and its result."""
        return Indexed(self, self._supply)


class Indexed(Generic[R]):
    """The results of a stream with the indexes of their items; see `Results.indexed`."""

    def __init__(self, results: Results[R], supply: Supply) -> None:
        self._results, self._supply = results, supply

    def __aiter__(self) -> Indexed[R]:
        """Return itself."""
        return self

    async def __anext__(self) -> tuple[int, R]:
        """Return the next index and result; raises what `Results` does."""
        result = await anext(self._results)
        return self._supply.last_index, result


class Stream(Generic[R]):
    """The context of a stream; entering it begins to execute, leaving it stops what is under way and closes the source.

    What the body raises passes through as it is. Being cancelled works as leaving does: that returns when items have
    stopped.

    Args:
        run: What executes beside its body.
        results: What the body gets.
    """

    def __init__(self, run: Run, results: Results[R]) -> None:
        self._run, self._results = run, results
        self._beside = Alongside(run.execute)
        self._was_entered = self._is_open = False
        self._loop: Any = None

    async def __aenter__(self) -> Results[R]:
        """Begin.

        Raises:
            RuntimeError: It was begun before.
        """
        if self._was_entered:
            raise RuntimeError("a stream can be entered once; make another by session.stream(...)")
        self._was_entered, self._loop = True, current_token().native_token
        await self._beside.__aenter__()
        self._is_open = True
        return self._results

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; returns when its items have stopped and its source is closed."""
        try:
            await self._beside.__aexit__(kind, error, trace)
        finally:
            self._is_open = self._beside.is_running

    def __del__(self) -> None:
        if self._is_open:
            what = f"a stream of {self._run.name} was never left; it is stopped now"
            warnings.warn(what, ResourceWarning, stacklevel=2, source=self)
            self._run.stop(self._loop)
