"""A page's code, and a program that executes all of it in one process: ``python pages.py PAGE``, in an empty folder.

First, in the order of the page, what stands for itself: a block with a title is a file, beside everything that comes after it, and
a program, or tests if it is called so; one that starts an event loop, or asks for ``__main__``, is a program; ``sh`` is what a
terminal would be given, as are the lines of a ``console`` after ``$``. Lines that begin with ``pip install`` are left out as a whole:
a fresh environment is for CI's own script. Then the other blocks of Python, the fragments: one after the other within an event
loop, with the names ``anyio``, ``offloop`` and ``session`` and those of the fragments before.

What a fragment needs and its reader doesn't stands before or after it as a comment, which is a block that nobody sees
(``<!-- python``, code, ``-->``). What cannot run has a comment before it that says why: ``<!-- not run: it needs a GPU -->``.
"""

from __future__ import annotations

import ast
import inspect
import logging
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NamedTuple

_BLOCK = re.compile(
    r"""^(?:<!--\ not\ run:\ (?P<why>.+?)\ -->\n\s*)?
    (?:```(?P<language>\w+)(?:\ title="(?P<title>[\w.]+)")?\n(?P<code>.*?)^```$
    |<!--\ python(?:\ title="(?P<hidden_title>[\w.]+)")?\n(?P<hidden>.*?)^-->$)""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
_PROGRAM = re.compile(r"\banyio\.run\(|\basyncio\.run\(|^if __name__ == ", re.MULTILINE)
_INSTALLING = re.compile(r"^(?:python -m )?pip install ")
_SHELL = 'offloop() { python -m offloop "$@"; }\n'


class Block(NamedTuple):
    """A piece of code on a page.

    Attributes:
        line: Where its code begins, from 0.
        language: What the fence says.
        title: The file that it is, or "".
        code: Its text.
        why: Why it cannot run, or None.
    """

    line: int
    language: str
    title: str
    code: str
    why: str | None

    @property
    def is_fragment(self) -> bool:
        """Whether it is Python that does not stand for itself."""
        return self.language == "python" and not self.title and not _PROGRAM.search(self.code)

    @property
    def is_executed(self) -> bool:
        """Whether it is for an interpreter or a terminal, and nothing keeps it from running."""
        return self.language in ("python", "sh", "console") and self.why is None

    @property
    def in_place(self) -> str:
        """Its text, with line numbers as on the page."""
        return "\n" * self.line + self.code


def blocks_of(text: str) -> Iterator[Block]:
    """Yield all blocks of a page."""
    for found in _BLOCK.finditer(text):
        which = "code" if found["code"] is not None else "hidden"
        title = found["title"] or found["hidden_title"] or ""
        yield Block(text.count("\n", 0, found.start(which)), found["language"] or "python", title, found[which], found["why"])


def run_alone(block: Block, name: str, commands: str) -> None:
    """Run a program, a file, tests or commands; a failure is an exception.

    Args:
        block: What to run.
        name: What the file of a program is called.
        commands: Those that follow; tests that these run are not run before.
    """
    if block.language != "python":
        _run_commands(block)
        return
    file = Path(block.title or f"{name}.py")
    file.write_text(block.in_place, encoding="utf-8")
    sys.modules.pop(file.stem, None)  # an earlier file of this name
    if not file.stem.startswith("test_"):
        runpy.run_path(str(file), run_name="__main__")
        _forget()
    elif file.name not in commands:
        _check(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file))


def _run_commands(block: Block) -> None:
    lines = block.code.splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    lines = [line for line in lines if not _INSTALLING.match(line)]  # installing is not for a test
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    _check("bash", "-euo", "pipefail", "-c", _SHELL + "\n".join(lines), env={**os.environ, "PATH": path})


def _check(*command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{command[-1]}\nended with {done.returncode}:\n{done.stdout}")


def _forget() -> None:
    """Have the next program find what it would in an interpreter of its own."""
    import structlog

    import offloop

    offloop.close_default_session_sync()
    offloop.use_default_sink(True)
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def run_fragments(fragments: list[Block], page: str) -> None:
    """Run what does not stand for itself, in one namespace; what awaits nothing runs outside of the event loop."""
    import anyio
    from anyio.from_thread import start_blocking_portal

    import offloop

    main = sys.modules["__main__"] = ModuleType("__main__")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(offloop.ParallelSession(workers=1)) as session:
        vars(main).update(anyio=anyio, offloop=offloop, session=session)
        for block in fragments:
            code = compile(block.in_place, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            fragment = FunctionType(code, vars(main))
            portal.call(fragment) if code.co_flags & inspect.CO_COROUTINE else fragment()


def main(page: Path) -> None:
    """Run all that a page has."""
    blocks = [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.is_executed]
    sys.path[0] = os.getcwd()  # where its files are
    for number, block in enumerate(blocks, 1):
        if not block.is_fragment:
            commands = "".join(later.code for later in blocks[number:] if later.language != "python")
            run_alone(block, f"{page.stem.replace('-', '_')}_{number}", commands)
    if fragments := [block for block in blocks if block.is_fragment]:
        run_fragments(fragments, str(page))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
