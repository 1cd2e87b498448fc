"""Events as they were told, and assertions on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

from ..events import Event, RunDecided, RunFellBack
from ..wire.pickling import function_name

E = TypeVar("E", bound=Event)


class Events(Sequence[Event]):
    """What was told of all sessions, in order, while a kit is in use."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def record(self, event: Event) -> None:
        """Note an event: a sink."""
        self._events.append(event)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> list[Event]: ...

    def __getitem__(self, index: int | slice) -> Event | list[Event]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __repr__(self) -> str:
        return f"Events({self._events!r})"

    def of(self, kind: type[E], **fields: Any) -> list[E]:
        """Return the events of a class, and of those that derive from it, whose fields have these values.

        Args:
            kind: The class: `RunFinished`, say, from `offloop.events`.
            **fields: Values that fields must have.
        """
        return [event for event in self._events if isinstance(event, kind) and _has(event, fields)]

    def clear(self) -> None:
        """Forget what was told so far."""
        self._events.clear()


def assert_decided(where: Any, *, fn: Callable[..., Any] | None = None, **fields: Any) -> Any:
    """Assert how the last run was decided on.

        assert_decided(session, fn=score, strategy="processes", n_items=40)

    Args:
        where: A session, a kit, events, or decisions.
        fn: Look at runs of this function alone.
        **fields: What attributes of the decision must be; see `Decision`.

    Returns:
        The decision.

    Raises:
        AssertionError: It is another one, or there is none; the message has those that there are.
    """
    decisions = [one for one in _decisions(where) if fn is None or one.fn == function_name(fn)]
    told = "".join(f"\n  {one}".replace("\n", "\n    ") for one in decisions[-3:]) or " none"
    assert decisions, f"no run{'' if fn is None else f' of {function_name(fn)}'} was decided on"
    last = decisions[-1]
    for name in fields:
        assert hasattr(last, name), f"a decision has no {name!r}"
    wrong = [f"{name}={getattr(last, name)!r}, not {value!r}" for name, value in fields.items() if not _has(last, {name: value})]
    assert not wrong, f"the last decision has {', '.join(wrong)}; the decisions:{told}"
    return last


def assert_no_fallbacks(where: Any) -> None:
    """Assert that nothing has run elsewhere than where it was asked for or planned.

    Args:
        where: A session, a kit, or events.

    Raises:
        AssertionError: Something has; the message tells what, and why.
    """
    if hasattr(where, "statistics"):
        fallbacks = dict(where.statistics().fallbacks)
        assert not fallbacks, f"runs fell back: {', '.join(f'{reason} ({count})' for reason, count in fallbacks.items())}"
        return
    events: Events = getattr(where, "events", where)
    told = [f"{event.fn} to {event.to_strategy}: {event.reason}" for event in events.of(RunFellBack)]
    assert not told, f"runs fell back: {'; '.join(told)}"


def _decisions(where: Any) -> Iterable[Any]:
    if isinstance(where, Events):
        return where.of(RunDecided)
    return getattr(where, "decisions", where)  # type: ignore[no-any-return]


def _has(event: object, fields: dict[str, Any]) -> bool:
    missing = object()
    return all(getattr(event, name, missing) == value for name, value in fields.items())
