"""cli/target.py: names on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offloop.cli.target import items_of, load
from offloop.cli.usage import UsageError, UserCodeError, print_failure

MODULE = """
import types
def score(x): return x
def made(): return [4, 5]
def lazily(): yield from range(3)
def needy(x): return [x]
def failing(): raise KeyError("no data")
async def later(): return [1]
async def one_by_one(): yield 1
def endless():
    while True: yield 1
class Model:
    def predict(self, x): return x
model = Model()
items = (1, 2, 3)
word = "abc"
nothing = None
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand in a folder with modules of a user."""
    (tmp_path / "wanted.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_package")
    (tmp_path / "script.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("wanted", "broken", "script"):
        sys.modules.pop(name, None)


def test_function_and_items_are_found_in_the_current_folder() -> None:
    """Names lead to a function, with dots to a method, and to items as a list."""
    fn, items = load("wanted:score", "wanted:items")
    assert (fn(7), items) == (7, [1, 2, 3])
    assert load("wanted:model.predict", "wanted:items")[0](8) == 8


@pytest.mark.parametrize(("name", "items"), [("made", [4, 5]), ("lazily", [0, 1, 2]), ("items", [1, 2, 3])])
def test_items_may_be_made_by_a_function(name: str, items: list[int]) -> None:
    """Functions and generator functions of items are called."""
    assert items_of(f"wanted:{name}") == items


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("wanted", "'wanted' names nothing in a module", "write module:name, as in wanted:fn"),
        ("wanted.score", "'wanted.score' names nothing in a module", "write module:name, as in wanted:score"),
        ("wanted.py:score", "'wanted.py' is no name of a module", "write wanted:score in the folder that it is imported from"),
        ("src/wanted:score", "'src/wanted' is no name of a module", "write wanted:score in the folder that it is imported from"),
        ("__main__:score", "'__main__' is no name of a module", "write mymodule:score in the folder that it is imported from"),
        ("nowhere:score", "there is no module 'nowhere'", "go to the folder that it is in, or name that in PYTHONPATH"),
        ("wanted:scor", "wanted has no 'scor'", "write wanted:score"),
        ("wanted:model.predct", "wanted:model has no 'predct'", "write wanted:model.predict"),
        ("wanted:nothing", "wanted:nothing is None, and no function", "name a function of one item, as in mymodule:fn"),
        ("script:fn", "importing script ends the program", 'put what a script does below if __name__ == "__main__":'),
    ],
)
def test_a_wrong_name_is_told_with_what_to_write(name: str, what: str, fix: str) -> None:
    """Every wrong name of a function has a cause and a fix."""
    with pytest.raises(UsageError) as raised:
        load(name, "wanted:items")
    assert (raised.value.what, raised.value.fix) == (what, fix)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("later", "wanted:later is async"),
        ("one_by_one", "wanted:one_by_one is async"),
        ("needy", "wanted:needy takes arguments"),
        ("word", "wanted:word is a str, and no items"),
        ("nothing", "wanted:nothing is None, and no items"),
        ("endless", "wanted:endless has more than 1,000,000 items, if it ends at all"),
    ],
)
def test_what_are_no_items_is_told(name: str, what: str) -> None:
    """What can't be a list of items is refused, an endless generator included."""
    with pytest.raises(UsageError) as raised:
        items_of(f"wanted:{name}")
    assert raised.value.what == what


@pytest.mark.parametrize(("name", "kind", "where"), [
    ("broken:fn", ModuleNotFoundError, "importing broken"),
    ("wanted:failing", KeyError, "making the items of wanted:failing"),
])  # fmt: skip
def test_errors_of_the_users_code_are_told_from_wrong_names(name: str, kind: type[Exception], where: str) -> None:
    """What the user's code raises as it is imported or called is the cause, and never called a wrong name."""
    with pytest.raises(UserCodeError) as raised:
        items_of(name)
    assert (str(raised.value), type(raised.value.__cause__)) == (where, kind)


@pytest.mark.parametrize("text", ["import no_such_package", "def fn(:"])
def test_what_fails_at_import_is_told_by_the_users_own_lines(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of a module is shown with its line, and without the machinery that imports it."""
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(UserCodeError) as raised:
        load("broken:fn", "wanted:items")
    print_failure(raised.value)
    told = capsys.readouterr().err
    assert "broken.py" in told
    assert "importlib" not in told
