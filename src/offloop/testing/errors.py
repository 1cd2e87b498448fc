"""The errors of the test kit, which fail a test."""

from __future__ import annotations

from ..explaining import Explained


class MutatedArgument(Explained, AssertionError):
    """fn has changed what it was given.

    Args:
        subject: What has changed, for example ``items[3]`` or ``argument 'page'``.
        index: Index of the item; 0 for a single call.
        function: The function's name.
    """

    code = "mutated-argument"
    _what = "fn has changed {subject}"
    _where = "items[{index}]"
    _fn = "{function}"
    _cause = "in a worker it changes a copy that is dropped, in this process the caller's own object"
    _fix = "have fn change a copy, and return it; or allow it by may_mutate=True"

    def __init__(self, subject: str, index: int, function: str) -> None:
        super().__init__(subject, index, function)
        self.subject = subject
        self.index = index
        self.function = function


class MisplacedFault(Explained, AssertionError):
    """A fault was injected where it can't happen.

    Args:
        fault: The fault.
        index: Index of the item; 0 for a single call.
        function: The function's name.
        why: Why it can't.
    """

    code = "misplaced-fault"
    _what = "{fault} can't happen here"
    _where = "items[{index}]"
    _fn = "{function}"
    _cause = "{why}"

    def __init__(self, fault: str, index: int, function: str, why: str) -> None:
        super().__init__(fault, index, function, why)
        self.fault = fault
        self.index = index
        self.function = function
        self.why = why
