"""What `progress=True` and `progress="text"` draw: a tqdm bar, or one line that is written again and again.

Drawn is on standard error where that is a terminal, or a notebook; else nothing is.
"""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
import weakref
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal, TextIO

from .. import in_worker
from ..explaining import printable
from ..progress import ProgressEvent

WIDTH, ROWS = 80, 24  # where the terminal doesn't say
_BARS = (20, 10)  # columns of a bar, the widest that there is room for
_NAME = 24  # columns of a name at most
_LEAST = 4  # and at least, to be cut for what else there is to tell
_SHARE = len(" 100% ")

_MARKS = {False: ("━", "─", " · ", "…"), True: ("#", "-", ", ", "~")}  # by is_ascii: done, to do, between, cut


def renderer(kind: Literal[True, "text"], stream: TextIO | None = None) -> Callable[[ProgressEvent], None] | None:
    """Return what draws one run's progress; None where nobody would see it.

    Several runs may draw at the same time: bars stand below each other; of lines the first one stays until its run is over.
    What goes wrong with drawing, such as a stream that was closed, ends it and is never raised. In a worker nothing is drawn: what it
    writes reaches the terminal line by line.

    Args:
        kind: ``True``: a tqdm bar, in a notebook its own kind, where tqdm is installed; else a line, as by ``"text"``.
        stream: Where to draw; standard error if None.
    """
    stream = sys.stderr if stream is None else stream
    is_notebook = _is_notebook()
    if stream is None or in_worker() or not (is_notebook or _is_terminal(stream)):
        return None
    if kind is True and find_spec("tqdm") is not None:
        return _Guarded(_Bar(stream, is_notebook))
    return _Guarded(_Line(stream))


def line(event: ProgressEvent, width: int = WIDTH, *, is_ascii: bool = False) -> str:
    """Return the line that tells of an event; no longer than so many columns.

    What there is no room for is left out: first the bar, then figures, the last one first.

    Args:
        event: What to tell.
        width: Columns.
        is_ascii: Whether nothing but ASCII may be in it.
    """
    done, to_do, between, _ = _MARKS[is_ascii]
    share, figures = _share(event), _figures(event)
    name = _name(event, is_ascii, width - len(figures[0]) - _SHARE)
    head = f"{name} {int(100 * share + 1e-9):3}% " if share is not None else f"{name} "  # 100 % is said of what is done
    left = width - _columns(head)
    while len(figures) > 1 and len(between.join(figures)) > left:
        figures.pop()
    told = between.join(figures)
    bar = ""
    if share is not None and not event.is_last:
        size = next((size for size in _BARS if size < left - len(told)), 0)
        n_done = int(share * size)
        bar = done * n_done + to_do * (size - n_done) + " " * bool(size)
    return _cut(f"{head}{bar}{told}", width, is_ascii)


def _share(event: ProgressEvent) -> float | None:
    """Return the share that is done; None where that isn't known, and of a call that says nothing of it."""
    if event.is_last and event.n_done == event.n_items:
        return 1.0
    if event.n_items == 1 and not event.n_done and not event.fraction:
        return None
    return event.fraction


def _figures(event: ProgressEvent) -> list[str]:
    """Return what is told in figures, what matters most first."""
    told: list[str] = []
    if event.n_items != 1:
        total = "" if event.n_items is None else f"/{event.n_items:,}"
        told.append(f"{event.n_done:,}{total}")
    if event.n_failed:
        told.append(f"{event.n_failed:,} failed")
    if event.is_last:
        is_whole = event.n_items is None or event.n_done >= event.n_items
        told.append(f"{'in' if is_whole else 'stopped after'} {_duration(event.elapsed_s)}")
    elif event.eta_s is None:
        told.append(f"{_clock(event.elapsed_s)} elapsed")
    else:
        told.append(f"ETA {_clock(event.eta_s)}")
    if event.rate and event.n_items != 1:
        told.append(_rate(event.rate))
    told.append(f"{event.utilisation_pct:.0f}% busy")
    return told


