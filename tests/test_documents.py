"""README and docs: all code in them runs, and every link leads somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pages
import scripts
from test_architecture import ROOMS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
BLOCKS = {path: list(pages.blocks_of(path.read_text(encoding="utf-8"))) for path in DOCUMENTS}
LANGUAGES = {"python", "sh", "console", "text", "yaml", "nginx", "toml", "json"}  # the first three are executed
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
MAX_NOT_RUN = 10  # blocks; each of them costs the others some of what this test is worth


def name_of(path: Path) -> str:
    """Return what a page is called among the tests."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [path for path, blocks in BLOCKS.items() if any(block.is_executed for block in blocks)], ids=name_of
)
def test_the_code_of_a_page_runs(path: Path, tmp_path: Path) -> None:
    """Programs end well, tests pass, commands succeed, fragments run, and nothing is said on standard error."""
    done = scripts.run(None, str(Path(pages.__file__)), str(path), cwd=tmp_path, timeout_s=100)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


WRONG = {
    "a program": "```python\nimport anyio\nanyio.run(None)\n```\n",
    "a fragment": "```python\nawait session.run(len, [])\nmissing\n```\n",
    "a fragment by what nobody sees": "```python\nfound = len([])\n```\n\n<!-- python\nassert found\n-->\n",
    "a test": '```python title="test_it.py"\ndef test_it():\n    assert False\n```\n',
    "a command": '```python title="tool.py"\nVALUE = 1\n```\n\n```sh\npython -c "import tool; assert tool.VALUE == 2"\n```\n',
    "a word on standard error": "```python\nimport sys\nprint('!', file=sys.stderr)\n```\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_seen(text: str, tmp_path: Path) -> None:
    """Code that fails, or says something on standard error, fails its page."""
    (tmp_path / "page.md").write_text(text)
    done = scripts.run(None, str(Path(pages.__file__)), str(tmp_path / "page.md"), cwd=tmp_path)
    assert (done.returncode, done.stderr) != (0, "")


def test_what_is_right_passes(tmp_path: Path) -> None:
    """Files stand beside what follows them, comments and fragments share their names, and what is marked doesn't run."""
    (tmp_path / "page.md").write_text(RIGHT)
    done = scripts.run(None, str(Path(pages.__file__)), str(tmp_path / "page.md"), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


RIGHT = """
<!-- python
from tool import double
-->

```python
async with anyio.create_task_group():
    found = await session.run(double, 2)
```

<!-- python
assert found == 4
-->

```python title="tool.py"
def double(n):
    return 2 * n
```

```sh
python -c "import tool; assert tool.double(1) == 2"
pip install nothing-that-exists
```

<!-- not run: it would fail -->

```python
missing
```
"""


def test_every_block_is_known() -> None:
    """A block is in a language that is executed, or in one that can't be; none is written so that it is overlooked."""
    assert {block.language for blocks in BLOCKS.values() for block in blocks} <= LANGUAGES
    for path, blocks in BLOCKS.items():
        text = path.read_text(encoding="utf-8")
        fences, hidden = (len(re.findall(begin, text, re.MULTILINE)) for begin in (r"^\s*(?:```|~~~)", "^<!-- python"))
        assert fences / 2 + hidden == len(blocks), name_of(path)


def test_few_blocks_are_left_out() -> None:
    """What doesn't run says why, and most of it does run."""
    reasons = [block.why for blocks in BLOCKS.values() for block in blocks if block.why is not None]
    assert len(reasons) <= MAX_NOT_RUN, reasons
    assert [why for why in reasons if len(why) < 10] == []
    spelt = sum(prose_of(path).count("<!-- not run:") for path in DOCUMENTS)
    assert spelt == len(reasons), "a mark stands right before its block, or it has no effect"


def test_the_site_begins_as_readme_does() -> None:
    """The start page has README's first program, so that one of them need not run."""
    assert BLOCKS[DOCS / "index.md"][0].code == BLOCKS[ROOT / "README.md"][0].code


def links_of(path: Path) -> list[tuple[str, str]]:
    """Return where the relative links of a page lead: a path, and a heading or ""."""
    return [(target, anchor) for target, _, anchor in re.findall(r"\]\(([^)#:\s]*)(#([^)\s]+))?\)", prose_of(path))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link names a file that exists, and a heading that it has."""
    for target, anchor in links_of(path):
        aim = (path.parent / target) if target else path
        assert aim.exists(), target
        assert not anchor or anchor in anchors_of(aim), f"{target}#{anchor}"


def test_every_page_can_be_reached() -> None:
    """Links lead from README to each page, also where there is no site."""
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        path = ahead.pop().resolve()
        if path.suffix == ".md" and path not in reached:
            reached.add(path)
            ahead += [path.parent / target for target, _ in links_of(path) if target]
    assert [name_of(path) for path in DOCUMENTS if path.resolve() not in reached] == []


def prose_of(path: Path) -> str:
    """Return a page without its code."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors_of(path: Path) -> set[str]:
    """Return the names under which the headings of a page can be linked to."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return set(map(anchor_of, headings))


def anchor_of(heading: str) -> str:
    """Return the name under which a heading can be linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_every_page_is_in_the_navigation(tmp_path: Path) -> None:
    """The site leads to each of its pages once; they have links to one another alone, and nothing of what is hidden."""
    scripts.imported(DOCS / "build_site.py").stage(tmp_path)
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*.md")}
    configured = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(paths_of(configured["nav"])) == sorted(found)
    for name, path in found.items():
        assert [target for target, _ in links_of(path) if target and not (path.parent / target).is_file()] == [], name
        assert "<!--" not in prose_of(path), name


@pytest.mark.parametrize(
    ("text", "on_the_site"),
    [
        ("[it](../examples/decisions.py)", "[it](examples/decisions.md)"),
        ("[what\nchanged](../CHANGELOG.md#old)", "[what\nchanged](changes.md#old)"),
        ("[`run`](how-to/cancel.md#clean-up)", "[`run`](how-to/cancel.md#clean-up)"),
        ("[settings](../pyproject.toml)", "settings"),
        ("[there](https://example.org/page)", "[there](https://example.org/page)"),
        ("`rows[i](x)` and [it](#below)", "`rows[i](x)` and [it](#below)"),
        ("```python\nhandlers[name](event)\n```", "```python\nhandlers[name](event)\n```"),
    ],
)
def test_links_become_those_of_the_site(text: str, on_the_site: str) -> None:
    """A link to a file that has a page leads there, one to another file becomes text; addresses and code stay."""
    assert scripts.imported(DOCS / "build_site.py").linked(text, DOCS / "index.md") == on_the_site


def paths_of(entry: Any) -> list[str]:
    """Return the paths of an entry of the navigation, and of those under it."""
    if isinstance(entry, str):
        return [entry]
    return [path for under in (entry.values() if isinstance(entry, dict) else entry) for path in paths_of(under)]


def test_the_architecture_page_has_every_room() -> None:
    """The page's table of floors is that of the tests: each room stands on its floor."""
    rows = re.findall(r"^\| (\d) \| ([^:|]+)", (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.strip(): int(floor) for floor, name in rows} == {name: room.floor for name, room in ROOMS.items()}


def test_the_performance_page_begins_with_its_own_figures() -> None:
    """Each figure of the table at the top stands in the section that its row leads to."""
    page = (DOCS / "explanation" / "performance.md").read_text(encoding="utf-8").partition("## ")[2]
    index, *sections = re.split("^## ", page, flags=re.MULTILINE)
    told = {anchor_of(text.partition("\n")[0]): NUMBER.findall(text) for text in sections}
    rows = re.findall(r"^\| \[.+\]\(#(.+?)\) \| (.+) \| .* \|$", index, re.MULTILINE)
    assert len(rows) > 20
    assert [figures for anchor, figures in rows if not set(NUMBER.findall(figures)) <= set(told[anchor])] == []
