"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ... import SettingSource


class Verdict(StrEnum):
    """How well it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"

    @property
    def mark(self) -> str:
        """Its sign on a screen."""
        return {Verdict.OK: "✓", Verdict.WARNING: "!", Verdict.ERROR: "✗"}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check has found.

    Attributes:
        check: What was looked at.
        verdict: How well it is.
        cause: What it is like, in a line.
        fix: What to write or to do; None where nothing is to be done.
        is_command: Whether the fix is a line for a shell, which is copied as a whole.
        figures: What was counted or measured, by names that end in the unit.
    """

    check: str
    verdict: Verdict
    cause: str
    fix: str | None = None
    is_command: bool = False
    figures: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting as it holds.

    Attributes:
        name: Of `ParallelConfig`.
        value: As text; of functions their name, of arguments only how many there are.
        source: Where it comes from.
        variable: The variable that carries it; None where none can.
    """

    name: str
    value: str
    source: SettingSource
    variable: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All that the doctor has found.

    Attributes:
        version: Of offloop.
        findings: In the order of the checks.
        settings: All of them.
        wall_s: Seconds that it took.
        n_abandoned: Checks that did not end within their time, and are still at it.
    """

    version: str
    findings: tuple[Finding, ...]
    settings: tuple[Setting, ...]
    wall_s: float
    n_abandoned: int = 0

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings."""
        found = {finding.verdict for finding in self.findings}
        return next((verdict for verdict in (Verdict.ERROR, Verdict.WARNING) if verdict in found), Verdict.OK)
