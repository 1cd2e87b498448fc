"""The scenarios of faults by the name of their figure; each starts its contender itself."""

from collections.abc import Awaitable, Callable

from ..entrants import Assignment, Sample
from .cancels import cancel_cooperative, cancel_gil, cancel_loop, cancel_sleep
from .crashes import crash_next, kill_calls, kill_map
from .starting import cancel_starting

FAULTS: dict[str, Callable[[Assignment], Awaitable[Sample]]] = {
    "cancel_cooperative": cancel_cooperative,
    "cancel_loop": cancel_loop,
    "cancel_sleep": cancel_sleep,
    "cancel_gil": cancel_gil,
    "crash_next": crash_next,
    "kill_calls": kill_calls,
    "kill_map": kill_map,
    "cancel_starting": cancel_starting,
}
