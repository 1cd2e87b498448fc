"""What is known before a run, and where it should execute by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

from .deciding.chunking import BlockPace, Pace, next_size
from .deciding.costs import Cost, Costs, FunctionCosts
from .deciding.decide import decide
from .model import Decision, Host, Strategy, Workload
from .options import CallOptions
from .outgoing import Outgoing
from .pool.lane import WorkerLane
from .pool.lease import PooledBackend
from .pool.thread_lane import ThreadLane, current_thread_lane
from .sensing.imports import import_s
from .sensing.inner_parallelism import find_in_call
from .sensing.meter import meter
from .sensing.size import size_up
from .settings import ParallelConfig
from .strategies.base import Backend
from .wire.pickling import INLINE_BYTES, function_name, travels_by_name, wrapped

UNKNOWN_S = 0.001  # what a call of unknown cost counts for in a queue: a guess, so that ten of them are worth a worker
_NOTHING: Mapping[Backend, float] = {}
_WORTH_A_LOOK_S = 0.010  # a look at what is imported takes up to a millisecond
_MANY = 1000
STALL_S = 0.020  # work that keeps the GIL from the loop for longer does not bridge: 5 ms is a Python loop, plus noise
_SIMILAR = 1.25  # a decision is used again while the cost that it rests on is within this factor


class Venues(NamedTuple):
    """Where a session's items may execute, besides the local thread, and how they get there."""

    threads: PooledBackend[ThreadLane]
    processes: PooledBackend[WorkerLane]
    outgoing: Outgoing


@dataclass(slots=True, eq=False)
class Known:
    """What is known of the work of one run.

    Attributes:
        name: The function's name in logs.
        fn: The function.
        options: The options of the call.
        function: What is known of the function.
        cost: What inputs of this size have cost.
        payload_bytes: About how many bytes an item brings with it; nothing for rows, which lie in what is bound in fn.
        shared_bytes: About how many bytes are bound in the function.
        n_features: Columns of the items, where they are two-dimensional.
        is_light: Whether the first items could go to a worker in a message, and it would know what to do with them.
        inner: Where the work brings parallelism of its own; None if it doesn't.
    """

    name: str
    fn: Any
    options: CallOptions
    function: FunctionCosts
    cost: Cost
    payload_bytes: float
    shared_bytes: int
    n_features: int | None
    is_light: bool
    inner: str | None

    def pace(self) -> Pace:
        """Return seconds per item to begin a run with: of its own, or what is known of blocks, to be added to."""
        options, cost = self.options, self.cost
        if options.combine is None or options.batch_size is not None:
            return Pace(cost.item_s)
        if cost.blocks.item_s is None:
            cost.blocks = BlockPace(options.item_cost_s or cost.item_s)
        return cost.blocks


