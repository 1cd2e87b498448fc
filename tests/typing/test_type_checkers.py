"""The types that users see, as mypy and pyright read them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from completeness import gaps

FOLDER = Path(__file__).parent
CHECKED = sorted(path.name for path in FOLDER.glob("*.py") if path.name != Path(__file__).name)

# The first use of pyright may have to unpack node.
pytestmark = pytest.mark.timeout(300, method="thread")


def run_tool(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of this environment on the folder of typed files."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def errors_outside_of_the_library(output: str) -> list[str]:
    """Return the error lines about the checked files themselves."""
    return [line for line in output.splitlines() if ": error:" in line and "src/offloop" not in line]


def pyright_errors(report: dict[str, Any]) -> list[str]:
    """Return pyright's diagnostics as one line each."""
    return [
        f"{Path(found['file']).name}:{found['range']['start']['line'] + 1}: {found['message']}"
        for found in report["generalDiagnostics"]
    ]


def test_mypy_agrees() -> None:
    """mypy --strict reads every type as asserted, and every mistake is still one."""
    done = run_tool("mypy", "--strict", "--python-version=3.11", "--config-file=", *CHECKED)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert errors_outside_of_the_library(done.stdout) == []


def test_mypy_finds_a_wrong_assertion(tmp_path: Path) -> None:
    """The check by mypy can fail: a wrong assertion in the same place is found."""
    wrong = tmp_path / "wrong.py"
    text = (FOLDER / "results.py").read_text(encoding="utf-8")
    wrong.write_text(text.replace("list[float | Exception])", "list[float])"), encoding="utf-8")
    done = run_tool("mypy", "--strict", "--python-version=3.11", "--config-file=", str(wrong))
    assert len(errors_outside_of_the_library(done.stdout)) == text.count("list[float | Exception])")


def test_pyright_agrees() -> None:
    """Pyright in strict mode reads every type as asserted, and every mistake is still one."""
    done = run_tool("pyright", "-p", str(FOLDER), "--outputjson")
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > len(CHECKED)
    assert pyright_errors(report) == []


def test_the_public_api_has_types_throughout() -> None:
    """Every name of the public API, members included, has a type that all checkers read the same way."""
    done = run_tool("pyright", "--verifytypes", "offloop", "--ignoreexternal", "--outputjson")
    report = json.loads(done.stdout)
    assert len(report["typeCompleteness"]["symbols"]) > 100
    assert gaps(report) == []
