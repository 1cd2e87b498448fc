"""How an examination is shown: on a screen, as JSON, as text to paste into a report of a bug."""

from __future__ import annotations

import getpass
import io
import json
import os
import platform
import re
import socket
import tempfile
from collections import Counter
from dataclasses import asdict
from typing import Any

from ..amounts import counted
from ..terminal import Style, Terminal
from .findings import Examination, Finding, Verdict

_STYLES = {Verdict.OK: Style.GOOD, Verdict.WARNING: Style.CAREFUL, Verdict.ERROR: Style.BAD}
_HOMES = re.compile(r"/(?:home|Users)/[^/\s'\"]+")


def show(examination: Examination, terminal: Terminal) -> None:
    """Print an examination: findings, settings, and how many are well."""
    terminal.say(f"offloop {examination.version} doctor", Style.STRONG)
    terminal.say()
    column = max((len(finding.check) for finding in examination.findings), default=0)
    for finding in examination.findings:
        _show_finding(finding, column, terminal)
    terminal.say()
    rows = [(setting.name, setting.value, setting.source.value) for setting in examination.settings]
    terminal.table(("setting", "value", "source"), rows)
    terminal.say()
    counts = Counter(finding.verdict for finding in examination.findings)
    told = {Verdict.OK: "well", Verdict.WARNING: "to look at", Verdict.ERROR: "wrong"}
    summary = ", ".join(f"{counts[verdict]} {word}" for verdict, word in told.items() if counts[verdict])
    terminal.say(f"{counted(len(examination.findings), 'finding')}: {summary}; {examination.wall_s:.1f} s")


def _show_finding(finding: Finding, column: int, terminal: Terminal) -> None:
    width = max(len(terminal.shown(verdict.mark)) for verdict in Verdict)
    mark = terminal.shown(finding.verdict.mark).ljust(width)
    start = width + 1 + column + 2
    lines = terminal.wrapped(finding.cause, start)
    head = f"{terminal.styled(mark, _STYLES[finding.verdict])} {terminal.shown(finding.check):{column}}  "
    for number, line in enumerate(lines):
        terminal.write((head if number == 0 else " " * start) + line)
    if finding.fix is not None:
        fix = f"fix: {finding.fix}"
        for line in [terminal.shown(fix)] if finding.is_command else terminal.wrapped(fix, start, hanging=5):
            terminal.write(" " * start + terminal.styled(line, Style.STRONG))


def as_json(examination: Examination) -> str:
    """Return an examination for programs."""
    content: dict[str, Any] = {
        "offloop": examination.version,
        "verdict": examination.verdict,
        "wall_s": examination.wall_s,
        "findings": [_plain(finding) for finding in examination.findings],
        "settings": [asdict(setting) for setting in examination.settings],
    }
    return json.dumps(content, indent=2, default=str)


def _plain(finding: Finding) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in ("check", "verdict", "cause", "fix", "is_command")} | {"figures": dict(finding.figures)}


def as_report(examination: Examination) -> str:
    """Return an examination as a fenced block for a report of a bug, without names of users and hosts."""
    page = io.StringIO()
    show(examination, Terminal(page, {}))
    versions = next((finding.figures.get("beside") for finding in examination.findings if finding.check == "packages"), None)
    if isinstance(versions, dict) and versions:
        page.write(f"beside it: {', '.join(f'{name} {version}' for name, version in versions.items())}\n")
    return f"```text\n{redacted(page.getvalue())}```"


def redacted(text: str) -> str:
    """Return text without the names of this user and this host, and without what is below home folders' names."""
    home = os.path.expanduser("~")  # as it is, for an id that has none, as in containers
    text = text.replace(home, "~") if len(home) > 1 else text
    folder = tempfile.gettempdir()
    text = text.replace(folder, "$TMPDIR") if folder.count("/") > 1 else text
    text = _HOMES.sub("~", text)
    for name, instead in ((_user(), "USER"), (socket.gethostname(), "HOST"), (platform.node(), "HOST")):
        if name and name not in ("root", "localhost"):
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", instead, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in containers
        return ""
