"""README and docs: every program in them runs, and every link leads somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import scripts

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{path.relative_to(ROOT)}:{number}")
    for path in DOCUMENTS
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.S | re.M), 1)
]


@pytest.mark.parametrize("code", BLOCKS)
def test_a_code_block_is_right(code: str, tmp_path: Path) -> None:
    """A whole program ends well and says nothing on standard error; a fragment is valid Python."""
    if "anyio.run(" not in code:
        compile(code, "<fragment>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return
    done = scripts.run(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
