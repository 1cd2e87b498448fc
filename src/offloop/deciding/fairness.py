"""Who is next where flows of work share lanes: start-time fair queueing, after Goyal, Vin and Cheng (SIGCOMM 1996).

Rules:

- A flow that has had service worth `cost / weight` is due that much later: at its *start tag*. The flow with the lowest
  one is next; at equal ones interactive flows go first, then whoever came first. Within a flow it is first come, first
  served.
- The *virtual time* is the start tag of the last one served. A flow that comes is due then, or at the start tag that it
  still has: who was idle has saved nothing up, and who leaves for a moment has not paid.
- So of two flows that wait all the time, neither gets more than its weight's share, up to one turn of each; and nobody
  waits for ever: each service brings the tag of the one served, or the virtual time, nearer to theirs.
- For the latter, the virtual time must not stand still while flows come, are served once and are not seen again (a label
  for each request): each of these moves it on by its cost, divided among all who wait. It does so for newcomers of its
  own priority only, else the first turns of several maps would put a call behind them.
- A flow without anyone who waits is forgotten when its start tag is behind the virtual time.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

INTERACTIVE_WEIGHT = 10  # a guess: a batch turn of 50 ms counts as much as 25 interactive ones of 20 ms
BATCH_WEIGHT = 1
LEAST_S = 1e-4  # about what leasing a lane takes; turns for nothing would put a flow before all others for ever
MOST_S = 60.0  # a guess: one wrong estimate must not put a flow behind all others for ever

_SLACK = 64  # how much is kept at least before it is looked through for what is of no more use

T = TypeVar("T")


class Flow:
    """Those who share one share.

    Attributes:
        name: What it is known by, with whether it is interactive.
        is_interactive: Whether it goes first among equals, and has the greater weight.
        start: Its start tag: when its next turn is due, in virtual time.
        is_new: Whether it was due at once when it came, and has not been served since.
        n_waiting: How many wait.
    """

    __slots__ = ("is_interactive", "is_new", "n_waiting", "name", "start")

    def __init__(self, name: Hashable, is_interactive: bool) -> None:
        self.name, self.is_interactive = name, is_interactive
        self.start = 0.0
        self.is_new = True
        self.n_waiting = 0

    @property
    def weight(self) -> int:
        """Its share of the lanes in relation to others'."""
        return INTERACTIVE_WEIGHT if self.is_interactive else BATCH_WEIGHT


class Shares:
    """What every flow has had lately, and who of them waits."""

    def __init__(self) -> None:
        self.batch_time = self.interactive_time = 0.0  # the virtual time, as newcomers of each priority see it
        self._flows: dict[tuple[Hashable, bool], Flow] = {}
        self._weight = 0  # of all flows that wait
        self._most = _SLACK

    def __len__(self) -> int:
        """How many flows are remembered."""
        return len(self._flows)

    def join(self, name: Hashable, is_interactive: bool) -> Flow:
        """Let somebody wait in a flow, and return it."""
        flow = self._flows.get((name, is_interactive))
        if flow is None:
            flow = self._flows[name, is_interactive] = Flow(name, is_interactive)
        if not flow.n_waiting:
            now = self._time_of(flow)
            flow.is_new = flow.start <= now
            flow.start = max(flow.start, now)
            self._weight += flow.weight
        flow.n_waiting += 1
        return flow

    def serve(self, flow: Flow, cost_s: float) -> None:
        """Charge a flow for a turn; who gets it has not left yet."""
        cost_s = min(max(LEAST_S, cost_s), MOST_S)
        self.batch_time = max(self.batch_time, flow.start)
        self.interactive_time = max(self.interactive_time, flow.start)
        if flow.is_new:
            if flow.is_interactive:
                self.interactive_time += cost_s / self._weight
            else:
                self.batch_time += cost_s / self._weight
            flow.is_new = False
        flow.start += cost_s / flow.weight

    def leave(self, flow: Flow) -> None:
        """Let one in a flow wait no more."""
        flow.n_waiting -= 1
        if flow.n_waiting:
            return
        self._weight -= flow.weight
        if self._is_forgettable(flow):
            del self._flows[flow.name, flow.is_interactive]
        elif len(self._flows) > self._most:
            self._flows = {key: flow for key, flow in self._flows.items() if not self._is_forgettable(flow)}
            self._most = 2 * len(self._flows) + _SLACK

    def _is_forgettable(self, flow: Flow) -> bool:
        return not flow.n_waiting and flow.start <= self._time_of(flow)

    def _time_of(self, flow: Flow) -> float:
        return self.interactive_time if flow.is_interactive else self.batch_time


Rank = tuple[float, bool, int]


class FairQueue(Generic[T]):
    """Those who wait in one place; several places may share their `Shares`.

    Adding, removing and finding the first take O(log n) steps of n flows, over the long run.
    """

    def __init__(self) -> None:
        self._rows: dict[Flow, OrderedDict[int, T]] = {}  # by ticket; none of them is empty
        # Every row is in it once, at its rank or, as ranks only grow, before that; besides rows that are empty by now.
        self._heap: list[tuple[float, bool, int, Flow, OrderedDict[int, T]]] = []

    def __bool__(self) -> bool:
        """Whether someone waits."""
        return bool(self._rows)

    def __iter__(self) -> Iterator[T]:
        """All who wait."""
        return (who for row in self._rows.values() for who in row.values())

    def add(self, flow: Flow, ticket: int, who: T) -> None:
        """Add somebody, with a number above those of all who came before."""
        row = self._rows.get(flow)
        if row is None:
            row = self._rows[flow] = OrderedDict()
            if len(self._heap) > 2 * len(self._rows) + _SLACK:
                self._heap = [entry for entry in self._heap if entry[-1]]
                heapq.heapify(self._heap)
            heapq.heappush(self._heap, (*rank(flow, ticket), flow, row))
        row[ticket] = who

    def remove(self, flow: Flow, ticket: int) -> bool:
        """Remove somebody; False if they are not here."""
        row = self._rows.get(flow)
        if row is None or row.pop(ticket, None) is None:
            return False
        if not row:
            del self._rows[flow]
        return True

    def first(self) -> T | None:
        """Return who is next of those here."""
        heap = self._heap
        while heap:
            start, _, ticket, flow, row = heap[0]
            if not row:
                heapq.heappop(heap)
                continue
            head = next(iter(row))
            if head == ticket and start == flow.start:
                return row[head]
            heapq.heapreplace(heap, (*rank(flow, head), flow, row))
        return None


def rank(flow: Flow, ticket: int) -> Rank:
    """Return what orders those who are first in their flow; the lowest is next."""
    return flow.start, not flow.is_interactive, ticket
