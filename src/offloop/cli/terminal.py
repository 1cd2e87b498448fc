"""What commands print on: plain or coloured, as wide and with such characters as the stream can bear."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib import import_module
from typing import Any, NamedTuple, TextIO

_WIDTH = 80  # of what isn't a terminal, and of one that doesn't say
_WIDEST = 100  # longer lines are hard to read
_TYPICAL = "✓✗→×µ…"
_ASCII = str.maketrans({"✓": "ok", "✗": "X", "→": "->", "×": "x", "µ": "u", "…": "...", "–": "-", "—": "-", "≥": ">=", "÷": "/", "’": "'"})


class Style(StrEnum):
    """How text is shown where colours are: by the numbers of an ANSI sequence."""

    PLAIN = ""
    STRONG = "1"
    FAINT = "2"
    GOOD = "32"
    CAREFUL = "33"
    BAD = "31"


class Terminal:
    """A stream that commands print on.

    Colours need a terminal, and neither ``NO_COLOR`` nor ``TERM=dumb``. Characters beyond ASCII need an encoding that has
    them, and no ``OFFLOOP_ASCII``; ``✓`` is printed as ``ok`` then.

    Args:
        stream: Where to print; standard output if None.
        environ: The variables of the environment.

    Attributes:
        is_terminal: Whether somebody looks at it.
        has_colour: Whether it shows colours.
        is_ascii: Whether it shows ASCII alone.
        width: Columns.
    """

    def __init__(self, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = sys.stdout if stream is None else stream
        self.is_terminal = self._stream.isatty()
        self.has_colour = self.is_terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self.is_ascii = environ.get("OFFLOOP_ASCII", "0") not in ("", "0") or not self._can_show(_TYPICAL)
        self.width = min(_WIDEST, shutil.get_terminal_size((_WIDTH, 24)).columns) if self.is_terminal else _WIDTH

    def _can_show(self, text: str) -> bool:
        try:
            text.encode(getattr(self._stream, "encoding", None) or "ascii")
        except (UnicodeError, LookupError):
            return False
        return True

    def shown(self, text: str) -> str:
        """Return text as this stream shows it, without what could harm a terminal."""
        plain = text.translate(_ASCII) if self.is_ascii else text
        printable = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in plain)
        encoding = "ascii" if self.is_ascii else getattr(self._stream, "encoding", None) or "ascii"
        return printable.encode(encoding, "backslashreplace").decode(encoding)

    def styled(self, text: str, style: Style) -> str:
        """Return text as `shown`, in a style where there are colours."""
        shown = self.shown(text)
        return f"\x1b[{style}m{shown}\x1b[0m" if style and shown and self.has_colour else shown

    def say(self, text: str = "", style: Style = Style.PLAIN, *, indent: int = 0, hanging: int | None = None) -> None:
        """Print a paragraph, wrapped to the width.

        Args:
            text: What to print; an empty one is an empty line.
            style: How.
            indent: Columns before its first line.
            hanging: Columns before the others; as before the first one if None.
        """
        wide = textwrap.TextWrapper(
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent if hanging is None else hanging),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in wide.wrap(self.shown(text)) or [""]:
            self.write(self.styled(line, style))

    def wrapped(self, text: str, start: int, *, hanging: int = 0) -> list[str]:
        """Return text as `shown` in lines that fit from this column on, all but the first of them indented."""
        room = max(20, self.width - start)
        lines = textwrap.wrap(self.shown(text), room, subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False)
        return lines or [""]

    def write(self, line: str) -> None:
        """Print a line as it is, sequences of its colours included."""
        self._stream.write(f"{line}\n")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: int = 0) -> None:
        """Print rows in columns; a last column that is too wide for the line is wrapped.

        Args:
            headers: Of the columns; none of them if all are empty.
            rows: Their cells.
            right: Numbers of the columns that are aligned to the right.
            indent: Columns before it.
        """
        cells = [[self.shown(cell) for cell in row] for row in ([headers] if any(headers) else []) + list(map(list, rows))]
        if not cells:
            return
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        has_room = indent + sum(width + 3 for width in widths[:-1]) + min(20, widths[-1]) <= self.width  # rich would cut cells
        rich = _rich() if self.is_terminal and not self.is_ascii and has_room else None
        if rich is not None:
            self._rich_table(rich, headers, rows, right, indent)
            return
        for number, row in enumerate(cells):
            *first, last = (
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            start = " " * indent + "".join(f"{cell}  " for cell in first)
            room = max(20, self.width - len(start))
            style = Style.STRONG if number == 0 and any(headers) else Style.PLAIN
            for count, part in enumerate(textwrap.wrap(last, room, break_on_hyphens=False) or [""]):
                self.write(self.styled(((start if count == 0 else " " * len(start)) + part).rstrip(), style))

    def _rich_table(self, rich: _Rich, headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int], indent: int) -> None:
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, show_edge=False, show_header=any(headers), pad_edge=False, header_style="bold")
        for number, header in enumerate(headers):
            table.add_column(header, justify="right" if number in right else "left", no_wrap=number < len(headers) - 1)
        for row in rows:
            table.add_row(*(rich.text.Text(self.shown(cell)) for cell in row))
        colours = {"no_color": not self.has_colour, "force_terminal": self.has_colour}
        console = rich.console.Console(file=self._stream, width=self.width, **colours)
        console.print(rich.padding.Padding(table, (0, 0, 0, indent), expand=False))


class _Rich(NamedTuple):
    """The modules of rich that are used."""

    box: Any
    console: Any
    padding: Any
    table: Any
    text: Any


def _rich() -> _Rich | None:
    """Return rich, which draws tables for whoever looks at a terminal, where it is installed."""
    try:
        return _Rich(*(import_module(f"rich.{name}") for name in _Rich._fields))
    except Exception:  # it is missing, broken, or a folder of that name
        return None
