"""Write the reference pages that are made from the classes: ``python docs/generate_reference.py``."""

from __future__ import annotations

import argparse
import inspect
import logging
from collections.abc import Iterable
from dataclasses import MISSING, fields
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from textwrap import fill

from offloop import ask_error, cli, errors, events
from offloop.events import Event
from offloop.explaining import Explained
from offloop.inner_threads import JOBLIB_CORES, THREAD_VARIABLES
from offloop.model import Decision, Described, Reason, Strategy
from offloop.options import (
    BATCH_OPTIONS,
    BRANCH_OPTIONS,
    MAP_OPTIONS,
    RUN_OPTIONS,
    STREAM_OPTIONS,
    CallOptions,
)
from offloop.progress import ProgressEvent
from offloop.sensing.environment import VARIABLES
from offloop.sensing.host import _CI_VARIABLES
from offloop.settings import ParallelConfig
from offloop.sinks import prometheus

REFERENCE = Path(__file__).parent / "reference"
# One or more of each error that is raised: what it says is shown on its page.
SAMPLES: tuple[Explained, ...] = (
    errors.SettingError("workers", 0, "no work can be done with none; write strategy=\"serial\" for none at all."),
    errors.SettingTypeError("worker", 2, "no such setting; did you mean workers?"),
    errors.AsyncFunctionError("app.score (app.py:42)"),
    errors.UnpicklableFunction("the function", "fn.client._lock", "_thread.lock", "app.score (app.py:42)"),
    errors.UnpicklableItem("items[17]", "items[17].client._lock", "_thread.lock", "app.score (app.py:42)"),
    errors.UnpicklableResult("results[17]", "results[17]['rows']", "generator", "app.score (app.py:42)"),
    errors.PayloadTooLarge(8_000_000_000, 3_200_000_000),
    errors.WorkerStartError("OSError: [Errno 11] Resource temporarily unavailable"),
    errors.WorkerInitError("app.load_model", "FileNotFoundError: [Errno 2] No such file or directory: 'model.bin'"),
    errors.WorkerCrashed(17, 17, -9, "app.score (app.py:42)"),
    errors.WorkerCrashed(
        17,
        17,
        -11,
        "app.score (app.py:42)",
        dump="""Fatal Python error: Segmentation fault

Current thread 0x00007f03919dcb80 (most recent call first):
  File "/srv/app.py", line 44 in score
""",
    ),
    errors.WorkerCrashed(17, 17, 3, "app.score (app.py:42)"),
    errors.ItemTimeout(17, 2.0, 2.031, "app.score (app.py:42)"),
    errors.BatchLengthError("app.predict (app.py:60)", 256, 1),
    errors.BatchTypeError("app.predict (app.py:60)", "ndarray and list", "for which there is no common way"),
    errors.ItemError(17, "SystemExit", "1", "which would end the caller's own loop or coroutine, so it arrives as this"),
    ask_error.AskError("the call that executes fn has nobody to answer it", "write `await session.run(fn, ..., answer=handler)`"),
    errors.Overloaded("max_pending", 0.117, 64, 64),
    errors.Overloaded("max_pending_bytes", 0.117, 12, 100_000_000),
    errors.Overloaded("max_wait_s", 1.24, 50, 1.0),
    errors.Overloaded("deadline", 1.24, 50, 0.5),
    errors.SessionClosedError("closed"),
    errors.SessionClosedError("draining"),
    errors.TaskCancelled(),
)
CALLS = {
    "`run`": RUN_OPTIONS,
    "`run_parallel`": MAP_OPTIONS,
    "`stream`": STREAM_OPTIONS,
    "`run_batches`": BATCH_OPTIONS,
    "`run_branches`": BRANCH_OPTIONS,
}
NAMED_APART = {"timeout_s": "item_timeout_s"}  # an option whose field in CallOptions has the name that others know it by
DEFAULTS_APART = {"combine": '`"concat"`', "priority": '`"interactive"` of `run`, else `"batch"`'}
NOTE = "<!-- Written by docs/generate_reference.py from the docstrings: change those. -->"