class Planner:
    """Knows the host, and what functions have cost; decides by that.

    Args:
        host: As it was sensed.
        config: The session's settings.
        workers: The pool of worker processes.
    """

    def __init__(self, host: Host, config: ParallelConfig, workers: Any) -> None:
        self.config = config
        self._sensed = self._host = host
        self._seen = meter.version
        self._costs = Costs()
        self._forgone_s = 0.0  # what runs have taken longer since workers were up for the last time
        self._workers = workers

    @property
    def host(self) -> Host:
        """The host, with what was measured on it so far."""
        if meter.version != self._seen:
            self._seen = meter.version
            self._host = meter.on(self._sensed)
        return self._host

    @property
    def has_workers(self) -> bool:
        """Whether there may ever be worker processes: not where the operator forbids it, nor inside of a worker."""
        host = self._sensed
        return not (host.is_off or host.is_worker or host.foreign_pool is not None)

    def look_at(self, fn: Any, sample: Sequence[Any], options: CallOptions, kind: str | None = None) -> Known:
        """Look at a function and at its arguments, or at the first item, without running anything.

        Args:
            fn: The function.
            sample: Its arguments, or the first item or row alone; nothing if none is at hand.
            options: The options of the call.
            kind: What sort of work it is, where functions and sizes don't tell: a branch's name.
        """
        size, is_batch = size_up(sample[0] if len(sample) == 1 else sample), options.combine is not None
        plain: Any = fn
        while not isinstance(plain, FunctionType) and (inside := wrapped(plain)) is not None:
            plain = inside
        is_named = plain is fn and travels_by_name(fn)
        bound = None if is_named else size_up(fn)
        function = self._costs.of(getattr(plain, "__code__", None) or function_name(plain))
        details = (bound and bound.key, is_batch, kind)
        cost = function.of((size.key, *details) if any(details) else size.key)
        payload_bytes = (0 if is_batch else size.n_bytes) if options.item_bytes is None else options.item_bytes
        cost.payload_bytes = cost.payload_bytes or payload_bytes
        return Known(
            name=function_name(fn),
            fn=fn,
            options=options,
            function=function,
            cost=cost,
            payload_bytes=payload_bytes,
            shared_bytes=bound.n_bytes if bound is not None else 0,
            n_features=size.n_features,
            is_light=is_named and function.was_remote and payload_bytes <= INLINE_BYTES and not is_batch,
            inner=find_in_call(fn, sample),
        )

    def decide(
        self,
        known: Known,
        n_items: int | None,
        local: Backend,
        processes: Backend,
        *,
        n_done: int = 0,
        item_s: float | None = None,
        gil_held: float | None = None,
        current: Strategy | None = None,
        own_lanes: int = 0,
        own: Mapping[Backend, float] = _NOTHING,
        threads_backlog_s: float = 0.0,
        starting_s: float = 0.0,
        waited_s: float = 0.0,
    ) -> Decision:
        """Return where a run should execute.

        Args:
            known: What is known of its work.
            n_items: How many items or rows it has; None where that isn't known.
            local: The backend of the local thread.
            processes: The backend of worker processes.
            n_done: How many are done.
            item_s: Seconds per item as this run has it, if that is to count instead of what was learned.
            gil_held: Likewise, how the GIL is held.
            current: Where it executes now; None before it has begun.
            own_lanes: How many worker processes it has leased.
            own: What it counts for itself in backlogs.
            threads_backlog_s: Seconds of work that others bring to the threads.
            starting_s: For how long workers have been starting for it.
            waited_s: For how long it has waited for the local thread.
        """
        cost, options, n_left = known.cost, known.options, None if n_items is None else n_items - n_done
        is_fresh = current is None and not (n_done or local.backlog_s or processes.backlog_s or threads_backlog_s or waited_s)
        item_s = item_s or options.item_cost_s or cost.item_s
        lane = current_thread_lane()
        is_below_threads = lane is not None and lane.is_beside_others
        idle = self._workers.n_idle + own_lanes
        function, capacity = known.function, self._workers.capacity
        host_facts = (idle, capacity, self._forgone_s, meter.version)
        facts = (n_items, options, known.inner, function.has_crashed, function.was_remote, is_below_threads, host_facts)
        if is_fresh and cost.decision is not None and item_s is not None:
            then, then_s, decision = cost.decision
            if then_s / _SIMILAR < item_s < then_s * _SIMILAR and then == facts:
                return decision
        work = Workload(
            fn=known.name,
            n_items=n_items,
            n_done=n_done,
            per_call=_per_call(options, item_s, n_left),
            item_s=item_s,
            longest_s=cost.longest_s or None,
            gil_held=cost.gil_held if gil_held is None else gil_held,
            payload_bytes=options.item_bytes or cost.payload_bytes,
            shared_bytes=known.shared_bytes,
            result_bytes=cost.result_bytes,
            transport_s=cost.transport_s,
            is_light=known.is_light,
            n_features=known.n_features,
            idle_workers=idle,
            max_workers=self._workers.capacity,
            local_backlog_s=max(0.0, local.backlog_s - own.get(local, 0.0)) + waited_s,
            workers_backlog_s=max(0.0, processes.backlog_s - own.get(processes, 0.0)),
            threads_backlog_s=threads_backlog_s,
            is_below_threads=is_below_threads,
            import_s=self._import_s(known, n_items, n_done, item_s),
            starting_s=starting_s,
            may_bridge=cost.stall_s <= STALL_S,
            forgone_s=self._forgone_s,
            has_crashed=known.function.has_crashed,
            inner=known.inner,
            current=current or cost.current,
            bias=dict(cost.bias),
        )
        decision = decide(self.host, work, options, self.config)
        if is_fresh and item_s is not None:
            cost.decision = (facts, item_s, decision)
        return decision

    def _import_s(self, known: Known, n_items: int | None, n_done: int, item_s: float | None) -> float:
        """Return how long workers will import for a function, looked up only where going there may come into question."""
        function = known.function
        if function.was_remote or known.cost.remote.item_s is not None:
            return 0.0
        if function.import_s is None and ((n_items or _MANY) - n_done) * (item_s or 0.0) >= _WORTH_A_LOOK_S:
            function.import_s = import_s(known.fn)
        return function.import_s or 0.0

    def learn(self, decision: Decision) -> None:
        """Take in a decision that was carried out."""
        if decision.strategy is Strategy.PROCESSES:
            self._forgone_s = 0.0
        elif decision.forgone_s:
            self._forgone_s += decision.forgone_s


def _per_call(options: CallOptions, item_s: float | None, n_left: int | None) -> int:
    """Return how many items, or rows, fn gets in one call."""
    if options.combine is None:
        return 1
    return options.batch_size or (next_size(item_s, n_left, 1, n_left or 1) if item_s else 1)
