"""``offloop bench``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import anyio

from .. import use_default_sink
from ..cli.doctor.subject import subject_of
from ..cli.target import load, user_code
from ..cli.terminal import Style, Terminal
from ..cli.usage import UsageError
from ..errors import AsyncFunctionError, SettingError
from ..model import Strategy
from .host import describe_host, describe_settings
from .outcomes import Findings, Report
from .page import page
from .plan import Sweep
from .pngs import write_pngs
from .records import as_record
from .running import Bench, OutOfTime
from .table import show
from .workloads import BUILT_IN, Work

BUDGET_S = 60.0
LEAST_SHARE = 0.1  # of the budget, for what comes last


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("target", nargs="?", metavar="mymodule:fn", help="function of one item to time; without one, a few built-in ones")
    parser.add_argument("--items", metavar="mymodule:items", help="its items: an iterable, or a function that returns one")
    parser.add_argument("--only", type=_names, default=tuple(BUILT_IN), metavar="NAMES", help=f"built-in ones to time: {','.join(BUILT_IN)}")
    parser.add_argument("--budget-s", type=_seconds, default=BUDGET_S, metavar="S", help="about how long it may take in all (%(default)g)")
    parser.add_argument("--strategies", type=_strategies, metavar="NAMES", help=f"{','.join(Strategy)}; threads only if named, or by --thread-safe")
    parser.add_argument("--workers", type=_counts, metavar="N,N", help="numbers of workers (1, 2, 4 ... all usable cores)")
    parser.add_argument("--chunk-sizes", type=_counts, metavar="N,N", help="items per chunk, besides steered ones (a few)")
    parser.add_argument("--counts", type=_counts, metavar="N,N", help="numbers of items (all, a quarter, a sixteenth ...)")
    parser.add_argument("--rounds", type=_count, metavar="N", help="how often each is timed (as often as there is time for, 15 at most)")
    parser.add_argument("--full", action="store_true", help="time every count with all workers and chunk sizes")
    parser.add_argument("--thread-safe", action="store_true", help="the function may run in several threads of a process at once")
    parser.add_argument("--seed", type=int, metavar="N", help="pass items rng=, a numpy Generator of their own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, with the host")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="write the plots as pictures; needs matplotlib")


def execute(args: argparse.Namespace) -> int:
    """Time what the arguments say, print a table and write what is asked for.

    Returns:
        0, or 1 where a variant failed or returned other results than serial.

    Raises:
        UsageError: The arguments can't work.
        UserCodeError: The function, or what makes its items, raised.
    """
    _check(args)
    works = _works(args)
    terminal = Terminal()
    subject = subject_of()
    host = describe_host(subject)
    use_default_sink(False)
    try:
        findings = _all_found(terminal, works, args, subject.host.cores)
    finally:
        use_default_sink(True)
    report = Report(host=host, settings=describe_settings(subject), findings=tuple(findings))
    if report.warning:
        terminal.say(f"! {report.warning}", Style.CAREFUL, hanging=2)
    _write(terminal, report, args)
    return int(any(found.failures for found in findings))


def _check(args: argparse.Namespace) -> None:
    if args.target and not args.items:
        raise UsageError("a function needs items to call it with", f"write offloop bench {args.target} --items mymodule:items")
    if args.items and not args.target:
        raise UsageError("there are items, but no function", "write offloop bench mymodule:fn --items mymodule:items")
    if args.png and find_spec("matplotlib") is None:
        raise UsageError("--png needs matplotlib", "pip install 'offloop[plots]', or write --html")
    for path in (args.json, args.html):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}", "make it first, or name another one")


def _works(args: argparse.Namespace) -> list[Work]:
    if args.target is None:
        return [BUILT_IN[name]() for name in args.only]
    fn, items = load(args.target, args.items)
    if not items:
        raise UsageError(f"{args.items} has no items", "name some to call the function with")
    is_thread_safe = args.thread_safe or Strategy.THREADS in (args.strategies or ())
    return [Work(name=args.target, fn=fn, items=items, is_thread_safe=is_thread_safe, seed=args.seed)]


def _all_found(terminal: Terminal, works: Sequence[Work], args: argparse.Namespace, cores: int) -> list[Findings]:
    """Measure one function after the other; each has its share of the time that is left."""
    end_s = perf_counter() + args.budget_s
    found: list[Findings] = []
    for number, work in enumerate(works):
        left_s = max(LEAST_SHARE * args.budget_s, end_s - perf_counter())
        found.append(_measured(work, _sweep(work, args, cores), left_s / (len(works) - number)))
        show(terminal, found[-1])
        terminal.say()
    return found


def _sweep(work: Work, args: argparse.Namespace, cores: int) -> Sweep:
    if args.strategies:
        strategies = tuple(dict.fromkeys((Strategy.SERIAL, *args.strategies)))
    else:
        strategies = tuple(each for each in Strategy if each is not Strategy.THREADS or work.is_thread_safe)
    return Sweep(
        strategies=strategies,
        workers=args.workers or powers_of_two(cores),
        chunk_sizes=args.chunk_sizes,
        counts=args.counts,
        rounds=args.rounds,
        is_full=args.full,
    )


def _measured(work: Work, sweep: Sweep, budget_s: float) -> Findings:
    line = StatusLine()
    with user_code(f"calling {work.name}"):
        try:
            return anyio.run(Bench(work, sweep, budget_s, line.say).measure)
        except OutOfTime:
            fix = f"name shorter items, or raise --budget-s: {budget_s:.3g} s are left for it"
            raise UsageError(f"one serial run of {work.name} takes longer than there is time for", fix) from None
        except SettingError as error:
            raise UsageError(f"{error.setting}={error.value} can't work", error.advice) from None
        except AsyncFunctionError:
            raise UsageError(f"{work.name} is async", "name the plain function that does the CPU-bound part") from None
        finally:
            line.end()


class StatusLine:
    """What is under way, on standard error where that is a terminal."""

    def __init__(self) -> None:
        self._terminal = Terminal(sys.stderr)

    def say(self, text: str) -> None:
        """Replace the line."""
        if self._terminal.is_terminal:
            print(f"\r\x1b[K{self._terminal.shown(text)[: self._terminal.width - 1]}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Take the line away."""
        self.say("")


def _write(terminal: Terminal, report: Report, args: argparse.Namespace) -> None:
    written: list[Path] = []
    if args.json:
        args.json.write_text(json.dumps(as_record(report), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        written.append(args.json)
    if args.html:
        args.html.write_text(page(report), encoding="utf-8")
        written.append(args.html)
    if args.png:
        written += write_pngs(report, args.png)
    for path in written:
        terminal.write(terminal.shown(f"written: {path}"))


def powers_of_two(cores: int) -> tuple[int, ...]:
    """Return 1, 2, 4 and so on below a number of cores, and that number."""
    return tuple(sorted({*(1 << power for power in range(cores.bit_length()) if 1 << power < cores), cores}))


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return value


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(part.strip()) for part in text.split(",")}))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time above 0 s")
    return value


def _strategies(text: str) -> tuple[Strategy, ...]:
    known = {strategy.value: strategy for strategy in Strategy}
    return tuple(known[name] for name in _members(text, known))


def _names(text: str) -> tuple[str, ...]:
    return tuple(_members(text, BUILT_IN))


def _members(text: str, known: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in text.split(",")))
    wrong = next((name for name in names if name not in known), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(f"{wrong!r} is none of {', '.join(known)}")
    return names
