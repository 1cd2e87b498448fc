"""Maps over items: lists, streams, batches of rows, and what would be done with them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack, overload

from .batches import batch_of, batch_options, combined
from .deciding.seeding import Seeded
from .functions import SeededFunction
from .lifetime import Lifetime
from .map_steering import MapSteering
from .model import Decision
from .options import (
    MAP_OPTIONS,
    STREAM_OPTIONS,
    BatchOptions,
    CallOptions,
    MapOptions,
    StreamOptions,
)
from .outbox import Outbox
from .records import Whole
from .results import Collected
from .sources import source_of
from .strategies.base import Job
from .stream_run import StreamRun
from .streaming import Results, Stream
from .wire.frames import Flag
from .wire.pickling import function_name

T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Maps(Lifetime):
    """The entrances for many items; see `ParallelSession`."""

    @overload
    async def run_parallel(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: None = None,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R]: ...

    @overload
    async def run_parallel(
        self,
        fn: Callable[[T], R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: None = None,
        on_error: Literal["collect"],
        **options: Unpack[MapOptions],
    ) -> list[R | Exception]: ...

    @overload
    async def run_parallel(
        self,
        fn: SeededFunction[T, R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: int,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[MapOptions],
    ) -> list[R]: ...

    @overload
    async def run_parallel(
        self,
        fn: SeededFunction[T, R],
        items: Iterable[T] | AsyncIterable[T],
        *,
        seed: int,
        on_error: Literal["collect"],
        **options: Unpack[MapOptions],
    ) -> list[R | Exception]: ...

    async def run_parallel(self, fn: Any, items: Any, **options: Any) -> Any:
        """Call ``fn(item)`` for every item and return the results in the order of the items.

        Cancelling stops the work and returns when it has stopped: items end at their next `checkpoint`, else they are
        interrupted, and where that doesn't help their worker is killed after ``grace_s``.

        Args:
            fn: A plain function of one item (`star` for several arguments); with ``seed``, of an item and ``rng=``.
            items: Any iterable or async iterable. One that isn't a plain collection is read as results make room, in a
                thread if it isn't async. Items are sent as they are then; fn must not change them.
            seed: Item ``i`` gets ``rng``, the generator over ``SeedSequence(seed).spawn(n)[i]``.
            on_error: ``raise``: the first failure cancels the other items and is raised. ``group``: all items run, then
                failures are raised as one ExceptionGroup. ``collect``: failures stand in the list in place of results.
            **options: See `CallOptions`.

        Returns:
            One result for each item; of the caller's own.

        Raises:
            Exception: What fn raised, as itself, with index and remote traceback in its notes.
            ExceptionGroup: What several items raised, under ``on_error="group"``.
            AsyncFunctionError: fn is async.
            UnpicklableError: fn, an item or a result can't travel.
            WorkerCrashed: An item's worker died, more often than ``retries`` allows.
            ItemTimeout: An item executed for longer than ``item_timeout_s``.
            Overloaded: The session has limits, and the call is beyond one; nothing of it was executed.
            SessionClosedError: The session isn't open.
        """
        await self._records.knock(fn, options.get("label"))
        plan = self._plans.of(fn, options, MAP_OPTIONS)
        shares = self._outgoing.shares
        source = source_of(items, shares.holds if shares.has_any else None)
        job = plan.job or self._job(fn, fn, plan.options)
        steering, collected = self._steering(fn, source.peek(), plan.options), Collected()
        if source.n_ready is None:
            await steering.execute(job, source, collected)
        else:
            with self._records.whole(Whole(steering.name, steering.label)):  # with what the source does as it is read
                await steering.execute(job, source, collected)
        return collected.in_order(plan.options)

    @overload
    def stream(
        self,
        fn: Callable[[T], R],
        source: Iterable[T] | AsyncIterable[T],
        *,
        seed: None = None,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[StreamOptions],
    ) -> Stream[R]: ...

    @overload
    def stream(
        self,
        fn: Callable[[T], R],
        source: Iterable[T] | AsyncIterable[T],
        *,
        seed: None = None,
        on_error: Literal["collect"],
        **options: Unpack[StreamOptions],
    ) -> Stream[R | Exception]: ...

    @overload
    def stream(
        self,
        fn: SeededFunction[T, R],
        source: Iterable[T] | AsyncIterable[T],
        *,
        seed: int,
        on_error: Literal["raise"] = "raise",
        **options: Unpack[StreamOptions],
    ) -> Stream[R]: ...

    @overload
    def stream(
        self,
        fn: SeededFunction[T, R],
        source: Iterable[T] | AsyncIterable[T],
        *,
        seed: int,
        on_error: Literal["collect"],
        **options: Unpack[StreamOptions],
    ) -> Stream[R | Exception]: ...

    def stream(self, fn: Any, source: Any, **options: Any) -> Stream[Any]:
        """Call ``fn(item)`` for the items of a source that may be endless, and iterate over the results as they come.

            async with session.stream(fn, source) as results:
                async for result in results: ...

        What is read of the source and not yet done with is bounded: by ``window``, and by bytes as ``max_in_flight_bytes`` has it.
        So a consumer that is slow, or stops, slows or stops the workers, and these whoever yields the items. Leaving the
        context cancels what runs, closes the source (generators and memory object streams too) and returns when that is done.

        Args:
            fn: As for `run_parallel`.
            source: Any iterable, async iterable or memory object receive stream. One task opens, reads and closes an async one; others
                that aren't plain collections are read in a thread.
            seed: As for `run_parallel`.
            on_error: ``raise``: what an item raised is raised by the iteration, after the results before it, and the stream ends.
                ``collect``: it is yielded in place of its result. What the source raises always ends the stream, after all results.
            **options: ``ordered``, ``window`` and others, see `CallOptions`.

        Returns:
            An async context manager; its body gets a `Results`, which can be iterated over, or over its `Results.indexed`.

        Raises:
            AsyncFunctionError: fn is async.
            SessionClosedError: The session isn't open. It is raised by the iteration if that is closed meanwhile.
            Overloaded: There are too many calls; by the iteration, if there were as it began.
        """
        self._records.check_room(fn, options.get("label"))
        plan = self._plans.of(fn, options, STREAM_OPTIONS)
        shares = self._outgoing.shares
        items = source_of(source, shares.holds if shares.has_any else None)
        steering = self._steering(fn, items.peek(), replace(plan.options, on_error="collect"))
        outbox = Outbox(
            plan.options, self._outgoing.most, lambda: max(steering.payload_bytes(), items.item_bytes), steering.stop
        )
        run = StreamRun(steering, plan.job or self._job(fn, fn, plan.options), items, outbox, self._records)
        return Stream(run, Results(outbox, run))

    @overload
    async def run_batches(
        self,
        fn: Callable[[T, *Ts], R],
        X: T,
        *others: *Ts,
        combine: Literal["concat"] = "concat",
        seed: None = None,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[BatchOptions],
    ) -> R: ...

    @overload
    async def run_batches(
        self,
        fn: Callable[[T, *Ts], R],
        X: T,
        *others: *Ts,
        combine: Literal["list"],
        seed: None = None,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[BatchOptions],
    ) -> list[R]: ...

    @overload
    async def run_batches(
        self,
        fn: Callable[[T, *Ts], R],
        X: T,
        *others: *Ts,
        combine: Literal["list"],
        seed: None = None,
        on_error: Literal["collect"],
        **options: Unpack[BatchOptions],
    ) -> list[R | Exception]: ...

    @overload
    async def run_batches(
        self,
        fn: Callable[..., R],
        X: Any,
        *others: Any,
        combine: Literal["concat"] = "concat",
        seed: int,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[BatchOptions],
    ) -> R: ...

    @overload
    async def run_batches(
        self,
        fn: Callable[..., R],
        X: Any,
        *others: Any,
        combine: Literal["list"],
        seed: int,
        on_error: Literal["raise", "group"] = "raise",
        **options: Unpack[BatchOptions],
    ) -> list[R]: ...

    @overload
    async def run_batches(
        self,
        fn: Callable[..., R],
        X: Any,
        *others: Any,
        combine: Literal["list"],
        seed: int,
        on_error: Literal["collect"],
        **options: Unpack[BatchOptions],
    ) -> list[R | Exception]: ...

    async def run_batches(
        self, fn: Callable[[Any, *Ts], Any] | Callable[..., Any], X: Any, *others: *Ts, **options: Any
    ) -> Any:
        """Call a vectorised fn for blocks of the rows of X, and put the results together in order.

        Nothing is sent row by row: the process that executes a block cuts it out of X, as a view where X has views. The
        blocks follow measured time unless ``batch_size`` says how many rows they have. Columns are never split.
        Cancelling stops the work and returns when it has stopped, as for `run_parallel`.

        Args:
            fn: A plain function of a block of X, and of one of each of the others, which it must not change; with
                ``seed``, also of ``rng=``.
            X: What has rows: an array, sparse matrix, DataFrame, Series, Arrow table or array, tensor or sequence.
            *others: More of such, with equally many rows.
            combine: ``concat``: fn returns one row for each row, as an array, table, list or tuple of these, and so does
                this, by concatenation. ``list``: the results of the blocks are returned as a list.
            seed: Block ``i`` gets ``rng``, as item ``i`` of `run_parallel` does; a block has 256 rows by default.
            on_error: As for `run_parallel`, of blocks; ``collect`` needs ``combine="list"``.
            **options: See `CallOptions`.

        Returns:
            What fn would return for all rows at once; a copy if there were several blocks. No rows are one empty block.

        Raises:
            BatchLengthError: fn returned another number of rows than it got.
            BatchTypeError: What fn returned can't be concatenated.
            TypeError: An input isn't made of rows.
            ValueError: The inputs don't have equally many.
            Exception: As for `run_parallel`.
        """
        with self._records.whole(Whole(function_name(fn), options.get("label"))):  # with what is done before and after the blocks
            resolved = batch_options(fn, self.config, options, is_consent=self._is_consent)
            batch = await batch_of(fn, (X, *others), resolved, self._processes.limit)
            job = self._job(fn, batch.called, resolved)
            collected = Collected()
            await self._steering(fn, batch.sample, resolved).execute(job, batch.source, collected)
            results = collected.in_order(resolved)
            return results if resolved.combine == "list" else await combined(results, fn)

    async def decide(
        self, fn: Callable[..., Any], items: Iterable[Any] | AsyncIterable[Any], **options: Unpack[MapOptions]
    ) -> Decision:
        """Return what `run_parallel` would do with these items and why, without doing it.

        Nothing is run and nothing taken out of an iterator. Work that is not known yet would be measured first: then
        the reason is ``measuring``, unless ``item_cost_s`` says what it costs. ``str(decision)`` is two readable lines.

        Args:
            fn: As for `run_parallel`.
            items: As for `run_parallel`.
            **options: See `CallOptions`.

        Raises:
            AsyncFunctionError: fn is async.
            SessionClosedError: The session isn't open.
        """
        self._records.check_open()
        resolved = self._plans.of(fn, options, MAP_OPTIONS).options
        source = source_of(items)
        return self._steering(fn, source.peek(), resolved).decide(source.remaining)

    def _steering(self, fn: Any, sample: Sequence[Any], options: CallOptions) -> MapSteering:
        known = self._planner.look_at(fn, sample, options)
        return MapSteering(self._planner, known, self._venues, self._records)

    def _job(self, fn: Any, called: Any, options: CallOptions) -> Job:
        """Return the job of a map that calls this for each item, in place of fn."""
        if options.seed is None:
            return self._plans.job(fn, called, 0, options)
        return self._plans.job(fn, Seeded(called, options.seed), Flag.SEEDED, options)
