"""What happens to the items that were on a lane when it broke."""

from __future__ import annotations

from typing import NamedTuple

from ..wire.status_page import OVER, UNPACKING


class Recovery(NamedTuple):
    """Indexes of items, as half-open ranges.

    Attributes:
        lost: They fail.
        alone: They go back one by one, each as a chunk of its own, charged with this death.
        again: They go back together.
    """

    lost: tuple[tuple[int, int], ...] = ()
    alone: tuple[tuple[int, int], ...] = ()
    again: tuple[tuple[int, int], ...] = ()


def recover(*, start: int, end: int, begun: int | None, deaths: int, retries: int) -> Recovery:
    """Return what to do with a chunk whose worker died.

    | the worker …                        | item it was on | executed, outcome lost | not begun |
    |-------------------------------------|----------------|------------------------|-----------|
    | never read the chunk                | –              | –                      | again     |
    | died between two items              | –              | –                      | again     |
    | died unpickling it                  | alone          | –                      | alone     |
    | died on an item                     | alone          | again, in one          | again     |
    | died when it was through with all   | –              | alone                  | –         |

    An item that would run again but may not (`retries` deaths already, or retries=0) is lost instead.

    Args:
        start: Index of the first item without an outcome.
        end: Index behind the last item.
        begun: Index of the item that the worker was on, or UNPACKING or OVER; None if it never read the chunk.
        deaths: How many workers have died under the first item before.
        retries: How many such deaths an item may survive.
    """
    everything = ((start, end),) if end > start else ()
    if begun is None or begun < start or not everything:
        return Recovery(again=everything)
    may_retry = deaths < retries
    if begun == UNPACKING:
        if end - start == 1 and not may_retry:
            return Recovery(lost=everything)
        return Recovery(alone=everything)
    if begun == OVER:
        return Recovery(alone=everything) if may_retry else Recovery(lost=everything)
    executed = ((start, begun),) if begun > start else ()
    on = ((begun, begun + 1),)
    rest = ((begun + 1, end),) if end > begun + 1 else ()
    if retries == 0:
        return Recovery(lost=executed + on, again=rest)
    if may_retry:
        return Recovery(alone=on, again=executed + rest)
    return Recovery(lost=on, again=executed + rest)
