"""``offloop doctor``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

import offloop

from ..terminal import Terminal
from .findings import Examination, Verdict
from .screens import as_json, as_report, show

_PATIENCE_S = 3.0  # so that workers that were slow to start end tidily


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell a parser what the command takes."""
    parser.epilog = "Exit status: 1 if something is wrong (an X), else 0, whatever is to look at (an !)."
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything for programs")
    form.add_argument("--report", action="store_true", help="print a block to paste into a report of a bug, without names of users and hosts")


def execute(args: argparse.Namespace) -> int:
    """Examine this machine and print what was found."""
    from .examining import come_to_an_end, examine

    offloop.use_default_sink(False)  # what happens to the doctor's own workers is a finding, and so is
    with warnings.catch_warnings():  # what is wrong with variables
        warnings.simplefilter("ignore")
        try:
            examination = examine()
            _print(examination, args)
            sys.stdout.flush()
            has_ended = not examination.n_abandoned or come_to_an_end(_PATIENCE_S)
        finally:
            offloop.use_default_sink(True)
    status = int(examination.verdict is Verdict.ERROR)
    if not has_ended:  # what hangs would keep this process, at its end, for as long
        os._exit(status)
    return status


def _print(examination: Examination, args: argparse.Namespace) -> None:
    if args.json:
        print(as_json(examination))
    elif args.report:
        print(as_report(examination))
    else:
        show(examination, Terminal())
