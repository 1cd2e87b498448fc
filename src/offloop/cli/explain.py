"""``offloop explain``: where a function would execute, and why."""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..model import Decision, Reason, Strategy, readable
from .amounts import counted, sized
from .target import MOST_ITEMS, load, user_code
from .terminal import Style, Terminal

if TYPE_CHECKING:
    from .measuring import Explanation

_OPTIONS = ("strategy", "workers", "chunk_size", "seed", "item_cost_s", "thread_safe")
_SHOWN = (
    *("estimated_serial_s", "estimated_s", "start_cost_s", "item_s", "gil_held"),
    *("payload_bytes", "result_bytes", "shared_bytes", "workers", "chunk_size", "n_features", "inner", "requested"),
)
_OF_THE_HOST = (Reason.OPERATOR_OFF, Reason.NESTED, Reason.FOREIGN_POOL, Reason.CI, Reason.SINGLE_WORKER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell a parser what the command takes."""
    parser.description = (
        "Runs the first items for real, for about 10 ms and the first one twice, as the library itself measures work, and tells "
        "where all of them would execute, and why. Options are those of run_parallel."
    )
    parser.add_argument("function", metavar="mymodule:fn", help="a function of one item, in a module that can be imported from here")
    parser.add_argument("--items", required=True, metavar="mymodule:items", help="a list, or a function that returns one")
    parser.add_argument("--strategy", choices=[strategy.value for strategy in Strategy], help="where items execute")
    parser.add_argument("--workers", type=int, metavar="N", help="the most workers")
    parser.add_argument("--chunk-size", type=int, metavar="N", help="items per chunk")
    parser.add_argument("--seed", type=int, metavar="N", help="give fn a generator of random numbers, rng=")
    parser.add_argument("--item-cost-s", type=float, metavar="S", help="seconds per item; nothing is run to measure it")
    parser.add_argument("--thread-safe", action="store_const", const=True, help="fn may run in several threads at the same time")
    parser.add_argument("--run", action="store_true", help="then run all items, and tell how long that took")
    parser.add_argument("--json", action="store_true", help="print everything for programs")


def execute(args: argparse.Namespace) -> int:
    """Measure, decide and print the decision with its numbers."""
    from .measuring import explained

    options = {name: value for name in _OPTIONS if (value := getattr(args, name)) is not None}
    with redirect_stdout(sys.stderr) if args.json else nullcontext():  # what the user's code prints is no JSON
        fn, items = load(args.function, args.items)
        with user_code(f"calling {args.function}"):
            explanation = explained(fn, items, options, is_run=args.run)
    if args.json:
        print(as_json(explanation))
    else:
        show(explanation, Terminal())
    return 0


def show(explanation: Explanation, terminal: Terminal) -> None:
    """Print a decision, its reason, its numbers, and what would change it."""
    decision = explanation.decision
    terminal.say(_headline(decision), Style.STRONG)
    terminal.say(decision.reason.sentence, indent=2)
    terminal.say()
    terminal.table(("field", "value", "meaning"), [(name, text, _meaning(name)) for name, text in _numbers(decision)], right=(1,), indent=2)
    terminal.say()
    for text in _remarks(explanation):
        terminal.say(text, indent=2, hanging=4)


def _headline(decision: Decision) -> str:
    count = "items" if decision.n_items is None else counted(decision.n_items, "item")
    with_workers = f" with {counted(decision.workers, 'worker')}" if decision.strategy is not Strategy.SERIAL else ""
    return f"{decision.fn}: {count} → {decision.strategy}{with_workers} ({decision.reason})"


def _numbers(decision: Decision) -> list[tuple[str, str]]:
    """Return the fields of a decision that are known, as text."""
    values = ((name, getattr(decision, name)) for name in _SHOWN)
    return [(name, _text(name, value)) for name, value in values if value is not None]


def _text(name: str, value: Any) -> str:
    if name.endswith("_s"):
        return readable(value) if value else "0 s"
    if name.endswith("_bytes"):
        return sized(value)
    return f"{value:.0%}" if name == "gil_held" else str(value)


def _meaning(name: str) -> str:
    """Return what a field means, as the docstring of `Decision` says; nothing where docstrings are stripped."""
    found = re.search(rf"^( +){name}: (.+(?:\n\1 {{4}}.+)*)", Decision.__doc__ or "", re.MULTILINE)
    return " ".join(found[2].split()).partition(";")[0].rstrip(".") if found else ""


def _remarks(explanation: Explanation) -> list[str]:
    """Return what was measured, and what would change the decision."""
    decision, remarks = explanation.decision, []
    if explanation.n_measured:
        remarks.append(f"measured: {counted(explanation.n_measured, 'call')}, which took {readable(explanation.measured_s)}")
    if decision.forgone_s:
        remarks.append(f"warm: once workers are up, about {readable(decision.forgone_s)} less, as in a service after its first calls")
    if explanation.leaves_serial_at is not None:
        remarks.append(f"parallel: from about {explanation.leaves_serial_at:,} items like the first on")
    elif decision.reason is Reason.TOO_SMALL:
        remarks.append(f"parallel: for no count of items like the first, up to {MOST_ITEMS:,}")
    if explanation.ran_s is not None and explanation.ran is not None:
        remarks.append(f"ran: all items in {readable(explanation.ran_s)}, {explanation.ran.strategy} at the end ({explanation.ran.reason})")
    if decision.hint is not None:
        remarks.append(f"hint: {decision.hint}")
    elif decision.reason in _OF_THE_HOST:
        remarks.append("hint: offloop doctor tells what to change")
    return remarks


def as_json(explanation: Explanation) -> str:
    """Return an explanation for programs."""
    content = asdict(explanation)
    content["decision"]["sentence"] = explanation.decision.reason.sentence
    return json.dumps(content, indent=2, default=str)
