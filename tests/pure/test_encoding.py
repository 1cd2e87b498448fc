"""encoding.py: what is stored once for a run, what for each message, and what is pickled together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

import workloads as w
from offloop.encoding import Encoder, encode_inline
from offloop.errors import PayloadTooLarge, UnpicklableFunction, UnpicklableItem
from offloop.outgoing import Outgoing
from offloop.strategies.base import Chunk, Job
from offloop.wire import buffers
from offloop.wire.buffers import BUFFER_BYTES, FILE_BYTES, Message, Received, alive
from offloop.wire.functions import unpack_function
from offloop.wire.memory import MemoryFile
from offloop.wire.pickling import loads
from offloop.wire.storage import Storage
from systems import MadeSystem

pytestmark = pytest.mark.anyio

LARGE = 2 * FILE_BYTES


class Counting(Storage):
    """A storage that notes how much it has stored."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.stored: list[int] = []

    def store(self, placed: Any, size: int) -> MemoryFile | None:
        """Note it and store it."""
        self.stored.append(sum(len(buffer) for _, buffer in placed))
        return super().store(placed, size)


class Bench:
    """An encoder with a session's way out, and what is on its far side."""

    def __init__(
        self, fn: Callable[..., Any] = w.echo, *, at_hand: bool = True, limit_bytes: int | None = None, **system: Any
    ) -> None:
        self.storage = Counting()
        self.outgoing = Outgoing(self.storage, MadeSystem(**system), limit_bytes, lambda: None)
        self.job = Job(1, fn, "fn", 0, None)  # type: ignore[arg-type]
        self.encoder = Encoder(self.outgoing, self.job, lambda _: at_hand)

    async def message(self, *items: Any, start: int = 0) -> Message:
        """Encode items as one chunk."""
        chunk = Chunk(start, list(items))
        if not encode_inline(chunk):
            assert await self.encoder.encode(chunk) == {}
        assert chunk.message is not None
        return chunk.message

    async def messages(self, groups: Iterable[Iterable[Any]]) -> list[Message]:
        """Encode several chunks at the same time."""
        made: list[Message] = await w.gather(*[self.message(*items) for items in groups])
        return made


def arrived(message: Message) -> list[Any]:
    """Rebuild the values of a message, as a worker does."""
    if message.parts is None:
        return list(loads(message.data))
    for segment in message.segments:
        buffers.keep(segment.introduction(), lambda _, file=segment.file: copied(file))  # type: ignore[misc]
    try:
        payload = b"".join(map(bytes, message.payload()))
        return list(Received(payload, lambda _: copied(message.file) if message.file is not None else None))
    finally:
        for segment in message.segments:
            buffers.forget(segment.number)


def copied(file: MemoryFile) -> MemoryFile:
    return Storage("memory").received([os.dup(fd) for fd in file.fds])


