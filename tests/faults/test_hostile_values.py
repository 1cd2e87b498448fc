"""Values that exit, crash or hang as they are pickled or rebuilt: it is as if fn had done so, wherever that happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import hostile as h
import offloop
import scripts
import workloads as w

pytestmark = pytest.mark.anyio

GRACE_S = 0.2


@pytest.fixture(scope="module")
async def shared(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session that tests of what harms no worker share."""
    async with offloop.ParallelSession(strategy="processes", workers=2, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


@pytest.fixture
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        yield session


async def only_3_fails(session: offloop.ParallelSession, fn: Any, bad: object = 3, **options: Any) -> Exception:
    """Run ten items of which number 3 is bad, and return what became of it; all others must have their results."""
    items = [bad if i == 3 else i for i in range(10)]
    with anyio.fail_after(40):
        results = await session.run_parallel(fn, items, on_error="collect", **options)
        assert await session.run_parallel(w.double, range(5)) == [0, 2, 4, 6, 8]
    failure = results.pop(3)
    assert results == [i for i in range(10) if i != 3]
    assert isinstance(failure, Exception)
    assert "[3]" in f"{failure} {getattr(failure, '__notes__', '')}"
    return failure


def check_crash(failure: object, how: str) -> None:
    """Assert that a failure is told as the crash that it was."""
    assert isinstance(failure, offloop.WorkerCrashed)
    assert (failure.exit_code, failure.signal) == {"die": (11, None), "segfault": (-11, "SIGSEGV")}[how]
    assert "items[3]" in str(failure)


# --- acts that are over at once ----------------------------------------------------------------------------------------


@pytest.mark.fault(20, 23)
@pytest.mark.parametrize("how", h.MILD)
async def test_an_item_rebuilt_in_the_worker(shared: offloop.ParallelSession, tmp_path: Path, how: str) -> None:
    """Whatever it raises there, it fails alone, and not again in this process."""
    failure = await only_3_fails(shared, w.echo, h.ActsOnRebuilding(how, f"{tmp_path}/act", "worker"))
    assert isinstance(failure, offloop.UnpicklableItem)


@pytest.mark.one_loop
@pytest.mark.fault(20, 23)
@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("how", h.DEADLY)
async def test_an_item_that_ends_the_worker_where_it_is_rebuilt(
    session: offloop.ParallelSession, tmp_path: Path, how: str, retries: int
) -> None:
    """It is a crash of that item, after as many deaths as it may cost; nobody beside it is lost."""
    bad = h.ActsOnRebuilding(how, f"{tmp_path}/act", "worker")
    check_crash(await only_3_fails(session, w.echo, bad, retries=retries, chunk_size=1), how)
    assert len(w.lines(tmp_path / "act.began")) == 1 + retries


@pytest.mark.fault(23)
@pytest.mark.parametrize("how", h.MILD)
async def test_a_result_pickled_in_the_worker(shared: offloop.ParallelSession, tmp_path: Path, how: str) -> None:
    """Whatever it raises there, it fails alone."""
    deed = how, f"{tmp_path}/act", "worker"
    failure = await only_3_fails(shared, partial(h.call_for_3, h.ActsOnPickling, deed))
    assert isinstance(failure, offloop.UnpicklableResult)


@pytest.mark.fault(21, 23)
@pytest.mark.parametrize("how", h.MILD)
async def test_a_result_rebuilt_here(shared: offloop.ParallelSession, tmp_path: Path, how: str) -> None:
    """Whatever it raises here, a KeyboardInterrupt included, it fails alone, and the loop doesn't see it."""
    deed = how, f"{tmp_path}/act", "parent"
    fn = partial(h.call_for_3, h.ActsOnRebuilding, deed)
    assert isinstance(await only_3_fails(shared, fn), offloop.UnpicklableResult)
    with anyio.fail_after(20), pytest.raises(offloop.UnpicklableResult):
        await shared.run(fn, 3)


@pytest.mark.one_loop
@pytest.mark.fault(18, 23)
@pytest.mark.parametrize("kind", [h.ActsOnPicklingError, h.ActsOnRebuildingError], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("side", ["worker", "parent"])
@pytest.mark.parametrize("how", h.MILD)
async def test_an_exception_on_either_side(
    shared: offloop.ParallelSession, tmp_path: Path, kind: Any, side: str, how: str
) -> None:
    """Its type, its text and its traceback arrive, whatever happens to the exception itself."""
    failure = await only_3_fails(shared, partial(h.call_for_3, kind, (how, f"{tmp_path}/act", side)))
    assert kind.__name__ in f"{type(failure).__name__} {failure}"
    assert "the text of it" in str(failure)
    assert "raise value  # the line that fails" in "\n".join(failure.__notes__)


@pytest.mark.one_loop
@pytest.mark.fault(23)
@pytest.mark.parametrize("kind", [h.ActsOnPickling, h.ActsOnPicklingError, h.ActsOnRebuildingError], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", h.DEADLY)
async def test_what_ends_the_worker_as_it_is_sent_back(
    session: offloop.ParallelSession, tmp_path: Path, kind: Any, how: str
) -> None:
    """A result or an exception that ends its worker is a crash of its item, like an fn that does."""
    fn = partial(h.call_for_3, kind, (how, f"{tmp_path}/act", "worker"))
    check_crash(await only_3_fails(session, fn, chunk_size=1), how)
    assert len(w.lines(tmp_path / "act.began")) == 2


@pytest.mark.fault(16, 23)
@pytest.mark.parametrize("side", ["worker", "parent"])
@pytest.mark.parametrize("how", h.MILD)
async def test_a_function_on_either_side(shared: offloop.ParallelSession, tmp_path: Path, side: str, how: str) -> None:
    """What is bound in fn and raises as it is sent is told as the function's failure, before an item is executed."""
    kind = h.ActsOnPickling if side == "parent" else h.ActsOnRebuilding
    fn = offloop.call(h.take, kind(how, f"{tmp_path}/act", side))
    with anyio.fail_after(20):
        with pytest.raises(offloop.UnpicklableFunction):
            await shared.run_parallel(fn, range(10))
        with pytest.raises(offloop.UnpicklableFunction):
            await shared.run(fn, 1)
        assert await shared.run(w.double, 2) == 4


@pytest.mark.one_loop
@pytest.mark.fault(23)
@pytest.mark.parametrize("how", h.DEADLY)
async def test_a_function_that_ends_its_worker(session: offloop.ParallelSession, tmp_path: Path, how: str) -> None:
    """What is bound in fn and ends every worker is a crash, not a loop of them."""
    fn = offloop.call(h.take, h.ActsOnRebuilding(how, f"{tmp_path}/act", "worker"))
    with anyio.fail_after(40):
        with pytest.raises(offloop.WorkerCrashed):
            await session.run(fn, 1)
        assert len(w.lines(tmp_path / "act.began")) == 2
        with pytest.raises(offloop.WorkerCrashed):
            await session.run_parallel(fn, range(10))
        assert len(w.lines(tmp_path / "act.began")) <= 10
        assert await session.run(w.double, 2) == 4


ENDS_ITS_PARENT = """
import sys, anyio, hostile as h, offloop, workloads as w

async def main(path):
    async with offloop.ParallelSession(strategy="processes", workers=2) as session:
        await session.warm()
        print(*session.statistics().workers, sep="\\n", file=open(path + ".pids", "w"), flush=True)
        await session.run_parallel(w.echo, [1, h.ActsOnPickling("die", path, "parent")])

anyio.run(main, sys.argv[2], backend=sys.argv[1])
"""


@pytest.mark.fault(23)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_item_that_ends_this_process(tmp_path: Path, backend: str) -> None:
    """os._exit in a __reduce__ here ends the program as it would anywhere, and its workers go with it."""
    path = tmp_path / "act"
    done = scripts.run(ENDS_ITS_PARENT, backend, str(path), cwd=tmp_path)
    assert done.returncode == 11
    assert scripts.gone([int(line) for line in w.lines(tmp_path / "act.pids")], 2)


# --- acts that never end -----------------------------------------------------------------------------------------------

WHERE: dict[str, Callable[[str, str], tuple[Any, Any]]] = {  # what to call, with what
    "item pickled here": lambda how, path: (w.echo, h.ActsOnPickling(how, path, "parent")),
    "item rebuilt there": lambda how, path: (w.echo, h.ActsOnRebuilding(how, path, "worker")),
    "fn pickled here": lambda how, path: (offloop.call(h.take, h.ActsOnPickling(how, path, "parent")), 3),
    "fn rebuilt there": lambda how, path: (offloop.call(h.take, h.ActsOnRebuilding(how, path, "worker")), 3),
    "result pickled there": lambda how, path: (partial(h.call_for_3, h.ActsOnPickling, (how, path, "worker")), 3),
    "result rebuilt here": lambda how, path: (partial(h.call_for_3, h.ActsOnRebuilding, (how, path, "parent")), 3),
    "exception pickled there": lambda how, path: (partial(h.call_for_3, h.ActsOnPicklingError, (how, path, "worker")), 3),
    "exception rebuilt there": lambda how, path: (partial(h.call_for_3, h.ActsOnRebuildingError, (how, path, "worker")), 3),
    "exception rebuilt here": lambda how, path: (partial(h.call_for_3, h.ActsOnRebuildingError, (how, path, "parent")), 3),
}
IN_THE_WORKER = {where: make for where, make in WHERE.items() if where.endswith("there")}


@pytest.fixture
def path(tmp_path: Path) -> Any:
    """Where acts say that they began; those that go on in threads of this process are let go at the end."""
    yield f"{tmp_path}/act"
    (tmp_path / "act.go").touch()


async def cancelled_in_the_act(path: str, call: Callable[[], Any], count: int = 1) -> None:
    """Cancel a call once an act has begun; that must return though the act goes on."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await w.appears(f"{path}.began", count)
            tasks.cancel_scope.cancel()


@pytest.mark.one_loop
@pytest.mark.fault(23)
@pytest.mark.parametrize("how", ["hang", "hang deaf"])
@pytest.mark.parametrize("make", WHERE.values(), ids=WHERE)
async def test_a_hang_can_be_cancelled(session: offloop.ParallelSession, path: str, make: Any, how: str) -> None:
    """Wherever something hangs on its way, a call and a map can be cancelled, and the next call works."""
    fn, item = make(how, path)
    await cancelled_in_the_act(path, partial(session.run, fn, item, grace_s=GRACE_S))
    with anyio.fail_after(20):
        assert await session.run(w.double, 2) == 4
    begun = len(w.lines(Path(f"{path}.began")))
    await cancelled_in_the_act(path, partial(session.run_parallel, fn, [1, item, 5], grace_s=GRACE_S), begun + 1)
    with anyio.fail_after(20):
        assert await session.run_parallel(w.echo, [w.Boxed(1), w.Boxed(2)]) == [w.Boxed(1), w.Boxed(2)]


@pytest.mark.fault(23)
@pytest.mark.parametrize("make", IN_THE_WORKER.values(), ids=IN_THE_WORKER)
async def test_a_session_closes_amid_a_hang(session: offloop.ParallelSession, path: str, make: Any) -> None:
    """Closing is bounded too, and tells whoever waits that the session was closed."""
    fn, item = make("hang deaf", path)
    raised: list[BaseException] = []

    async def call() -> None:
        try:
            await session.run(fn, item, grace_s=GRACE_S)
        except offloop.OffloopError as error:
            raised.append(error)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await w.appears(f"{path}.began")
            await session.aclose()
    assert [type(error) for error in raised] == [offloop.SessionClosedError]


@pytest.mark.fault(23)
@pytest.mark.parametrize("where", ["item pickled here", "result rebuilt here"])
async def test_hangs_here_take_no_threads_from_others(session: offloop.ParallelSession, path: str, where: str) -> None:
    """However many were cancelled as they hung in threads of this process, others are pickled and rebuilt as ever."""
    fn, item = WHERE[where]("hang", path)
    for count in range(1, 9):
        await cancelled_in_the_act(path, partial(session.run, fn, item, grace_s=GRACE_S), count)
    with anyio.fail_after(20):
        boxes = [w.Boxed(i) for i in range(10)]
        assert await session.run_parallel(w.echo, boxes) == boxes


# --- things that are too deep, or have no text -------------------------------------------------------------------------


@pytest.mark.fault(22)
async def test_a_deep_exception(shared: offloop.ParallelSession) -> None:
    """An exception that holds a structure too deep to be pickled is told of by type and traceback."""
    failure = await only_3_fails(shared, h.raise_nested_for_3)
    assert "OwnError" in f"{type(failure).__name__} {failure}"
    assert "raise nested_error(100_000)" in "\n".join(failure.__notes__)


@pytest.mark.fault(16, 22)
async def test_a_deep_thing_bound_in_fn(shared: offloop.ParallelSession, tmp_path: Path) -> None:
    """A function that holds such a structure is refused, and no item is executed."""
    with anyio.fail_after(40), pytest.raises(offloop.UnpicklableFunction):
        await shared.run_parallel(offloop.call(h.note, f"{tmp_path}/log", w.nest(100_000)), range(5))
    assert not w.lines(tmp_path / "log")


@pytest.mark.fault(16)
@pytest.mark.parametrize("call", ["run", "map"])
async def test_nothing_is_executed_for_what_cannot_be_sent(
    shared: offloop.ParallelSession, tmp_path: Path, call: str
) -> None:
    """An argument, or what is bound in fn, is refused before anything is executed."""
    log = f"{tmp_path}/log"
    fn = partial(h.note, log)
    for error, attempt in {
        offloop.UnpicklableItem: partial(shared.run, fn, w.Client())
        if call == "run"
        else partial(shared.run_parallel, fn, [w.Client()]),
        offloop.UnpicklableFunction: partial(shared.run, offloop.call(fn, w.Client()))
        if call == "run"
        else partial(shared.run_parallel, offloop.call(h.take, w.Client()), [1]),
    }.items():
        with anyio.fail_after(20), pytest.raises(error, match=r"_lock"):
            await attempt()
    assert not w.lines(tmp_path / "log")


@pytest.mark.fault(16, 17)
async def test_the_path_leads_by_a_key_without_a_text(shared: offloop.ParallelSession) -> None:
    """Saying what can't be sent never fails itself: a key whose __repr__ raises is still an UnpicklableItem's."""
    with anyio.fail_after(20):
        with pytest.raises(offloop.UnpicklableItem):
            await shared.run(w.echo, {h.Keyed(): w.Client()})
        assert isinstance(await only_3_fails(shared, w.echo, {h.Keyed(): w.Client()}), offloop.UnpicklableItem)
