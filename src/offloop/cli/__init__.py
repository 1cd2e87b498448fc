"""The command line: ``offloop`` and ``python -m offloop``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from .. import __version__
from ..errors import OffloopError
from .usage import UsageError, UserCodeError, print_failure

__all__ = ("main",)


class _Command(NamedTuple):
    """A command: the module with its ``add_arguments(parser)`` and ``execute(args) -> int``, imported if it is called.

    What it takes to execute is imported by ``execute``, so that ``--help`` is there at once.
    """

    module: str
    summary: str


_COMMANDS = {
    "doctor": _Command("offloop.cli.doctor.command", "check this machine, this environment and the settings"),
    "explain": _Command("offloop.cli.explain", "measure a function and tell where it would execute, and why"),
    "bench": _Command("offloop.bench.command", "time a function by strategy, workers, chunk size and count of items"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Execute a command and return its exit status.

    Args:
        argv: The arguments of the command line; those of this process if None.

    Returns:
        0 where all is well, 1 where what the command looked at isn't, or the user's code raised, 2 where the arguments
        can't work, 130 after Ctrl-C.
    """
    try:
        _complete_streams()
        status = _execute(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except UsageError as error:
        print(f"offloop: {error}", file=sys.stderr)
        return 2
    except UserCodeError as error:
        print_failure(error)
        return 1
    except OffloopError as error:
        print(f"offloop: {error}", file=sys.stderr)
        return 1
    except ImportError as error:  # of what offloop needs; of the user's code it is wrapped
        print(f"offloop: {error}\n  fix: pip install --force-reinstall offloop", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell has it for what SIGINT has ended
    except BrokenPipeError:  # whoever read the output has gone, as head does
        _forget_output()
        return 1
    except OSError as error:  # of the output, or of a file that was to be written; what the user's code raises is wrapped
        print(f"offloop: {error}", file=sys.stderr)
        _forget_output()
        return 1
    except SystemExit as ending:  # by argparse, which has said why
        return ending.code if isinstance(ending.code, int) else int(bool(ending.code))


def _execute(arguments: list[str]) -> int:
    name = next((word for word in arguments if not word.startswith("-")), None)
    command = import_module(_COMMANDS[name].module) if name in _COMMANDS else None
    args = _parser(name, command).parse_args(arguments)
    return int(command.execute(args)) if command is not None else 0


def _parser(name: str | None, command: Any) -> argparse.ArgumentParser:
    """Return a parser that knows all commands by name, and the arguments of the one that is called."""
    parser = argparse.ArgumentParser(
        prog="offloop",
        description="Takes CPU-bound work off the event loop: measured decisions, reusable workers, real cancellation.",
        epilog="offloop COMMAND --help tells more of one.",
    )
    parser.add_argument("--version", action="version", version=f"offloop {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each, (_, summary) in _COMMANDS.items():
        added = commands.add_parser(each, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if each == name:
            command.add_arguments(added)
    return parser


def _complete_streams() -> None:
    """Let what is printed go nowhere where a stream was closed before Python began."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # to the end of the process


def _forget_output() -> None:
    """Let what is still to be printed go nowhere, so that Python's end doesn't fail at it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
