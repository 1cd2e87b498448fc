"""The error of a question that gets no answer."""

from __future__ import annotations

from .errors import OffloopError


class AskError(OffloopError, RuntimeError):
    """A question that fn asked by `ask` got no answer.

    Args:
        why: Why not.
        fix: What to do about it.
    """

    code = "ask"
    _what = "a question of fn got no answer"
    _cause = "{why}"
    _fix = "{fix}"

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why, fix)
        self.why = why
        self.fix = fix
