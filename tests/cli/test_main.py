"""cli/__init__.py and __main__.py: the frame of the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import offloop
from offloop.cli import main
from scripts import run
from test_architecture import HEAVY


def test_help_is_light() -> None:
    """Help, of all commands and of each, imports none of offloop's dependencies, so that it is there at once."""
    calls = "main(['--help']); main(['doctor', '--help']); main(['explain', '--help']); main(['bench', '--help'])"
    code = f"import sys; from offloop.cli import main; {calls}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert {"doctor", "explain", "bench"} <= {line.split()[0] for line in lines if line.strip()}


def test_python_m_offloop_is_the_command(tmp_path: Path) -> None:
    """`python -m offloop` works, and tells its version."""
    done = run(None, "-m", "offloop", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"offloop {offloop.__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["doctor", "--wrong"], ["explain"]])
def test_wrong_arguments_have_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments are told with how to call it."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: offloop")


@pytest.mark.parametrize("name", ["doctor", "explain", "bench"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command tells what it does and what it takes."""
    assert main([name, "--help"]) == 0
    assert f"usage: offloop {name}" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (BrokenPipeError, 1), (OSError("full"), 1), (ImportError("anyio"), 1)])
def test_what_ends_a_command_has_a_status(
    error: type[BaseException] | BaseException, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, a reader that goes away, a full disk and a broken installation end a command with a status and no traceback."""

    def ended() -> None:
        raise error

    monkeypatch.setattr("offloop.cli.doctor.examining.examine", ended)
    monkeypatch.setattr("offloop.cli._forget_output", lambda: None)
    assert main(["doctor"]) == status


def test_ctrl_c_while_a_command_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a command without a traceback before it has begun, too."""

    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("offloop.cli.import_module", interrupted)
    assert main(["doctor"]) == 130


def test_closed_output_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose output was closed before it began does what it does."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["--version"]) == 0
    sys.stdout.close()
