"""docs/generate_reference.py: the reference pages are what it makes of the classes as they are."""

from __future__ import annotations

import argparse
import importlib
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

import scripts
from offloop import cli, errors, events
from offloop.events import Event
from offloop.explaining import Explained
from offloop.model import Reason, Strategy
from offloop.options import BATCH_OPTIONS, RUN_OPTIONS, STREAM_OPTIONS
from offloop.progress import ProgressEvent
from offloop.sensing.environment import NO_SETTINGS, VARIABLES
from offloop.settings import ParallelConfig
from offloop.sinks import prometheus

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KINDS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event]

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]


SCRIPT = scripts.imported(ROOT / "docs" / "generate_reference.py")
PAGES: dict[str, str] = SCRIPT.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    """A page in docs/reference is what the script makes today; `python docs/generate_reference.py` mends it."""
    assert (SCRIPT.REFERENCE / name).read_text(encoding="utf-8") == PAGES[name]


def test_the_script_writes_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a program it writes every page that it makes."""
    monkeypatch.setattr(SCRIPT, "REFERENCE", tmp_path)
    SCRIPT.main()
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == PAGES


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("environment.md", list(VARIABLES)),
        ("reasons.md", [*Strategy, *Reason]),
        ("settings.md", [*ParallelConfig.__dataclass_fields__, *RUN_OPTIONS, *STREAM_OPTIONS, *BATCH_OPTIONS]),
        ("events.md", [name for kind in KINDS for name in kind.__dataclass_fields__ if name not in ("event", "level")]),
        ("events.md", list(ProgressEvent.__dataclass_fields__)),
        ("metrics.md", [metric.name for metric in prometheus.describe()]),
    ],
)
def test_a_page_has_a_row_for_every_name(page: str, names: list[str]) -> None:
    """No variable, strategy, reason, setting, option or field is missing, and each row says what it means."""
    rows = {row[0].strip("`"): row for row in rows_of(PAGES[page])}
    assert set(names) <= rows.keys()
    assert [row for row in rows.values() if len(row[-1]) < 4] == []


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of every row of the tables of a page."""
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in page.splitlines() if line.startswith("| `")]


def test_every_event_has_its_section() -> None:
    """Every event stands on its page under its name, with its level."""
    sections = re.findall(r"^## (\S+): (\w+)\n\nLevel (\w+)\.", PAGES["events.md"], re.MULTILINE)
    levels = {20: "info", 30: "warning"}
    assert sections == [(kind.event, kind.__name__, levels[kind.level]) for kind in KINDS]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_section(kind: type[Explained]) -> None:
    """Every error stands on its page under its code, with each field, and what it says, or what is raised in its place."""
    assert f"[`{kind.code}`](#{kind.code}) | `{kind.__name__}` |" in PAGES["errors.md"]
    section = PAGES["errors.md"].partition(f"\n## {kind.code}\n")[2].partition("\n## ")[0]
    assert section.startswith(f"\n`{kind.__name__}`, a kind of ")
    told = [f"```text\n{kind.__module__}.{kind.__name__}: ", f"[{kind.code}]\n"]
    if kind.__name__ in ("OffloopError", "UnpicklableError", "WorkerError"):
        told = [f"[`{under.__name__}`](#{under.code})" for under in kind.__subclasses__() if under.__module__ == kind.__module__]
    assert [text for text in told if text not in section] == []
    sample = next((sample for sample in SCRIPT.SAMPLES if type(sample) is kind), None)
    assert set(vars(sample) if sample else ()) <= {row[0].strip("`") for row in rows_of(section)}


def test_every_command_has_its_section() -> None:
    """Every command stands on its page with all that it takes, as `--help` has it."""
    page = PAGES["command-line.md"]
    assert re.findall(r"^## offloop (\w+)$", page, re.MULTILINE) == list(cli._COMMANDS)
    for name, command in cli._COMMANDS.items():
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(command.module).add_arguments(parser)
        section = page.partition(f"\n## offloop {name}\n")[2].partition("\n## ")[0]
        told = " ".join(row[0] for row in rows_of(section))
        assert [option for action in parser._actions for option in action.option_strings if option not in told] == []
        assert "%(" not in section


def test_docstrings_are_read_as_they_are_written() -> None:
    """Continued lines belong to their attribute, code stays code, and what follows the section is not read."""

    @dataclass
    class Example:
        """A summary
        of two lines.

        More.

        Attributes:
            first: One
                and a half.
            second: Uses ``a | b``: really.

        Raises:
            third: Never.
        """

        first: int
        second: int

    assert SCRIPT.attributes(Example) == {"first": "One and a half.", "second": "Uses `a \\| b`: really."}
    assert SCRIPT.summary(Example) == "A summary of two lines."


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_what_exists(path: Path) -> None:
    """A page names no variable and no event that there isn't."""
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\bOFFLOOP_[A-Z_]*[A-Z]\b", text)) <= VARIABLES.keys() | set(NO_SETTINGS)
    assert set(re.findall(r"`((?:parallel|worker|item)\.\w+)`", text)) <= {kind.event for kind in KINDS}
