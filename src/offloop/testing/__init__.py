"""Test what is built on offloop: without processes, in one known order, with crashes, timeouts and overload where you want them.

    async def test_a_crash_is_survived():
        async with InlineSession(faults={3: Crash()}) as session:
            assert await session.run_parallel(score, items) == expected
            assert session.statistics().retried == 1

With pytest the fixtures ``offloop_session``, ``offloop_faults`` and ``offloop_events`` are there by themselves; see `offloop.testing.plugin`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import MisplacedFault as MisplacedFault
    from .errors import MutatedArgument as MutatedArgument
    from .faults import Crash as Crash
    from .faults import Fault as Fault
    from .faults import Inject as Inject
    from .faults import Overload as Overload
    from .faults import Slow as Slow
    from .faults import TimeOut as TimeOut
    from .recording import Events as Events
    from .recording import assert_decided as assert_decided
    from .recording import assert_no_fallbacks as assert_no_fallbacks
    from .session import InlineSession as InlineSession
    from .session import Kit as Kit
    from .session import inline as inline

__all__ = (
    "Crash",
    "Events",
    "Fault",
    "Inject",
    "InlineSession",
    "Kit",
    "MisplacedFault",
    "MutatedArgument",
    "Overload",
    "Slow",
    "TimeOut",
    "assert_decided",
    "assert_no_fallbacks",
    "inline",
)

# Where each name lives: pytest imports this package at every start, so nothing is imported before it is used.
_HOMES = {
    ".errors": ("MisplacedFault", "MutatedArgument"),
    ".faults": ("Crash", "Fault", "Inject", "Overload", "Slow", "TimeOut"),
    ".recording": ("Events", "assert_decided", "assert_no_fallbacks"),
    ".session": ("InlineSession", "Kit", "inline"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
