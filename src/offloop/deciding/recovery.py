"""What happens to the items that were on a lane when it broke."""

from __future__ import annotations

from typing import NamedTuple

from ..wire.status_page import LOADING, OVER, PACKED, UNPACKING

Range = tuple[int, int]


class Recovery(NamedTuple):
    """Indexes of items, as half-open ranges.

    Attributes:
        lost: They fail: their worker died too often.
        timed_out: They fail: their worker was killed because their time was over.
        alone: They go back one by one, each as a chunk of its own, charged with this death.
        again: They go back together.
    """

    lost: tuple[Range, ...] = ()
    timed_out: tuple[Range, ...] = ()
    alone: tuple[Range, ...] = ()
    again: tuple[Range, ...] = ()


def recover(
    *, start: int, end: int, begun: int | None, deaths: int, retries: int, is_expired: bool = False
) -> Recovery:
    """Return what to do with a chunk whose worker died, or was killed because the time of what it was on was over.

    | the worker …                        | item it was on | executed, outcome lost | not begun |
    |-------------------------------------|----------------|------------------------|-----------|
    | never read the chunk                | –              | –                      | again     |
    | died loading the function           | –              | –                      | again     |
    | died unpickling the items           | alone          | –                      | alone     |
    | died on an item                     | alone          | again, in one          | again     |
    | died packing outcomes               | –              | alone                  | again     |
    | died when it was through with all   | –              | alone                  | –         |

    An item that would run again but may not (`retries` deaths already, or retries=0) is lost instead. One whose time was over
    has timed out instead, whatever the retries; where several may be the one, as in unpickling, each goes back alone.

    Args:
        start: Index of the first item without an outcome.
        end: Index behind the last item.
        begun: Index of the item that the worker was on, or what stands in its place; None if it never read the chunk.
        deaths: How many workers have died under the first item before.
        retries: How many such deaths an item may survive.
        is_expired: Whether it was killed because the time of what it was on was over.
    """
    everything = ((start, end),) if end > start else ()
    if begun is None or begun == LOADING or not everything:
        return Recovery(again=everything)
    if begun == UNPACKING:
        return _suspects(everything, (), runs_first=True, may_retry=deaths < retries, is_expired=is_expired)
    if begun == OVER or begun & PACKED:
        behind = end if begun == OVER else max(start, min(begun & ~PACKED, end))
        return _suspects(
            _range(start, behind), _range(behind, end), runs_first=False, may_retry=deaths < retries, is_expired=is_expired
        )
    if begun < start:
        return Recovery(again=everything)
    on, executed, rest = _range(begun, begun + 1), _range(start, begun), _range(begun + 1, end)
    kept = Recovery(again=rest, lost=executed) if retries == 0 else Recovery(again=executed + rest)
    if is_expired:
        return kept._replace(timed_out=on)
    if deaths < retries:
        return kept._replace(alone=on)
    return kept._replace(lost=kept.lost + on)


def _suspects(
    suspects: tuple[Range, ...], rest: tuple[Range, ...], *, runs_first: bool, may_retry: bool, is_expired: bool
) -> Recovery:
    """Return what to do where any of several items may be to blame; `runs_first` says that none of them was executed."""
    is_single = sum(end - start for start, end in suspects) == 1
    if is_expired and is_single:
        return Recovery(timed_out=suspects, again=rest)
    if may_retry or (runs_first and not is_single):
        return Recovery(alone=suspects, again=rest)
    return Recovery(lost=suspects, again=rest)


def _range(start: int, end: int) -> tuple[Range, ...]:
    return ((start, end),) if end > start else ()
