"""The pytest plugin, in a test run of somebody else's."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

import scripts
from offloop import testing

ROOT = Path(__file__).parents[2]

APP = """
import offloop

def total(basket):
    basket.sort()
    return sum(basket)

def price(item):
    return 2 * item

async def prices(items):
    return await offloop.run_parallel(price, items)

async def totals(baskets):
    return await offloop.run_parallel(total, baskets)
"""

TESTS = """
import asyncio
import os

import offloop
import pytest

import app
from offloop.testing import Crash, MutatedArgument, assert_decided


@pytest.fixture
def offloop_settings():
    return {"cores": 3, "max_pending": 5}


def test_sync(offloop_session):
    assert offloop_session.config.max_pending == 5
    assert offloop.run_sync(os.getpid) == os.getpid()


async def plain_check(session, faults, events):
    faults({1: Crash()})
    assert await app.prices([1, 2, 3]) == [2, 4, 6]
    assert_decided(session, fn=app.price, workers=3)
    assert [event.event for event in events].count("worker.crashed") == 1
    with pytest.raises(MutatedArgument, match="basket|items"):
        await app.totals([[2, 1]])


def test_own_loop(offloop_session, offloop_faults, offloop_events):
    asyncio.run(plain_check(offloop_session, offloop_faults, offloop_events))


@pytest.mark.anyio
async def test_anyio(anyio_backend, offloop_session, offloop_faults, offloop_events):
    await plain_check(offloop_session, offloop_faults, offloop_events)


def test_without_a_fixture():
    from offloop import default
    assert default._session is None
"""


def test_the_fixtures_are_there(tmp_path: Path) -> None:
    """A project that has offloop installed has its fixtures, in sync tests and in async ones of the anyio plugin."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "test_app.py").write_text(TESTS)
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:offloop", "-p", "offloop.testing.plugin")
    done = scripts.run(None, "-m", "pytest", *options, "test_app.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_the_plugin_is_declared() -> None:
    """The package names the plugin where pytest looks for plugins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"offloop": "offloop.testing.plugin"}


def test_the_plugin_is_light(tmp_path: Path) -> None:
    """To load the plugin, as every run of pytest does, imports nothing of what sessions need."""
    code = "import sys, offloop.testing.plugin; print([m for m in ('anyio', 'loky', 'numpy', 'offloop.session') if m in sys.modules])"
    done = scripts.run(None, "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "[]", (done.stderr, sys.path)


def test_every_name_is_there() -> None:
    """What the package says that it exports can be imported, and nothing else."""
    assert list(testing.__all__) == sorted(testing.__all__)
    assert {name for name in dir(testing) if not name.startswith("_")} == set(testing.__all__)
    assert all(getattr(testing, name).__doc__ for name in testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Krash'"):
        testing.Krash  # noqa: B018
