"""The layout that the texts of all errors have."""

from __future__ import annotations

from typing import ClassVar

# In this order, whatever order an error tells them in.
LABELS = ("where", "fn", "cause", "fix", "stack")
_WIDTH = max(map(len, LABELS)) + 2  # with the colon and a space


class Explained:
    """An error that says what happened and its code, then on lines of their own what else it knows.

        items[17] can't be sent to a worker [unpicklable-item]
          where: items[17].client._lock  (_thread.lock)
          fn:    app.score (app.py:42)
          fix:   send plain data and build the object in worker_init=…, or use strategy="threads"

    A class says it by templates, which name fields of the error; ``_what`` is of one that has none what it was made with.

    Attributes:
        code: Names the kind of error for good; docs/reference/errors.md has a section under it.
    """

    code: ClassVar[str]
    _what: ClassVar[str] = ""
    _where: ClassVar[str] = ""
    _fn: ClassVar[str] = ""
    _cause: ClassVar[str] = ""
    _fix: ClassVar[str] = ""

    def _parts(self) -> dict[str, str]:
        """Return what happened as ``what``, and what else is known by one of `LABELS`; an empty one is left out."""
        templates = {"what": self._what, "where": self._where, "fn": self._fn, "cause": self._cause, "fix": self._fix}
        texts = {label: template.format_map(vars(self)) for label, template in templates.items()}
        return {label: text.rstrip(": ") for label, text in texts.items()}  # the field that it ends in may be empty

    def __str__(self) -> str:
        parts = self._parts()
        what = printable(parts["what"] or ", ".join(map(str, getattr(self, "args", ()))))
        lines = [f"{what} [{self.code}]".lstrip()]
        lines += [f"  {label + ':':{_WIDTH}}{_indented(parts[label])}" for label in LABELS if parts.get(label)]
        return "\n".join(lines)


def _indented(text: str) -> str:
    """Return text whose further lines begin where its first one does, without those that are empty."""
    return f"\n{' ' * (_WIDTH + 2)}".join(printable(line) for line in text.splitlines() if line.strip())


def printable(text: str) -> str:
    """Return text on one line; what would move a terminal's cursor or colour it is escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