def floats(n_bytes: int = LARGE, first: float = 0) -> Any:
    made = np.arange(n_bytes // 8, dtype="f8")
    made[0] = first
    return made


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


# --- what is stored how often ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_messages", [2, 7])
async def test_one_buffer_in_several_items(anyio_backend: object, n_messages: int) -> None:
    """What stands in several items that are all there from the start is stored once for the run."""
    bench, array = Bench(), floats()
    messages = [await bench.message((array, number)) for number in range(n_messages)]
    assert bench.storage.stored == [LARGE]
    for number, message in enumerate(messages):
        [(back, found)] = arrived(message)
        assert (found, np.array_equal(back, array)) == (number, True)


async def test_one_buffer_in_several_items_at_a_time(anyio_backend: object) -> None:
    """Also when they are encoded at the same time."""
    bench, array = Bench(), floats()
    messages = await bench.messages([[(array, number)] for number in range(8)])
    assert bench.storage.stored == [LARGE]
    assert [arrived(message)[0][1] for message in messages] == [*range(8)]
    assert all(np.array_equal(arrived(message)[0][0], array) for message in messages)


async def test_several_items_in_one_message(anyio_backend: object) -> None:
    """Within one message it is stored once as well, and each item gets it in memory of its own."""
    bench, array = Bench(at_hand=False), floats()
    message = await bench.message(*[array] * 6)
    assert bench.storage.stored == [LARGE]
    one, other, *_ = arrived(message)
    one[:] = -1
    assert np.array_equal(other, array)


async def test_others_are_stored_each(anyio_backend: object) -> None:
    """Different buffers are stored with the message that they stand in, and go with it."""
    bench = Bench()
    before = set(alive)
    messages = await bench.messages([[floats(LARGE, number)] for number in range(6)])
    assert bench.storage.stored == [LARGE] * 6
    assert [arrived(message)[0][0] for message in messages] == [*range(6)]
    assert alive == before


async def test_what_an_iterator_yields_is_stored_anew(anyio_backend: object) -> None:
    """A buffer that is filled again and again arrives each time as it was then."""
    bench, array = Bench(at_hand=False), floats()
    messages = []
    for number in range(5):
        array[0] = number
        messages.append(await bench.message(array))
    assert bench.storage.stored == [LARGE] * 5
    assert [arrived(message)[0][0] for message in messages] == [*range(5)]


async def test_what_nobody_can_write_to_is_stored_once(anyio_backend: object) -> None:
    """Unless nobody can write to it: then it is stored once, from an iterator too."""
    bench, array = Bench(at_hand=False), read_only(floats())
    messages = [await bench.message((number, array[100:])) for number in range(5)]
    assert len(bench.storage.stored) == 1
    assert all(np.array_equal(arrived(message)[0][1], array[100:]) for message in messages)


async def test_a_run_frees_what_it_stored(anyio_backend: object) -> None:
    """When the run ends nothing of it is kept, but for messages that are still under way."""
    before = set(alive)
    bench, array = Bench(partial(np.add, floats())), floats()
    messages = [await bench.message((number, array)) for number in range(3)]
    assert len(alive - before) == 1
    await bench.encoder.pack()
    bench.encoder.close()
    assert bench.job.packed is None
    assert np.array_equal(arrived(messages[-1])[0][1], array)
    messages.clear()
    with anyio.fail_after(10):
        while alive - before:  # a thread may hold the last that it returned until it is given something else
            await anyio.to_thread.run_sync(int)


async def test_what_the_session_shares_is_not_stored_again(anyio_backend: object) -> None:
    """Items that refer to what is shared, or to views of it, bring nothing along."""
    bench, array = Bench(at_hand=False), floats()
    bench.outgoing.share(array, at_once=False)
    messages = [await bench.message((number, array[number:])) for number in range(3)]
    assert bench.storage.stored == [LARGE]
    assert [message.n_bytes for message in messages] == [0, 0, 0]
    assert all(np.array_equal(arrived(m)[0][1], array[k:]) for k, m in enumerate(messages))
    bench.outgoing.close()


# --- the function ----------------------------------------------------------------------------------------------------


async def test_bound_data_is_packed_once(anyio_backend: object) -> None:
    """Large data bound in a function is stored once, however many ask for it at a time."""
    array = floats()
    bench = Bench(partial(np.add, array))
    await w.gather(*[bench.encoder.pack() for _ in range(8)])
    assert bench.storage.stored == [LARGE]
    packed = bench.job.packed
    assert packed is not None
    assert len(packed.data) < 1000
    (segment,) = packed.segments
    buffers.keep(segment.introduction(), lambda _: copied(segment.file))
    fn = unpack_function(packed.data)
    assert np.array_equal(fn(1.0), array + 1)
    buffers.forget(segment.number)
    bench.encoder.close()


async def test_items_refer_to_what_is_bound(anyio_backend: object) -> None:
    """An item with the array that is bound in the function brings it not once more."""
    array = floats()
    bench = Bench(partial(np.add, array))
    await bench.encoder.pack()
    message = await bench.message(("item", array))
    assert bench.storage.stored == [LARGE]
    assert message.n_bytes == 0
    bench.encoder.close()


async def test_a_function_that_cannot_travel(anyio_backend: object) -> None:
    """What stands in the way is named, as often as it is asked."""
    lock = threading.Lock()
    bench = Bench(lambda x: (x, lock))
    for _ in range(2):
        with pytest.raises(UnpicklableFunction, match="lock"):
            await bench.encoder.pack()
    assert bench.job.packed is None


async def test_a_function_that_is_too_large(anyio_backend: object) -> None:
    """What memory has no room for is told with the figures, and not taken for what can't be pickled."""
    bench = Bench(partial(np.add, np.zeros(10 << 20)), files={"/proc/meminfo": "MemAvailable: 1000 kB\n"})
    with pytest.raises(PayloadTooLarge) as caught:
        await bench.encoder.pack()
    assert caught.value.needed_bytes == 80 << 20
    assert bench.storage.stored == []


# --- items -----------------------------------------------------------------------------------------------------------


async def test_plain_items_are_pickled_on_the_loop(anyio_backend: object) -> None:
    """Exact built-in types, few and small, need no thread; others, and more of them, do."""
    plain = Chunk(0, [1, "two", (3.0, None)])
    assert encode_inline(plain)
    assert plain.message is not None
    assert arrived(plain.message) == [1, "two", (3.0, None)]
    for items in ([w.Boxed(1)], [np.zeros(3)], ["x" * 200_000]):
        chunk = Chunk(0, items)
        assert not encode_inline(chunk)
        assert chunk.message is None


@pytest.mark.parametrize("count", [2, 100, 5000])
async def test_many_small_items_go_in_one_pickle(anyio_backend: object, count: int) -> None:
    """Small things of any kind are pickled together, which is quicker; they arrive in order."""
    bench = Bench()
    items = [w.Boxed(number) for number in range(count)]
    message = await bench.message(*items)
    assert message.parts is None
    assert arrived(message) == items


@pytest.mark.parametrize("count", [1, 2, 9])
async def test_large_items_go_singly(anyio_backend: object, count: int) -> None:
    """Items with large buffers are each in a part of its own, so that some of them can be sent again."""
    bench = Bench()
    items = [floats(BUFFER_BYTES, number) for number in range(count)]
    message = await bench.message(*items)
    assert message.parts is not None
    assert len(message.parts) == count
    part = message.part(count - 1, count)
    assert part is not None
    assert [array[0] for array in arrived(part)] == [count - 1]


async def test_a_chunk_keeps_its_snapshot(anyio_backend: object) -> None:
    """What is taken of a chunk that was encoded has the items as they were when they were encoded."""
    bench, arrays = Bench(), [floats(LARGE, number) for number in range(4)]
    chunk = Chunk(10, arrays)
    assert await bench.encoder.encode(chunk) == {}
    for array in arrays:
        array[0] = -1
    part = chunk.part(12, 14)
    assert part.message is not None
    assert (part.start, len(part.items)) == (12, 2)
    assert [array[0] for array in arrived(part.message)] == [2, 3]


async def test_a_message_that_is_too_large(anyio_backend: object) -> None:
    """A single item that memory has no room for fails with the figures; several together may go one by one."""
    bench = Bench(files={"/proc/meminfo": "MemAvailable: 1000 kB\n"})
    items = [np.zeros(5 << 20), np.zeros(5 << 20)]
    together, single = Chunk(3, items), Chunk(7, [np.zeros(10 << 20)])
    assert await bench.encoder.encode(together) == {}
    assert together.message is None
    failed = await bench.encoder.encode(single)
    assert {index: type(error) for index, error in failed.items()} == {7: PayloadTooLarge}
    assert single.message is None
    assert bench.storage.stored == []


async def test_items_that_cannot_travel(anyio_backend: object) -> None:
    """Those that can't be pickled are told one by one, by their index and with the way to what is in the way."""
    bench = Bench()
    chunk = Chunk(5, [floats(), threading.Lock(), "fine", {"lock": [threading.Lock()]}])
    failed = await bench.encoder.encode(chunk)
    assert [*failed] == [6, 8]
    assert all(isinstance(error, UnpicklableItem) for error in failed.values())
    assert "items[8]['lock'][0]" in str(failed[8])


async def test_small_buffers_need_no_file(anyio_backend: object) -> None:
    """Buffers that are small together travel in the payload."""
    bench = Bench()
    message = await bench.message((floats(BUFFER_BYTES), "x"))
    assert (message.file, len(message.buffers), bench.storage.stored) == (None, 1, [])
    assert np.array_equal(arrived(message)[0][0], floats(BUFFER_BYTES))


async def test_no_more_is_in_flight_than_allowed(anyio_backend: object) -> None:
    """A message waits until earlier ones are gone, counted by those who refer to them."""
    bench = Bench(limit_bytes=LARGE)
    first = await bench.message(floats())
    assert bench.outgoing.bytes_in_flight == LARGE
    late: list[Message] = []

    async def encode() -> None:
        late.append(await bench.message(floats(LARGE, 5)))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(encode)
            await anyio.wait_all_tasks_blocked()
            assert late == []
            del first
    assert arrived(late[0])[0][0] == 5


async def test_cancelled_while_it_is_encoded(anyio_backend: object) -> None:
    """Cancelling what waits for room leaves nothing in flight, and whoever shares its buffer isn't left waiting."""
    bench, array = Bench(limit_bytes=LARGE), floats()
    held = await bench.message(floats())
    scope = anyio.CancelScope()
    entered = anyio.Event()
    really = bench.outgoing.admit

    async def admit(n_bytes: int) -> object:
        entered.set()
        return await really(n_bytes)

    bench.outgoing.admit = admit  # type: ignore[method-assign]

    async def encode() -> None:
        with scope:
            await bench.message((array, 1))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(encode)
            await entered.wait()
            scope.cancel()
        assert bench.outgoing.bytes_in_flight == LARGE
        del held
        message = await bench.message((array, 2))
    assert np.array_equal(arrived(message)[0][0], array)
