"""The house plan: who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import offloop

PACKAGE = "offloop"
SOURCE = Path(offloop.__file__).parent
MAX_LINES = 400


class Room(NamedTuple):
    """Modules that keep house together.

    Attributes:
        floor: Imports point down floors.
        modules: Its modules, without the package's name; a name that ends in ``.*`` is a folder.
        beside: Rooms of its own floor that it may import from, besides itself.
        third_party: What it may import as it is imported itself.
    """

    floor: int
    modules: tuple[str, ...]
    beside: tuple[str, ...] = ()
    third_party: tuple[str, ...] = ()


ROOMS = {
    "vocabulary": Room(0, ("errors", "ask_error", "explaining", "endings", "model", "checks", "settings", "options", "progress", "events", "inner_threads", "forking")),
    "deciding": Room(1, ("deciding.*",)),
    "sensing": Room(2, ("sensing.*",)),
    "wire": Room(2, ("wire.*",)),
    "worker": Room(2, ("worker.*",), beside=("wire",)),
    "telling": Room(3, ("telemetry", "tracing", "initializing")),
    "lanes": Room(3, ("pool.*", "strategies.*"), beside=("telling",), third_party=("anyio",)),
    "orchestration": Room(
        4,
        (
            *("plans", "lifetime", "blocks", "batches", "combining", "alongside", "outbox", "stream_run", "streaming"),
            *("functions", "snapshots", "sources", "sharing", "outgoing", "encoding", "tally", "reporting", "changes", "queueing", "crew"),
            *("accounts", "porters", "results", "calling", "mapping", "records", "planning", "progressing", "backlog", "entrance", "admission", "steering", "call_steering", "map_steering", "portal", "branches", "branch_run", "maps", "session", "default", "blocking", "sync_waiting", "sync_streaming", "sync"),
        ),
        third_party=("anyio",),
    ),
    "front door": Room(5, ("",)),
    "test kit": Room(5, ("testing.*",), third_party=("anyio", "pytest")),  # stands in for lanes, so it knows what they are
    "edges": Room(5, ("adapters.*", "sinks.*", "cli.*", "bench.*", "__main__",), beside=("front door",), third_party=("anyio", "starlette", "joblib", "optuna", "prometheus_client", "opentelemetry")),
}

# Edges use what users have, and vocabulary; besides, one asks for the host and the environment before it makes a session, and
# tells what it finds.
ASKING = {
    ("adapters.starlette.sizing", target)
    for target in ("sensing.environment", "sensing.host", "sensing.system", "telemetry")
} | {("adapters.joblib.backend", "default"), ("adapters.joblib.on_loop", "telemetry"), ("adapters.optuna.optimizing", "default"), ("sinks.prometheus.gauges", "lifetime"), ("sinks.opentelemetry", "tracing")} | {
    ("cli.doctor.subject", "sensing.environment"), ("cli.doctor.subject", "sensing.host"), ("cli.doctor.subject", "sensing.system"),
    ("cli.doctor.machine", "sensing.host"), ("cli.doctor.machine", "sensing.memory"), ("cli.doctor.machine", "sensing.system"),
    ("cli.doctor.threads", "sensing.host"),
}

# A decision names the places of the status page, which are its vocabulary: plain numbers.
LOOKING_UP = {("deciding.recovery", "wire.status_page")}

# Methods of a session that lead out of it: each imports its edge as it is called, or for its type.
DOORS = {("session", "adapters.futures"), ("session", "adapters.joblib"), ("progressing", "sinks.progress")}

# What may be imported inside a function: what many programs never need, or a worker must not carry.
LAZY = {
    "cloudpickle",
    "ctypes",
    "hashlib",
    "loky",
    "matplotlib",
    "multiprocessing",
    "numpy",
    "opentelemetry",
    "psutil",
    "structlog",
    "tempfile",
    "threadpoolctl",
    "torch",
    "tqdm",
    "traceback",
}
LAZY_OF_OURS = {
    *(("cli.doctor.command", "cli.doctor.examining"), ("cli.explain", "cli.measuring"), ("bench.command", "bench.benching")),  # for light --help
    ("pool.worker", "worker.serve"),  # the worker's side, which this process only names
    ("testing.plugin", "testing.session"),  # pytest loads the plugin at every start, whoever uses it
}

# What would make a decision depend on more than its arguments.
IMPURE = {"anyio", "asyncio", "datetime", "logging", "os", "random", "socket", "subprocess", "threading", "time"}


class Import(NamedTuple):
    """One import statement's target: a module of ours without the package's name, or anybody's top-level one."""

    module: str
    target: str
    is_ours: bool
    is_lazy: bool
    is_for_types: bool


