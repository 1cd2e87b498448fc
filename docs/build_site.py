"""Build the documentation as a site: ``python docs/build_site.py FOLDER``, with the extra ``docs``.

The pages are those of this folder, as they stand in the repository, and each example and the changes as a page of their own.
A warning, a page that the navigation doesn't have, or anything that a browser would load from elsewhere, is an error.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SHOWN = {".md", ".svg", ".css", ".png"}
NAMES = {
    "Sessions": ("ParallelSession", "Stream", "Results", "SyncSession", "SyncStream", "SyncResults"),
    "With the process-wide session": ("run", "run_parallel", "run_batches", "run_branches", "close_default_session"),
    "Without an event loop": (
        *("run_sync", "run_parallel_sync", "run_batches_sync", "run_branches_sync", "close_default_session_sync"),
    ),
    "What to call": ("call", "star", "units"),
    "Inside fn": ("ask", "checkpoint", "is_cancelled", "shield", "in_worker", "worker_state", "report_progress"),
    "What is told": ("add_sink", "use_default_sink", "Event", "ProgressEvent", "ProgressStream"),
    "Values": ("CallOptions", "Decision", "SessionStatistics", "SettingSource"),
}
EDGES = ("adapters.starlette", "adapters.futures", "adapters.joblib", "adapters.optuna", "sinks.prometheus", "sinks.opentelemetry", "testing")
TOLD_ELSEWHERE = {"ParallelConfig", "Reason", "Strategy"}  # their tables say more
# A link to a file, or code, in which nothing is a link.
LINK = re.compile(
    r"(?<!!)\[([^]\n]*(?:\n[^]\n]*)?)\]\(([^)#:\s]+)(#[^)\s]+)?\)|^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE
)
HIDDEN = re.compile(r"^<!-- .*?-->\n\n?", re.DOTALL | re.MULTILINE)
# What a browser asks for by itself: files of a tag that is no link, and those of styles.
LOADED = re.compile(r"""<(?!a\b)\w+\b[^>]*?\s(?:src|href|srcset|poster|data)=["']?((?:https?:)?//[^"'\s>]+)""")
LOADED_BY_STYLE = re.compile(r"""(?:@import\s+|url\()["']?((?:https?:)?//[^"')\s]+)""")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
CANONICAL = re.compile(r"""<link[^>]*\brel=["']?canonical\b[^>]*>""")


def main(target: Path) -> int:
    """Build the site into a folder, and return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        stage(project / "docs")
        shutil.copy(DOCS / "zensical.toml", project)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, cwd=project, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            print(COLOUR.sub("", done.stdout).partition("Traceback")[0], file=sys.stderr)
            return done.returncode
        shutil.copytree(project / "site", target, dirs_exist_ok=True)
    wrong = [*loaded_from_elsewhere(target), *links_to_nowhere(target)]
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


def stage(folder: Path) -> None:
    """Lay out the pages of the site, with links between them."""
    pages = {path.relative_to(DOCS): path for path in sorted(DOCS.rglob("*")) if path.suffix in SHOWN}
    for name, path in pages.items():
        write(folder / name, linked(HIDDEN.sub("", path.read_text(encoding="utf-8")), path) if path.suffix == ".md" else path.read_bytes())
    for path in (ROOT / "examples").glob("*.py"):
        write(folder / "examples" / f"{path.stem}.md", example_page(path))
    write(folder / "reference" / "names.md", names_page())
    write(folder / "reference" / "names-of-edges.md", edges_page())
    changes = ROOT / "CHANGELOG.md"
    write(folder / "changes.md", linked(changes.read_text(encoding="utf-8"), changes))


def write(path: Path, text: str | bytes) -> None:
    """Write a file, in a folder that may not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def linked(text: str, path: Path) -> str:
    """Return a page whose links lead to pages of the site; what leads to a file that is no page becomes plain text."""

    def replaced(link: re.Match[str]) -> str:
        words, target, anchor = link.groups()
        if target is None:
            return link[0]
        aim = place_of((path.parent / target).resolve())
        if aim is None:
            return words
        return f"[{words}]({os.path.relpath(aim, (place_of(path) or DOCS).parent)}{anchor or ''})"

    return LINK.sub(replaced, text)


def place_of(path: Path) -> Path | None:
    """Return where the page of a file of the repository would be if all pages were in docs, or None if it has none."""
    if path.parent == ROOT / "examples" and path.suffix == ".py":
        return DOCS / "examples" / f"{path.stem}.md"
    if path in (ROOT / "CHANGELOG.md", ROOT / "README.md"):
        return DOCS / ("changes.md" if path.stem == "CHANGELOG" else "index.md")
    return path if path.is_relative_to(DOCS) and path.suffix in SHOWN else None


def example_page(path: Path) -> str:
    """Return the page of an example: what its docstring says, then its code."""
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    said = (ast.get_docstring(module) or "").replace("``", "`")
    code = "\n".join(source.splitlines()[module.body[0].end_lineno or 0 :]).strip()
    return f"# {path.name}\n\n{said}\n\n```python\n{code}\n```\n"


def names_page() -> str:
    """Return the page of all that users import, which the site fills with signatures and docstrings."""
    exported = exports("")
    told = TOLD_ELSEWHERE.union(*NAMES.values())
    groups = {**NAMES, "Errors": [name for name in exported if name not in told]}
    parts = [f"## {title}\n" + "".join(map(entry, names)) for title, names in groups.items()]
    return "\n".join(["# Names\n\nWhat `offloop` exports, with its docstrings; [API](api.md) says which to take.\n", *parts])


def entry(name: str) -> str:
    """Return what the page has of a name; what stands for a method of a session has no docstring that the site could find."""
    module = ast.parse((ROOT / "src" / "offloop" / "sync.py").read_text(encoding="utf-8")).body
    (session,) = (node for node in module if isinstance(node, ast.ClassDef))
    if method := stand_ins(module).get(name):
        told = f"Does what [`{method}`](#offloop.{method}) does, on the process-wide session, and blocks."
        return f"\n### `{name}` {{#offloop.{name}}}\n\n{told}\n"
    filled = f"\n::: offloop.{name}\n"
    if name == session.name:
        methods = (f"[`{own}`](#offloop.{method})" for own, method in stand_ins(session.body).items())
        return f"{filled}\nMethods that block, and do what their namesakes do: {', '.join(methods)}.\n"
    if name in NAMES["With the process-wide session"]:  # its signature is that of the method that its docstring names
        return f"{filled}    options:\n      show_signature: false\n"
    return filled


def stand_ins(body: list[ast.stmt]) -> dict[str, str]:
    """Return the names of what blocks in place of a method of a session, each with that method."""
    made = [(node.target, node.value) for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Call)]
    return {ast.unparse(target): ast.unparse(value.args[0]) for target, value in made}


