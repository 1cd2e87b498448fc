"""What can't travel: three distinct errors, each naming the path of the part that can't, its type, and a fix."""

from __future__ import annotations

import pickle
import threading
from functools import partial

import anyio
import pytest

import offloop
import workloads as w

pytestmark = pytest.mark.anyio


@pytest.mark.fault(16)
async def test_an_item_that_cant_be_sent_is_named(workers: offloop.ParallelSession) -> None:
    """The error names the index, the attribute's path, its type, the function and a fix; the cause is kept."""
    items = [w.Request(i, has_client=i == 17) for i in range(40)]
    with anyio.fail_after(15), pytest.raises(offloop.UnpicklableItem) as caught:
        await workers.run_parallel(w.number_of, items)
    text = str(caught.value)
    assert text.startswith("items[17] can't be sent to a worker")
    assert "items[17].client._lock" in text
    assert "(_thread.lock)" in text
    assert "number_of (workloads.py:" in text
    assert "worker_init" in text
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value.__cause__, TypeError | pickle.PicklingError)


@pytest.mark.parametrize("chunk_size", [None, 1, 40])
@pytest.mark.fault(16)
async def test_only_the_bad_items_fail(workers: offloop.ParallelSession, chunk_size: int | None) -> None:
    """Neighbours in the same chunk are executed."""
    items = [w.Request(i, has_client=i in (0, 17, 39)) for i in range(40)]
    with anyio.fail_after(15):
        results = await workers.run_parallel(w.number_of, items, on_error="collect", chunk_size=chunk_size)
    bad = [i for i, result in enumerate(results) if isinstance(result, offloop.UnpicklableItem)]
    assert bad == [0, 17, 39]
    assert [result for i, result in enumerate(results) if i not in bad] == [i for i in range(40) if i not in bad]


@pytest.mark.fault(16)
async def test_an_argument_that_cant_be_sent_is_named(workers: offloop.ParallelSession) -> None:
    """A call refuses such an argument alike."""
    with anyio.fail_after(15), pytest.raises(offloop.UnpicklableItem, match=r"client\._lock"):
        await workers.run(w.number_of, w.Request(1, has_client=True))


async def test_nested_containers_are_looked_into(workers: offloop.ParallelSession) -> None:
    """The path goes through dicts and lists."""
    with anyio.fail_after(15), pytest.raises(offloop.UnpicklableItem) as caught:
        await workers.run_parallel(w.echo, [1, {"a": [1, {"lock": threading.Lock()}]}])
    assert "items[1]['a'][1]['lock']" in str(caught.value)


@pytest.mark.fault(16)
async def test_a_function_that_cant_be_sent_is_named(workers: offloop.ParallelSession) -> None:
    """A closure over a lock, a partial over one, a method of its holder: the bound part is named."""
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    for fn, path in (
        (locked, "fn.lock"),
        (partial(w.add, w.Client()), "_lock"),
        (w.Client().__init__, "_lock"),  # type: ignore[misc]
    ):
        with anyio.fail_after(15):
            with pytest.raises(offloop.UnpicklableFunction, match="can't be sent") as caught:
                await workers.run_parallel(fn, [1, 2])
            with pytest.raises(offloop.UnpicklableFunction):
                await workers.run(fn, 1)
        assert path in str(caught.value)
        assert "_thread.lock" in str(caught.value)
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("fn", "path"), [(w.lock_for_3, "results[3]"), (w.client_for_3, "results[3]['client']._lock")])
@pytest.mark.fault(17)
async def test_a_result_that_cant_be_sent_back_is_named(
    workers: offloop.ParallelSession, fn: object, path: str
) -> None:
    """The error names the item's index, the path inside of the result, and a fix; other items keep their results."""
    with anyio.fail_after(15):
        with pytest.raises(offloop.UnpicklableResult) as caught:
            await workers.run_parallel(fn, range(6))  # type: ignore[arg-type]
        text = f"{caught.value} {caught.value.__notes__}"
        assert path in text
        assert "items[3]" in text
        assert "_thread.lock" in text
        assert isinstance(caught.value.__cause__, TypeError | pickle.PicklingError) or "cannot pickle" in text
        results = await workers.run_parallel(fn, range(6), on_error="collect")  # type: ignore[arg-type]
    assert results[:3] + results[4:] == [0, 1, 2, 4, 5]
    assert isinstance(results[3], offloop.UnpicklableResult)


@pytest.mark.parametrize("local", ["serial", "threads"])
async def test_what_stays_in_this_process_needs_no_pickling(anyio_backend: object, local: str) -> None:
    """Local strategies take anything."""
    async with offloop.ParallelSession(strategy=local) as session:  # type: ignore[arg-type]
        request = w.Request(1, has_client=True)
        assert (await session.run_parallel(w.echo, [request]))[0] is request