def module_files() -> dict[str, Path]:
    """Return every module's file by the module's name without the package's."""
    files: dict[str, Path] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


FILES = module_files()


def room_of(module: str) -> str | None:
    """Return the room that a module is in."""
    for name, room in ROOMS.items():
        for pattern in room.modules:
            folder = pattern.removesuffix(".*")
            if module == folder or (folder != pattern and module.startswith(f"{folder}.")):
                return name
    return None


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(
    body: list[ast.stmt], *, is_lazy: bool = False, is_for_types: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    """Yield all import statements, and whether each is in a function, or for type checkers only."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, is_lazy, is_for_types
            continue
        in_function = is_lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        blocks = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(node, "handlers", [])]
        blocks += [case.body for case in getattr(node, "cases", [])]
        for number, block in enumerate(blocks):
            types = is_for_types or (is_type_checking(node) and number == 0)
            yield from statements(block, is_lazy=in_function, is_for_types=types)


def targets(node: ast.Import | ast.ImportFrom, module: str) -> Iterator[tuple[str, bool]]:
    """Yield what a statement imports from, and whether that is ours."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield own_name(alias.name)
        return
    if node.level == 0:
        yield own_name(node.module or "")
        return
    package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
    above = [part for part in package if part][: len([p for p in package if p]) - (node.level - 1)]
    base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
    for alias in node.names:
        name = f"{base}.{alias.name}".strip(".")
        yield (name if name in FILES else base), True


def own_name(name: str) -> tuple[str, bool]:
    """Return an absolute name as `Import` has it."""
    top, _, rest = name.partition(".")
    return (rest, True) if top == PACKAGE else (top, False)


def all_imports() -> list[Import]:
    """Return every import of the package."""
    return [
        Import(module, target, is_ours, is_lazy, is_for_types)
        for module, path in FILES.items()
        for node, is_lazy, is_for_types in statements(ast.parse(path.read_text(encoding="utf-8")).body)
        for target, is_ours in targets(node, module)
    ]


IMPORTS = all_imports()
OURS = [found for found in IMPORTS if found.is_ours]
FOREIGN = [found for found in IMPORTS if not found.is_ours]


def points_down(found: Import) -> bool:
    """Whether an import of ours obeys the plan."""
    here, there = room_of(found.module), room_of(found.target)
    if here is None or there is None:
        return False
    room = ROOMS[here]
    return there in (here, *room.beside) or ROOMS[there].floor < room.floor


def test_the_reader_sees_imports() -> None:
    """The reader finds relative, lazy and typing-only imports, so that a silent miss can't make the plan hold."""
    assert Import("deciding.decide", "model", True, False, False) in IMPORTS
    assert Import("telemetry", "structlog", False, True, False) in IMPORTS
    assert Import("", "default", True, False, True) in IMPORTS
    assert Import("lifetime", "worker.task", True, False, False) in IMPORTS
    assert len(OURS) > 50


def test_a_wrong_import_is_seen() -> None:
    """An import that points up, or sideways into another room, is against the plan."""
    for module, target in (("errors", "settings_of_no_room"), ("wire.frames", "worker.serve"), ("model", "session")):
        assert not points_down(Import(module, target, True, False, False))


def test_every_module_has_a_room() -> None:
    """No module is left out of the plan, and the plan names none that doesn't exist."""
    assert [module for module in FILES if room_of(module) is None] == []
    named = [pattern.removesuffix(".*") for room in ROOMS.values() for pattern in room.modules]
    assert [name for name in named if name not in FILES] == []


def test_imports_point_down() -> None:
    """Every import, typing-only ones included, points to the same room, a neighbour it may use, or a lower floor."""
    wrong = {(f.module, f.target) for f in OURS if not points_down(f)} - LOOKING_UP
    assert wrong - DOORS == set()


def test_edges_use_what_users_use() -> None:
    """An edge imports the public API and vocabulary alone, so that anybody could have written it."""
    edges = {(f.module, f.target) for f in OURS if room_of(f.module) == "edges"}
    wrong = {(module, target) for module, target in edges if room_of(target) not in ("edges", "front door", "vocabulary")}
    assert wrong == ASKING


def test_there_are_no_cycles() -> None:
    """No module needs itself to be imported, lazy imports included."""
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for found in OURS:
        if not (found.is_for_types or (found.module, found.target) in DOORS):
            graph[found.module].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' → '.join(error.args[1])}")


