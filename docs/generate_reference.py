"""Write the reference pages that are made from the classes: ``python docs/generate_reference.py``."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path

from offloop import events
from offloop.events import Event
from offloop.inner_threads import JOBLIB_CORES, THREAD_VARIABLES
from offloop.model import Decision, Described, Reason, Strategy
from offloop.options import BATCH_OPTIONS, MAP_OPTIONS, RUN_OPTIONS, CallOptions
from offloop.sensing.environment import VARIABLES
from offloop.sensing.host import _CI_VARIABLES
from offloop.settings import ParallelConfig

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate_reference.py from the docstrings: change those. -->"


def pages() -> dict[str, str]:
    """Return the text of every page by its file's name."""
    made = {
        "environment.md": environment_page(),
        "events.md": events_page(),
        "reasons.md": reasons_page(),
        "settings.md": settings_page(),
    }
    return {name: f"{NOTE}\n\n{text.strip()}\n" for name, text in made.items()}


def attributes(kind: type) -> dict[str, str]:
    """Return what the ``Attributes:`` of a class's docstring say of each, as Markdown."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    said: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line.startswith(" " * 8):
            said[name] += f" {line.strip()}"
        elif line.startswith(" " * 4):
            name, _, text = line.strip().partition(": ")
            said[name] = text
        elif line:
            break
    return {name: markdown(text) for name, text in said.items()}


def summary(kind: type) -> str:
    """Return the first paragraph of a class's docstring, as Markdown."""
    return markdown(" ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split()))


def markdown(text: str) -> str:
    """Return text of a docstring as Markdown that can stand in a table."""
    return text.replace("``", "`").replace("|", "\\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    names = list(head)
    lines = [names, ["---"] * len(names), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def code(text: object) -> str:
    """Return text as code."""
    return f"`{text}`"


def default_of(kind: type, name: str) -> str:
    """Return the default of a dataclass's field, as its users write it."""
    field = next(field for field in fields(kind) if field.name == name)
    if field.default is MISSING:
        return ""
    return code(f'"{field.default}"' if isinstance(field.default, str) else repr(field.default))


def type_of(annotation: object) -> str:
    """Return a field's type, readable and without the sign that separates cells."""
    return code(str(annotation).replace(" | ", " or "))


def environment_page() -> str:
    """Return the page of the environment's variables."""
    said = attributes(ParallelConfig)
    variables = table(
        ("variable", "setting", "values", "default", "meaning"),
        (
            (code(name), code(variable.setting), variable.accepts, plain_default(variable.setting), said[variable.setting])
            for name, variable in VARIABLES.items()
        ),
    )
    words = {
        "off": "Everything in the local thread, whatever a call or a session says; for operators.",
        "on": "`auto` chooses, also under CI.",
    } | {strategy.value: strategy.sentence for strategy in Strategy}
    parallel = table(("value", "meaning"), ((code(word), meaning) for word, meaning in words.items()))
    ci = ", ".join(map(code, _CI_VARIABLES))
    inner = "\n".join(f"- {code(name)}" for name in (*THREAD_VARIABLES, JOBLIB_CORES))
    return f"""
# Environment variables

Each setting of a session that is a number or a word has a variable. A value comes from, in this order: the argument of
a call, the session, the environment, the default; `OFFLOOP_PARALLEL=off` alone comes before everything. They are read
when a session is made, the process-wide one at its first use. Values are case-insensitive, an empty one counts as not
set, and a variable that doesn't exist is warned of with the nearest one that does.

{variables}

## OFFLOOP_PARALLEL

{parallel}

`threads` from the environment is no consent to run a function in several threads of one process, so the work stays in
the local thread and a [`parallel.fallback`](events.md) says so.

## Read besides

- `LOKY_MAX_CPU_COUNT`: no more usable cores than this.
- {ci}:
  the process runs under CI, unless the value is empty or means no. Where `CI` is set, it alone decides.

## Set in worker processes

To usable cores ÷ workers, so that libraries with threads of their own don't take more cores than there are; in this
process they stay as they are.

{inner}
"""


def plain_default(setting: str) -> str:
    """Return a setting's default as its variable has it."""
    value = getattr(ParallelConfig(), setting)
    return "not set" if value is None else code(value.value if isinstance(value, StrEnum) else value)


def reasons_page() -> str:
    """Return the page of strategies and reasons."""

    def members(kind: type[Described], head: str) -> str:
        return table((head, "meaning"), ((code(member.value), markdown(member.sentence)) for member in kind))

    return f"""
# Strategies and reasons

Every `Decision` has a strategy and a reason, every `parallel.decision` and `parallel.fallback` [event](events.md) too.
How they come about: [decisions](../explanation/decisions.md).

## Strategies

{members(Strategy, "strategy")}

## Reasons

{members(Reason, "reason")}
"""


def events_page() -> str:
    """Return the page of events."""
    kinds = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)]
    parts = [event_section(kind) for kind in kinds if kind is not Event]
    return f"""
# Events

Each event is a frozen dataclass in `offloop.events`. Where structlog is configured they go to its logger `offloop`;
else those of level warning go to the standard library's logger `offloop`. `offloop.add_sink(function)` has a function
called with every one of them, as the object that it is, and `offloop.use_default_sink(False)` keeps them out of the
logs; both are explained in their docstrings. Times are in seconds, sizes in bytes. No argument's value is ever told.

{"".join(parts)}
"""


def event_section(kind: type[Event]) -> str:
    """Return what the page says of one event."""
    said: dict[str, str] = attributes(Decision) if kind is events.RunDecided else {}
    for base in reversed(kind.__mro__):
        said |= attributes(base)
    rows = ((code(field.name), type_of(field.type), said[field.name]) for field in fields(kind))
    level = logging.getLevelName(kind.level).lower()
    return f"""
## {kind.event}: {kind.__name__}

Level {level}. {summary(kind)}

{table(("field", "type", "meaning"), rows)}
"""


def calls_with(option: str) -> str:
    """Return which calls have an option."""
    kinds = {"`run`": RUN_OPTIONS, "`run_parallel`": MAP_OPTIONS, "`run_batches`": BATCH_OPTIONS}
    having = [name for name, options in kinds.items() if option in options]
    return "all" if len(having) == len(kinds) else ", ".join(having)


def settings_page() -> str:
    """Return the page of a session's settings and a call's options."""
    settings = attributes(ParallelConfig)
    options = attributes(CallOptions)
    variable_of = {variable.setting: name for name, variable in VARIABLES.items()}
    of_session = table(
        ("setting", "default", "variable", "meaning"),
        (
            (code(name), default_of(ParallelConfig, name), code(variable_of[name]) if name in variable_of else "", text)
            for name, text in settings.items()
        ),
    )
    of_call = table(
        ("option", "of", "default", "meaning"),
        (
            (
                code(name),
                calls_with(name),
                "the session's" if name in settings else default_of(CallOptions, name),
                text,
            )
            for name, text in options.items()
            if name in RUN_OPTIONS | MAP_OPTIONS | BATCH_OPTIONS
        ),
    )
    return f"""
# Settings and options

A value comes from, in this order: the argument of a call, the session, the [environment](environment.md), the default.
Times are in seconds, sizes in bytes.

## Settings of a session

Keywords of `ParallelSession`, or fields of a `ParallelConfig` that is passed to it. A field of a config that has the
default's value counts as not given, so the environment may still replace it; a keyword always counts.

{of_session}

## Options of a call

Keywords of `run`, `run_parallel` and `run_batches`, alike for the methods of a session and the functions of the module.

{of_call}
"""


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
