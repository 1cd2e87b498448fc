"""``offloop bench``: what it does with its arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import anyio

from .. import ParallelSession, use_default_sink
from ..cli.doctor.subject import subject_of
from ..cli.target import load, user_code
from ..cli.terminal import Style, Terminal
from ..cli.usage import UsageError
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

LEAST_SHARE = 0.1  # of the budget, for what comes last


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
    workers: tuple[int, ...] = args.workers or powers_of_two(subject.workers)
    with user_code("opening a session"):
        settings = describe_settings(ParallelSession(workers=max(workers)))
    use_default_sink(False)
    try:
        findings = _all_found(terminal, works, args, workers)
    finally:
        use_default_sink(True)
    report = Report(host=host, settings=settings, findings=tuple(findings))
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
        if path is not None and not _is_writable(path):
            raise UsageError(f"{path} can't be written", "name another file")
    if args.png and not _is_writable(args.png / "plot.png"):
        raise UsageError(f"{args.png} is no folder that can be written to", "name another one")


def _is_writable(path: Path) -> bool:
    """Whether a file can be written, by trying, since nobody wants to hear that after a minute; leaves nothing there."""
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _works(args: argparse.Namespace) -> list[Work]:
    if args.target is None:
        return [BUILT_IN[name]() for name in args.only]
    fn, items = load(args.target, args.items)
    if not items:
        raise UsageError(f"{args.items} has no items", "name some to call the function with")
    is_thread_safe = args.thread_safe or Strategy.THREADS in (args.strategies or ())
    return [Work(name=args.target, fn=fn, items=items, is_thread_safe=is_thread_safe, seed=args.seed)]


def _all_found(terminal: Terminal, works: Sequence[Work], args: argparse.Namespace, workers: tuple[int, ...]) -> list[Findings]:
    """Measure one function after the other; each has its share of the time that is left."""
    end_s = perf_counter() + args.budget_s
    found: list[Findings] = []
    for number, work in enumerate(works):
        left_s = max(LEAST_SHARE * args.budget_s, end_s - perf_counter())
        found.append(_measured(work, _sweep(work, args, workers), left_s / (len(works) - number)))
        show(terminal, found[-1])
        terminal.say()
        sys.stdout.flush()  # for whoever reads along by a pipe
    return found


def _sweep(work: Work, args: argparse.Namespace, workers: tuple[int, ...]) -> Sweep:
    if args.strategies:
        strategies = tuple(dict.fromkeys((Strategy.SERIAL, *args.strategies)))
    else:
        strategies = tuple(each for each in Strategy if each is not Strategy.THREADS or work.is_thread_safe)
    return Sweep(
        strategies=strategies,
        workers=workers,
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
