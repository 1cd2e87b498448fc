"""``offloop doctor``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings

from ..terminal import Terminal
from .examining import examine
from .findings import Verdict
from .screens import as_json, as_report, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell a parser what the command takes."""
    parser.epilog = "Exit status: 1 if something is wrong (an X), else 0, whatever is to look at (an !)."
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything for programs")
    form.add_argument("--report", action="store_true", help="print a block to paste into a report of a bug, without names of users and hosts")


def execute(args: argparse.Namespace) -> int:
    """Examine this machine and print what was found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with variables is a finding
        examination = examine()
    if args.json:
        print(as_json(examination))
    elif args.report:
        print(as_report(examination))
    else:
        show(examination, Terminal())
    status = int(examination.verdict is Verdict.ERROR)
    if examination.n_abandoned:  # what hangs would keep this process, at its end, for as long
        sys.stdout.flush()
        os._exit(status)
    return status
