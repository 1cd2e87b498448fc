"""cli/terminal.py: what commands print on."""

from __future__ import annotations

import io

import pytest

from offloop.cli import terminal as terminals
from offloop.cli.terminal import Style, Terminal


class Screen(io.TextIOWrapper):
    """A stream that somebody looks at, or not."""

    def __init__(self, encoding: str = "utf-8", *, is_terminal: bool = True) -> None:
        self.buffered = io.BytesIO()
        super().__init__(self.buffered, encoding=encoding, write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        return self.buffered.getvalue().decode(self.encoding)


@pytest.fixture(autouse=True)
def plain_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw tables as where rich isn't installed."""
    monkeypatch.setattr(terminals, "_rich", lambda: None)


@pytest.mark.parametrize(
    ("is_terminal", "environ", "has_colour"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_for_who_wants_them(is_terminal: bool, environ: dict[str, str], has_colour: bool) -> None:
    """Colours are shown on a terminal alone, and neither under NO_COLOR nor where it can't."""
    screen = Screen(is_terminal=is_terminal)
    Terminal(screen, environ).say("well", Style.GOOD)
    assert screen.text == ("\x1b[32mwell\x1b[0m\n" if has_colour else "well\n")


@pytest.mark.parametrize(("encoding", "environ"), [("ascii", {}), ("latin-1", {}), ("utf-8", {"OFFLOOP_ASCII": "1"})])
def test_there_is_a_fallback_in_ascii(encoding: str, environ: dict[str, str]) -> None:
    """Where the encoding lacks signs, or ASCII is asked for, everything is shown in ASCII, names of users included."""
    screen = Screen(encoding)
    Terminal(screen, environ).say("✓ 3 µs × 2 → größer")
    assert screen.text == "ok 3 us x 2 -> gr\\xf6\\xdfer\n"


def test_nothing_can_harm_the_terminal() -> None:
    """Control characters in what is shown are escaped."""
    assert Terminal(Screen(), {}).shown("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"


def test_text_is_wrapped_and_tables_fit() -> None:
    """Lines have at most 80 columns where the stream is no terminal; a wide last column is wrapped."""
    screen = Screen(is_terminal=False)
    terminal = Terminal(screen, {})
    terminal.say("word " * 40, indent=2, hanging=4)
    terminal.table(("name", "n", "meaning"), [("first", "1", "many words " * 9), ("second", "20", "few")], right=(1,), indent=2)
    lines = screen.text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[3:] == [
        "  name     n  meaning",
        "  first    1  many words many words many words many words many words many words",
        "              many words many words many words",
        "  second  20  few",
    ]


def test_rich_draws_tables_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rich is installed and somebody looks, it draws tables, and takes no cell for its markup."""
    pytest.importorskip("rich")
    monkeypatch.undo()
    screen = Screen()
    Terminal(screen, {"NO_COLOR": "1"}).table(("name", "value"), [("a", "[red]1")])
    assert "───" in screen.text
    assert "[red]1" in screen.text


def test_no_cell_is_cut_where_the_terminal_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal that has no room for a table, its lines are too long rather than cut."""
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "30")
    screen = Screen()
    Terminal(screen, {"NO_COLOR": "1"}).table(("name", "value", "more"), [("n" * 14, "v" * 14, "m" * 14)])
    assert all(cell * 14 in screen.text for cell in "nvm")