def _rate(rate: float) -> str:
    """Return a rate with three digits, as so many in a second or as seconds of each."""
    if rate < 1:
        return f"{_duration(1 / rate)} each"
    value, unit = rate, ""
    for larger in ("k", "M"):
        if value >= 999.5:
            value, unit = value / 1000, larger
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit}/s"


def _duration(seconds: float) -> str:
    """Return seconds as they are said: ``12.3 ms``, ``0.42 s``, ``8.1 s``, then as a clock."""
    if seconds >= 99.95:
        return _clock(seconds)
    if seconds < 0.0995:
        return f"{1e3 * seconds:.1f} ms"
    return f"{seconds:.{2 if seconds < 0.995 else 1}f} s"


def _clock(seconds: float) -> str:
    """Return ``0:05``, ``12:34``, ``1:02:03`` or ``4 d 3 h``."""
    whole = round(min(seconds, 1e9))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days:,} d {hours % 24} h"
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _name(event: ProgressEvent, is_ascii: bool, most: int) -> str:
    """Return the run's name as it is told, in about so many columns: of a label the beginning, of a function's name the end."""
    most = max(_LEAST, min(_NAME, most))
    name = printable(event.label or event.fn.removeprefix("__main__."))
    if is_ascii:
        name = name.encode("ascii", "backslashreplace").decode()
    return _cut(name, most, is_ascii) if event.label else _cut(name[::-1], most, is_ascii)[::-1]


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text fills."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _cut(text: str, width: int, is_ascii: bool) -> str:
    """Return a text's beginning, with a mark where it is cut."""
    if _columns(text) <= width:
        return text
    kept = text
    while kept and _columns(kept) > width - 1:
        kept = kept[:-1]
    return kept + _MARKS[is_ascii][3]


# --- where it is drawn ------------------------------------------------------------------------------------------------


def _is_notebook() -> bool:
    """Whether this is a kernel that a notebook shows the output of."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, OSError, ValueError):  # no file, or closed
        return False


def _takes_only_ascii(stream: TextIO) -> bool:
    """Whether a stream can't show our marks, or the user wants none."""
    if os.environ.get("OFFLOOP_ASCII", "0") not in ("", "0"):
        return True
    try:
        "".join(_MARKS[False]).encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeError):
        return True
    return False


