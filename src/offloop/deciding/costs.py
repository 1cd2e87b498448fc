"""What calls have cost so far, by function and size of input."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from ..model import Decision, Strategy
from .chunking import BlockPace, Pace

T = TypeVar("T")

_MAX_FUNCTIONS = 1024
_MAX_SIZES = 64  # of inputs of one function

_SOCKET_BYTES_PER_S = 1.5e9  # what a socket pair moves while both sides copy; measured, 1.2 to 1.8 GB/s

_WATCH_S = 0.001  # in a shorter time nothing can be told of the GIL; see worker/gil.py
_ENOUGH_S = 0.020  # so much has been watched before it is taken for known: a few milliseconds may be the machine's

_MISS = 3.0  # an estimate that is off by this factor was wrong, not just noisy
_MISSES = 2  # so many in a row, and what was learned is forgotten
_TELLING_S = 0.002  # a shorter run tells more about the noise than about the model
_BIAS_MEMORY = 0.5  # a guess: two runs that took twice as long as estimated are enough to go elsewhere
_BIAS_FADES = 0.95  # at each run elsewhere: a guess, so that one bad run is not held against a strategy for ever
_BIAS_RANGE = (1.0, 3.0)  # what was through sooner than estimated needs no correction: it would invite noise


@dataclass(slots=True, eq=False)
class Cost:
    """What calls of one function with inputs of one size have cost; the runs under way read it and add to it.

    Where fn gets rows in blocks, an item is a row, but for `longest_s` and `stall_s`: these are of a whole block.

    Attributes:
        local: Seconds per item in one thread of this process.
        remote: Seconds per item in a worker process.
        blocks: Seconds per row, where fn gets rows in blocks, and per call.
        whole_s: Seconds per item over whole runs that did not share this process with others; None before the first.
        sending: Seconds per item that pickling it took.
        receiving: Seconds per item that unpickling its result took.
        payload_bytes: Bytes of an item, pickled.
        result_bytes: Bytes of a result, pickled, or as far as its size could be seen.
        sent_in_file: Bytes of an item that travel in a memory file; the time that takes is in `sending`.
        received_in_file: Bytes of a result, likewise.
        longest_s: Seconds that the longest item took; fades.
        gil_held: Share of the time that the GIL is held; None before it was watched.
        stall_s: Longest time that an item kept the GIL from another thread.
        bias: By how much the last runs took longer than estimated, by strategy.
        current: Where the last run executed.
        decision: The last decision, to be used again while nothing it rests on has changed.
    """

    local: Pace = field(default_factory=Pace)
    remote: Pace = field(default_factory=Pace)
    blocks: BlockPace = field(default_factory=BlockPace)
    whole_s: float | None = None
    sending: Pace = field(default_factory=Pace)
    receiving: Pace = field(default_factory=Pace)
    payload_bytes: float = 0.0
    result_bytes: float = 0.0
    sent_in_file: float = 0.0
    received_in_file: float = 0.0
    longest_s: float = 0.0
    gil_held: float | None = None
    stall_s: float = 0.0
    bias: dict[Strategy, float] = field(default_factory=dict)
    current: Strategy | None = None
    decision: tuple[Hashable, float, Decision] | None = None
    _watched_s: float = 0.0
    _misses: int = 0

    @property
    def item_s(self) -> float | None:
        """Seconds per item alone in this process, as far as is known; None if nothing is.

        The first items may be unlike the others: dearer, since they paid for an import or a cold cache, or cheaper, by
        their order. So the mean over whole runs counts where the pace in this process is above it, or below half of it; in
        between, what is more in a worker is due to its neighbours and its lower priority.
        """
        pace_s = self.local.item_s if self.local.item_s is not None else self.remote.item_s
        whole_s = self.whole_s
        if pace_s is None or whole_s is None or whole_s / 2 <= pace_s <= whole_s:
            return pace_s
        return whole_s

    @property
    def largest_bytes(self) -> float:
        """How many bytes an item is, or its result if that is larger, as far as is known."""
        return max(self.payload_bytes, self.result_bytes)

    @property
    def transport_s(self) -> float | None:
        """Seconds per item that this process spends on sending it and receiving its result; None if none was sent."""
        sending_s = self.sending.item_s
        if sending_s is None:
            return None
        moving_s = max(0.0, self.payload_bytes + self.result_bytes - self.sent_in_file - self.received_in_file) / _SOCKET_BYTES_PER_S
        return sending_s + (self.receiving.item_s or sending_s) + moving_s

    def is_worth_watching(self, n_items: int) -> bool:
        """Whether to see how the GIL is held: until that is known well, by chunks that are long enough to tell."""
        return self._watched_s < _ENOUGH_S and (self.item_s is None or n_items * self.item_s >= _WATCH_S)

    def executed(self, items: int, seconds: float, longest_s: float, *, is_remote: bool) -> None:
        """Take in what a chunk took on a lane that had no neighbour in its process."""
        (self.remote if is_remote else self.local).measured(items, seconds)
        if longest_s > 2 * self.longest_s:
            self.decision = None
        self.longest_s = max(longest_s, 0.9 * self.longest_s)

    def watched(self, held: float, stall_s: float, seconds: float) -> None:
        """Take in how the GIL was held for so many seconds."""
        known_s = min(self._watched_s, _ENOUGH_S)
        self.gil_held = ((self.gil_held or 0.0) * known_s + held * seconds) / (known_s + seconds)
        self._watched_s += seconds
        self.decision = None
        self.stall_s = max(stall_s, self.stall_s / 2)

    def sent(self, items: int, size: int, seconds: float, in_file: int = 0) -> None:
        """Take in what sending items took; `in_file` of their bytes did not go through the lane."""
        if self.sending.item_s is None:
            self.decision = None
        self.sending.measured(items, seconds)
        self.payload_bytes, self.sent_in_file = size / items, in_file / items

    def received(self, items: int, size: int, seconds: float, in_file: int = 0) -> None:
        """Take in what receiving results took; `in_file` of their bytes did not come through the lane."""
        self.receiving.measured(items, seconds)
        self.result_bytes, self.received_in_file = size / items, in_file / items

    def ran(self, item_s: float) -> None:
        """Take in what an item took on average in a whole run, in workers or alone in this process."""
        known = self.whole_s
        self.whole_s = item_s if known is None else (known + item_s) / 2

    def slowed(self, item_s: float) -> None:
        """Take in what an item took beside others in threads: if that is longer than alone, they are in each other's way.

        The GIL may be free for the loop and yet be in the way, if it is let go again and again for a moment.
        """
        alone_s = self.item_s
        if alone_s:
            self._correct(Strategy.THREADS, item_s / alone_s)

    def took(self, strategy: Strategy, estimated_s: float, actual_s: float, *, is_warm: bool) -> None:
        """Compare a run that has gone well with its estimate; forget what led to estimates that missed.

        Args:
            strategy: Where it executed.
            estimated_s: What it should have taken.
            actual_s: What it took.
            is_warm: Whether no worker had to start for it, so that it tells of the work and not of that.
        """
        for other in self.bias.keys() - {strategy}:
            self.bias[other] = 1 + (self.bias[other] - 1) * _BIAS_FADES
        if max(estimated_s, actual_s) < _TELLING_S or not estimated_s or not is_warm:
            return
        ratio = actual_s / estimated_s
        if not 1 / _MISS < ratio < _MISS:
            self._misses += 1
            if self._misses >= _MISSES:
                self.forget()
            return
        self._misses = 0
        if strategy is Strategy.PROCESSES:
            self._correct(strategy, ratio * self.bias.get(strategy, 1.0))

    def _correct(self, strategy: Strategy, factor: float) -> None:
        known = self.bias.get(strategy, 1.0)
        low, high = _BIAS_RANGE
        self.decision = None
        self.bias[strategy] = min(max(_BIAS_MEMORY * known + (1 - _BIAS_MEMORY) * factor, low), high)

    def forget(self) -> None:
        """Start again from nothing."""
        fresh = Cost()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))


class FunctionCosts:
    """What is known of one function.

    Attributes:
        has_crashed: Whether a worker has died under it.
        was_remote: Whether it has run in worker processes, so that they have its module.
        import_s: About how long a worker would import for it; None where nobody has looked.
        item_s: Seconds that an item took last, of whatever size; None if none has been executed.
    """

    __slots__ = ("_by_size", "has_crashed", "import_s", "item_s", "was_remote")

    def __init__(self) -> None:
        self._by_size: OrderedDict[Hashable, Cost] = OrderedDict()
        self.has_crashed = False
        self.was_remote = False
        self.import_s: float | None = None
        self.item_s: float | None = None

    def of(self, size: Hashable) -> Cost:
        """Return what inputs of this size have cost, for the caller to read and to add to."""
        return _entry(self._by_size, size, Cost, _MAX_SIZES)


class Costs:
    """What is known of each function; those that were not asked for longest are forgotten."""

    def __init__(self) -> None:
        self._functions: OrderedDict[Hashable, FunctionCosts] = OrderedDict()

    def of(self, function: Hashable) -> FunctionCosts:
        """Return what is known of a function, for the caller to read and to add to."""
        return _entry(self._functions, function, FunctionCosts, _MAX_FUNCTIONS)


def _entry(entries: OrderedDict[Hashable, T], key: Hashable, new: Callable[[], T], most: int) -> T:
    entry = entries.get(key)
    if entry is None:
        entry = entries[key] = new()
        if len(entries) > most:
            entries.popitem(last=False)
    else:
        entries.move_to_end(key)
    return entry
