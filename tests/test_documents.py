"""README and docs: every program in them runs, and every link leads somewhere.

A block with a title is a file, which stands beside all programs that come after it on its page; tests among them run by pytest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import scripts

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the title and the code of each block of a page, and the files that stand beside it."""
    files: dict[str, str] = {}
    for title, code in re.findall(r'^```python(?: title="([\w.]+)")?\n(.*?)^```$', path.read_text(), re.S | re.M):
        yield title, code, dict(files)
        if title:
            files[title] = code


BLOCKS = [
    pytest.param(*block, id=f"{path.relative_to(ROOT)}:{number}")
    for path in DOCUMENTS
    for number, block in enumerate(blocks_of(path), 1)
]


@pytest.mark.parametrize(("title", "code", "files"), BLOCKS)
def test_a_code_block_is_right(title: str, code: str, files: dict[str, str], tmp_path: Path) -> None:
    """A whole program ends well and says nothing on standard error, a test passes; a fragment is valid Python."""
    if not title and "anyio.run(" not in code:
        compile(code, "<fragment>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if title.startswith("test_"):
        (tmp_path / title).write_text(code)
        done = scripts.run(None, "-m", "pytest", "-q", "-p", "no:cacheprovider", title, cwd=tmp_path)
    else:
        done = scripts.run(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