def _size_of(stream: TextIO) -> tuple[int, int]:
    """Return a terminal's columns, without the last one, where lines might wrap, and its rows."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (AttributeError, OSError, ValueError):
        columns = rows = 0
    return max(1, (columns or WIDTH) - 1), rows or ROWS


class _Guarded:
    """A drawing that ends with the first thing that goes wrong."""

    def __init__(self, draw: Callable[[ProgressEvent], None]) -> None:
        self._draw: Callable[[ProgressEvent], None] | None = draw

    def __call__(self, event: ProgressEvent) -> None:
        """Draw, if all has gone well so far."""
        if self._draw is None:
            return
        try:
            self._draw(event)
        except Exception:  # a progress bar is no reason for anything to fail
            self._draw = None


class _Line:
    """One line of text, written again in its place; a run's last one stays.

    Of runs at the same time one has the line. The others' last ones are written in passing, and one of them has the line
    once that run is over.
    """

    _lock = threading.Lock()  # several event loops may draw
    _holder: weakref.ref[_Line] | None = None
    _n_drawn = 0  # columns that there are to write over

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_ascii = _takes_only_ascii(stream)

    def __call__(self, event: ProgressEvent) -> None:
        with _Line._lock:
            holder = None if _Line._holder is None else _Line._holder()
            if holder is None:
                _Line._holder = weakref.ref(self)
            elif holder is not self and not event.is_last:
                return
            try:
                self._write(event)
            finally:
                if event.is_last and holder in (None, self):
                    _Line._holder = None

    def _write(self, event: ProgressEvent) -> None:
        text = line(event, _size_of(self._stream)[0], is_ascii=self._is_ascii)
        n_drawn, columns = _Line._n_drawn, _columns(text)
        _Line._n_drawn = 0 if event.is_last else columns
        self._stream.write(f"\r{text}{' ' * (n_drawn - columns)}" + "\n" * event.is_last)
        self._stream.flush()


class _Bar:
    """A tqdm bar, of our figures.

    While tqdm is being imported nothing is drawn, and the end of a run that is over before that is told by a line.
    """

    def __init__(self, stream: TextIO, is_notebook: bool) -> None:
        self._is_ascii = _takes_only_ascii(stream)
        self._stream, self._line = stream, _Line(stream)
        self._is_widget = is_notebook and find_spec("ipywidgets") is not None
        self._bar: Any = None
        _begin_loading(self._is_widget)

    def __call__(self, event: ProgressEvent) -> None:
        if self._bar is None and self._is_widget not in _kinds:
            if event.is_last or self._is_widget not in _loading:
                self._line(event)
            return
        if self._bar is None:
            self._bar = self._begun()
        columns, rows = _size_of(self._stream)
        if not self._is_widget:
            self._bar.ncols, self._bar.nrows = columns, rows
        share, figures = _share(event), _figures(event)
        name = _name(event, self._is_ascii, columns - len(figures[0]) - _SHARE)
        self._bar.set_description_str(name, refresh=False)
        told = _MARKS[self._is_ascii][2].join(figures)
        self._bar.bar_format = f"{{desc}}: {told}" if share is None else f"{{l_bar}}{{bar}}| {told}"
        self._bar.n = share or 0.0
        if self._is_widget or not event.is_last:
            self._bar.refresh()
        if event.is_last:
            self._close()

    def _close(self) -> None:
        """Leave the bar above those that go on, which close up below it."""
        kind, bar = type(self._bar), self._bar
        with bar.get_lock():
            others = sorted((other for other in kind._instances if type(other) is kind and other is not bar), key=lambda other: other.pos)
            for drawn in (bar, *others):
                drawn.clear(nolock=True)
            bar.delay = 0  # else it believes that it was never drawn
            bar.close()
            for other in others:
                other.pos = min(other.pos, kind._get_free_pos(other))

    def _begun(self) -> Any:
        """Return a bar that draws nothing but what we say: by its own measure that is too early for ever."""
        how: dict[str, Any] = {"dynamic_ncols": True} if self._is_widget else {"ncols": WIDTH, "nrows": ROWS}
        how |= {"file": self._stream, "ascii": self._is_ascii or None, "leave": True, "delay": 1e9}
        return _kinds[self._is_widget](total=1.0, **how)


_kinds: dict[bool, Any] = {}  # tqdm's bars, by whether they are a notebook's
_loading: set[bool] = set()
_bars_lock = threading.RLock()  # where the program has no bars of its own, whose lock they would share


def _begin_loading(is_widget: bool) -> None:
    """Import tqdm, in a thread if that takes its time: some 50 ms, for which the event loop would be held."""
    if is_widget in _kinds or is_widget in _loading:
        return
    _loading.add(is_widget)
    if ("tqdm.notebook" if is_widget else "tqdm.std") in sys.modules:
        _load(is_widget)
    else:
        threading.Thread(target=_load, args=(is_widget,), name="offloop-tqdm", daemon=True).start()


def _load(is_widget: bool) -> None:
    """Make the class of bars, without what ours need not have: a thread that watches them, and a lock among processes."""
    try:
        if is_widget:
            from tqdm.notebook import tqdm
        else:
            from tqdm.std import tqdm
        _kinds[is_widget] = type("Bar", (tqdm,), {"monitor_interval": 0, "_lock": getattr(tqdm, "_lock", _bars_lock)})
    except Exception:  # it can't be imported here, so there will be lines
        pass
    finally:
        _loading.discard(is_widget)
