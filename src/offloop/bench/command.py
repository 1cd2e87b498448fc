"""``offloop bench``: what it takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from ..model import Strategy
from .workloads import BUILT_IN

BUDGET_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("target", nargs="?", metavar="mymodule:fn", help="function of one item to time; without one, a few built-in ones")
    parser.add_argument("--items", metavar="mymodule:items", help="its items: an iterable, or a function that returns one")
    parser.add_argument("--only", type=_names, default=tuple(BUILT_IN), metavar="NAMES", help=f"built-in ones to time: {','.join(BUILT_IN)}")
    parser.add_argument("--budget-s", type=_seconds, default=BUDGET_S, metavar="S", help="about how long it may take in all (%(default)g)")
    parser.add_argument("--strategies", type=_strategies, metavar="NAMES", help=f"{','.join(Strategy)}; threads only if named, or by --thread-safe")
    parser.add_argument("--workers", type=_counts, metavar="N,N", help="numbers of workers (1, 2, 4 ... as many as a session has)")
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
    """Time what the arguments say, print a table and write what is asked for; see `benching.execute`."""
    from . import benching

    return benching.execute(args)


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