def test_lazy_imports_are_for_weight_only() -> None:
    """An import inside a function is of something heavy or optional, never of ours to dodge a cycle."""
    assert {f.target for f in FOREIGN if f.is_lazy} <= LAZY
    assert {(f.module, f.target) for f in OURS if f.is_lazy} <= LAZY_OF_OURS | DOORS


def test_third_party_imports_stay_in_their_rooms() -> None:
    """As it is imported a module imports the standard library, besides what its room is for."""
    wrong = [
        (f.module, f.target)
        for f in FOREIGN
        if not (f.is_lazy or f.is_for_types or f.target in sys.stdlib_module_names)
        if f.target not in ROOMS[room_of(f.module) or "vocabulary"].third_party
    ]
    assert wrong == []


def test_decisions_are_pure() -> None:
    """A decision imports no clock, system, logger or randomness and awaits nothing; its arguments are all it knows."""
    for module, path in FILES.items():
        if room_of(module) == "deciding":
            assert {f.target for f in FOREIGN if f.module == module and not f.is_lazy} & IMPURE == set(), module
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree)), module


@pytest.mark.parametrize("module", FILES, ids=[name or PACKAGE for name in FILES])
def test_modules_are_short(module: str) -> None:
    """A module owns one thing, so it has at most 400 lines."""
    n_lines = len(FILES[module].read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_LINES


HEAVY = ("anyio", "asyncio", "loky", "numpy", "structlog", "trio", "psutil", "threadpoolctl", "cloudpickle")


def run_script(code: str, folder: Path) -> str:
    """Run a program in a fresh interpreter and return what it prints."""
    script = folder / "program.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_is_light(tmp_path: Path) -> None:
    """`import offloop` imports none of its dependencies, so that a program pays for what it uses."""
    loaded = run_script(f"import sys, offloop\nprint([m for m in {HEAVY} if m in sys.modules])", tmp_path)
    assert loaded.strip() == "[]"


WORKER_PROGRAM = """
import asyncio
import offloop
from tasks import loaded

async def main():
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        print(await session.run(loaded))
        print(await session.run_parallel(loaded, range(1), seed=1))

asyncio.run(main())
"""

WORKER_TASKS = """
import sys

def loaded(item=0, rng=None):
    assert "offloop.worker.serve" in sys.modules
    return [m for m in ("anyio", "structlog", "numpy", "trio") if m in sys.modules]
"""


def test_a_worker_is_light(tmp_path: Path) -> None:
    """A real worker process has imported no event loop and no logger, and numpy only once its work needs it."""
    (tmp_path / "tasks.py").write_text(WORKER_TASKS, encoding="utf-8")
    assert run_script(WORKER_PROGRAM, tmp_path).splitlines() == ["[]", "[['numpy']]"]