def pages() -> dict[str, str]:
    """Return the text of every page by its file's name."""
    made = {
        "command-line.md": command_line_page(),
        "environment.md": environment_page(),
        "errors.md": errors_page(),
        "events.md": events_page(),
        "metrics.md": metrics_page(),
        "reasons.md": reasons_page(),
        "settings.md": settings_page(),
    }
    return {name: f"{NOTE}\n\n{text.strip()}\n" for name, text in made.items()}


def attributes(kind: type, section_name: str = "Attributes") -> dict[str, str]:
    """Return what the ``Attributes:`` of a class's docstring say of each, or another such section, as Markdown."""
    _, _, section = (inspect.getdoc(kind) or "").partition(f"{section_name}:\n")
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


def summary(kind: type | property) -> str:
    """Return the first paragraph of the docstring of a class or property, as Markdown."""
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
- `OFFLOOP_ASCII`, `NO_COLOR`, `TERM`: what the [command line](command-line.md) and [progress](../how-to/progress.md) are written for.
- `WEB_CONCURRENCY`: among so many processes of a [web service](../how-to/deploy.md#how-many) the cores are divided.
- {ci}:
  the process runs under CI, unless the value is empty or means no. Where `CI` is set, it alone decides.

## Set in worker processes

To usable cores ÷ workers, so that libraries with threads of their own don't take more cores than there are; what you have
set to less holds. In this process they stay as they are. More: [nesting](../explanation/nesting.md#libraries-inside-of-items).

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

## Progress: ProgressEvent

Not told to sinks, but to what a call has as `progress=`, see [show progress](../how-to/progress.md). {summary(ProgressEvent)}

{table(("field", "type", "meaning"), progress_rows())}
"""


def progress_rows() -> Iterable[tuple[str, str, str]]:
    """Return a row for each field of a progress event."""
    said = attributes(ProgressEvent)
    return ((code(field.name), type_of(field.type), said[field.name]) for field in fields(ProgressEvent))


def metrics_page() -> str:
    """Return the page of metrics."""

    def row(metric: prometheus.Description) -> tuple[str, ...]:
        labels = ", ".join(map(code, metric.labels)) + (" (`fn`)" if metric.is_by_function else "")
        return code(metric.name), metric.kind, labels.strip(), markdown(metric.text)

    return f"""
# Metrics

What `offloop.sinks.prometheus` offers, with the extra `metrics`; how to have them is in [metrics](../how-to/metrics.md). Labels have
few values each: `strategy` and `reason` are [those of decisions](reasons.md). Where `fn` stands in brackets,
`install(by_function=True)` tells functions apart as well.

{table(("metric", "type", "labels", "what it says"), map(row, prometheus.describe()))}
"""


def command_line_page() -> str:
    """Return the page of the command line."""
    _, _, endings = (inspect.getdoc(cli.main) or "").partition("Returns:\n")
    sections = "\n".join(command_section(name, command) for name, command in cli._COMMANDS.items())
    return f"""
# Command line

`offloop` and `python -m offloop` are the same. `--help` tells of each command what stands here, `--version` which version it is.

Exit status: {markdown(" ".join(endings.split()))}

Colours need a terminal, and neither `NO_COLOR` nor `TERM=dumb`. Characters beyond ASCII need an encoding that has them; with
`OFFLOOP_ASCII=1` there are none. Output that isn't for a terminal is 80 columns wide.

{sections}
"""


def command_section(name: str, command: cli._Command) -> str:
    """Return what the page says of one command."""
    parser = argparse.ArgumentParser(prog=f"offloop {name}", add_help=False)
    import_module(command.module).add_arguments(parser)
    actions = list(parser._actions)
    arguments = " ".join(option_usage(action).replace(" ", "\0") for action in actions)  # no line ends within one
    usage = fill(f"{parser.prog} {arguments}", 90, subsequent_indent="    ", break_on_hyphens=False).replace("\0", " ")
    rows = ((code(written(action)), markdown((action.help or "") % {**vars(action), "prog": parser.prog})) for action in actions)
    told = parser.description or f"{command.summary[0].upper()}{command.summary[1:]}."
    return f"""## offloop {name}

{markdown(f"{told} {parser.epilog or ''}".strip())}

```text
{usage}
```

{table(("argument", "meaning"), rows)}
"""


def written(action: argparse.Action) -> str:
    """Return an argument of a command as its users write it."""
    value = action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper())
    if not action.option_strings:
        return str(value)
    option = max(action.option_strings, key=len)
    return option if action.nargs == 0 else f"{option} {value}"


def option_usage(action: argparse.Action) -> str:
    """Return an argument as it stands in the line of usage."""
    is_needed = action.required and action.nargs != "?"
    return written(action) if is_needed else f"[{written(action)}]"


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


def error_kinds() -> list[type[Explained]]:
    """Return every class of errors, in the order in which they are written."""
    found = ((module.__name__, kind) for module in (errors, ask_error) for kind in vars(module).values())
    return [kind for home, kind in found if isinstance(kind, type) and kind.__module__ == home]


def errors_page() -> str:
    """Return the page of errors."""
    overview = table(
        ("code", "error", "is also a", "when"),
        (
            (f"[{code(kind.code)}](#{kind.code})", code(kind.__name__), standard_bases(kind), summary(kind))
            for kind in error_kinds()
        ),
    )
    return f"""
# Errors

What fn raises arrives as itself, with its item's index and the worker's traceback in its notes. An error of offloop's
own says what happened and its code in the first line, and below that, as far as it is known, where, in which function,
the likely cause and what to do. The code is its attribute `code` and never changes. No argument's value is ever told,
a setting's is. Every error survives pickling.

{overview}

{"".join(map(error_section, error_kinds()))}
"""


def standard_bases(kind: type) -> str:
    """Return which of Python's own classes an error also is, as code; not the one that all are."""
    ours = [above for above in kind.__mro__ if above is not Explained and issubclass(above, Explained)]
    bases = [base.__name__ for above in ours for base in above.__bases__ if base.__module__ == "builtins"]
    return ", ".join(code(name) for name in bases if name != "Exception")


def error_section(kind: type[Explained]) -> str:
    """Return what the page says of one error."""
    told, _, _ = (inspect.getdoc(kind) or "").partition("Args:\n")
    bases = " and ".join(code(base.__name__) for base in kind.__bases__ if issubclass(base, BaseException))
    said = {name: text for base in reversed(kind.__mro__) for name, text in attributes(base, "Args").items()}
    said |= {name: summary(member) for name, member in vars(kind).items() if isinstance(member, property)}
    fields = table(("field", "meaning"), ((code(name), text) for name, text in said.items())) if said else ""
    samples = [f"{kind.__module__}.{kind.__name__}: {sample}" for sample in SAMPLES if type(sample) is kind]
    of_the_core = [under for under in kind.__subclasses__() if under.__module__ == kind.__module__]  # not what adapters add
    below = ", ".join(f"[{code(under.__name__)}](#{under.code})" for under in of_the_core)
    shown = "```text\n" + "\n\n".join(samples) + "\n```" if samples else f"Not raised itself; what is: {below}."
    return "\n\n".join(
        part
        for part in (f"## {kind.code}", f"{code(kind.__name__)}, a kind of {bases}.", markdown(told.strip()), fields, shown)
        if part
    ) + "\n\n"


def calls_with(option: str) -> str:
    """Return which calls have an option."""
    having = [name for name, options in CALLS.items() if option in options]
    return "all" if len(having) == len(CALLS) else ", ".join(having)


def default_of_option(name: str, settings: dict[str, str]) -> str:
    """Return an option's default, as its users write it."""
    if name in settings:
        return "the session's"
    return DEFAULTS_APART.get(name) or default_of(CallOptions, NAMED_APART.get(name, name))


def settings_page() -> str:
    """Return the page of a session's settings and a call's options."""
    settings = attributes(ParallelConfig)
    options = attributes(CallOptions)
    options |= {name: f"What {code(field)} is of the others." for name, field in NAMED_APART.items()}
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
                default_of_option(name, settings),
                text,
            )
            for name, text in options.items()
            if calls_with(name)
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

Keywords of `run`, `run_parallel`, `stream`, `run_batches` and `run_branches`, alike for the methods of a session and the
functions of the module, among which there is no `stream`. An item of `run_branches` is one call. Those that block, `run_sync` and
the others and the methods of a `SyncSession`, have the same. `run` has one more, `answer`: who [answers what fn
asks](../how-to/ask-the-caller.md).

{of_call}
"""


def main() -> None:
    """Write all pages."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