def edges_page() -> str:
    """Return the like page of adapters, sinks and the test kit."""
    parts = [
        f"## offloop.{module}\n" + "".join(f"\n::: offloop.{module}.{name}\n" for name in exports(module)) for module in EDGES
    ]
    return "\n".join(["# Names of adapters, sinks and the test kit\n\nEach is imported from the module above it.\n", *parts])


def exports(module: str) -> tuple[str, ...]:
    """Return what a module of ours exports: what it says, else all that has no underscore."""
    path = ROOT.joinpath("src", "offloop", *module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return tuple(ast.literal_eval(node.value))
    return tuple(node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_")


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yield what a browser would request from another host."""
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            text = CANONICAL.sub("", path.read_text(encoding="utf-8"))
            for address in [*LOADED.findall(text), *LOADED_BY_STYLE.findall(text)]:
                yield f"{path.relative_to(site)} loads {address}"


def links_to_nowhere(site: Path) -> Iterator[str]:
    """Yield each link to a file that isn't there, or to a place that the file doesn't have."""
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    names = {path: set(re.findall(r"""\bid=["']?([^"'\s>]+)""", text)) for path, text in texts.items()}
    for path, text in texts.items():
        if path.name == "404.html":
            continue
        for target, _, anchor in re.findall(r"""<a\b[^>]*\shref=["']?([^"'#\s>:]*)(#([^"'\s>]+))?["'\s>]""", text):
            aim = (path.parent / target).resolve() if target else path
            aim = aim / "index.html" if aim.is_dir() else aim
            if not aim.exists() or (anchor and aim in names and anchor not in names[aim]):
                yield f"{path.relative_to(site.resolve())} links to {target}{'#' + anchor if anchor else ''}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
