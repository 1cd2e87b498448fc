"""outgoing.py: how much may be in flight, where it is stored, and what is said where there is no room."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import workloads as w
from offloop.errors import PayloadTooLarge
from offloop.outgoing import _LEAST_BYTES, _SHARE_OF_MEMORY, Outgoing
from offloop.wire.buffers import FILE_BYTES, Packer, address, alive
from offloop.wire.storage import Storage
from systems import MadeSystem

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def machine(available_bytes: int) -> MadeSystem:
    return MadeSystem({"/proc/meminfo": f"MemAvailable: {available_bytes // 1024} kB\n"})


def outgoing(limit_bytes: int | None = None, system: MadeSystem | None = None, **options: Any) -> Outgoing:
    return Outgoing(options.pop("storage", Storage("memory")), system or MadeSystem(), limit_bytes, lambda: None, **options)


class Large:
    """Packs as something that is so large, without being it."""

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self.was_stored = False

    def store(self, storage: Storage) -> None:
        """Find no room."""
        self.was_stored = True


def packed(*values: Any) -> Packer:
    packer = Packer()
    for value in values:
        packer.add(value)
    return packer


def floats(n_bytes: int = FILE_BYTES) -> Any:
    return np.arange(n_bytes // 8, dtype="f8")


# --- in flight -------------------------------------------------------------------------------------------------------


class Admitted:
    """Admits in a task of its own, and says when."""

    def __init__(self, way_out: Outgoing, n_bytes: int) -> None:
        self.way_out, self.n_bytes = way_out, n_bytes
        self.load: Any = None
        self.is_in = anyio.Event()
        self.scope = anyio.CancelScope()

    async def __call__(self) -> None:
        """Wait until it is let in."""
        with self.scope:
            self.load = await self.way_out.admit(self.n_bytes)
            self.is_in.set()


async def looked(way_out: Outgoing, monkeypatch: pytest.MonkeyPatch, times: int = 3) -> None:
    """Wait until whoever waits has looked again, several times."""
    done, count = anyio.Event(), [0]
    really = anyio.sleep

    async def sleep(seconds: float) -> None:
        count[0] += 1
        if count[0] > times:
            done.set()
        await really(seconds)

    with monkeypatch.context() as patch:
        patch.setattr("offloop.outgoing.anyio.sleep", sleep)
        with anyio.fail_after(10):
            await done.wait()


async def test_loads_count_while_they_live(anyio_backend: object) -> None:
    """What is in flight is the sum of the loads that somebody refers to."""
    way_out = outgoing(100)
    loads = [await way_out.admit(30), await way_out.admit(70)]
    assert way_out.bytes_in_flight == 100
    del loads[0]
    assert way_out.bytes_in_flight == 70
    loads.clear()
    assert way_out.bytes_in_flight == 0


async def test_what_is_too_much_waits(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a message waits, and goes on once the others have left so much room."""
    way_out = outgoing(100)
    first, second = await way_out.admit(60), await way_out.admit(40)
    late = Admitted(way_out, 41)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late)
        await looked(way_out, monkeypatch)
        del second
        await looked(way_out, monkeypatch)
        assert not late.is_in.is_set()
        del first
        with anyio.fail_after(10):
            await late.is_in.wait()
    assert way_out.bytes_in_flight == 41


async def test_what_fits_does_not_wait(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small message passes a large one that waits; nothing at all passes always."""
    way_out = outgoing(100)
    held = await way_out.admit(100)
    late = Admitted(way_out, 90)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late)
        await looked(way_out, monkeypatch)
        nothing = await way_out.admit(0)
        del held
        with anyio.fail_after(10):
            await late.is_in.wait()
            small = await way_out.admit(10)
    assert nothing is not None
    assert small is not None
    assert way_out.bytes_in_flight == 100


async def test_what_is_larger_than_the_limit_goes_alone(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes when nothing else is in flight, so that it comes through at all; others wait for it."""
    way_out = outgoing(100)
    small = await way_out.admit(1)
    large, after = Admitted(way_out, 1000), Admitted(way_out, 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(large)
        await looked(way_out, monkeypatch)
        assert not large.is_in.is_set()
        del small
        with anyio.fail_after(10):
            await large.is_in.wait()
        assert way_out.bytes_in_flight == 1000
        tasks.start_soon(after)
        await looked(way_out, monkeypatch)
        assert not after.is_in.is_set()
        large.load = None
        with anyio.fail_after(10):
            await after.is_in.wait()


async def test_cancelled_while_it_waits(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is cancelled while it waits takes no room, and those behind it go on."""
    way_out = outgoing(100)
    held = await way_out.admit(80)
    cancelled, other = Admitted(way_out, 50), Admitted(way_out, 60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancelled)
        tasks.start_soon(other)
        await looked(way_out, monkeypatch)
        cancelled.scope.cancel()
        await looked(way_out, monkeypatch)
        assert way_out.bytes_in_flight == 80
        del held
        with anyio.fail_after(10):
            await other.is_in.wait()
    assert cancelled.load is None
    assert way_out.bytes_in_flight == 60


async def test_many_at_a_time_never_exceed_the_limit(anyio_backend: object) -> None:
    """However many tasks ask at once, what is in flight stays within the limit, and all come through."""
    way_out = outgoing(100)
    most, n_done = 0, 0

    async def send(n_bytes: int) -> None:
        nonlocal most, n_done
        load = await way_out.admit(n_bytes)
        most = max(most, way_out.bytes_in_flight)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        n_done += 1
        del load

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(send, 10 + number)
    assert n_done == 40
    assert 50 < most <= 100
    assert way_out.bytes_in_flight == 0


@pytest.mark.parametrize(
    ("available", "limit"),
    [(0, _LEAST_BYTES), (MIB, _LEAST_BYTES), (8 * 1024 * MIB, 8 * 1024 * MIB // _SHARE_OF_MEMORY), (None, _LEAST_BYTES)],
    ids=["none free", "little free", "much free", "not known"],
)
async def test_the_default_limit_is_by_memory(anyio_backend: object, available: int | None, limit: int) -> None:
    """Unless it is set, a share of what memory is free may be in flight, and a little always."""
    system = MadeSystem() if available is None else machine(available)
    way_out = outgoing(None, system)
    held = await way_out.admit(limit - MIB)
    with anyio.fail_after(10):
        more = await way_out.admit(MIB)
    with anyio.move_on_after(0) as scope:
        await way_out.admit(1)
    assert scope.cancelled_caught
    assert way_out.bytes_in_flight == limit
    del held, more


async def test_memory_is_looked_at_only_if_it_matters(anyio_backend: object) -> None:
    """As long as little is in flight, nothing is read."""
    system = machine(8 * 1024 * MIB)
    way_out = outgoing(None, system)
    loads = [await way_out.admit(_LEAST_BYTES // 8) for _ in range(8)]
    assert system.has_read == []
    loads.append(await way_out.admit(1))
    assert system.has_read


# --- storing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["store", "keep"])
def test_what_has_no_room_is_an_error(store: str) -> None:
    """What memory has no room for is refused, with both figures, before a byte of it is written."""
    packer: Any = Large(300 * MIB)
    packer.spans, packer.parts = [], [None]
    with pytest.raises(PayloadTooLarge) as caught:
        getattr(outgoing(None, machine(200 * MIB)), store)(packer)
    assert (caught.value.needed_bytes, caught.value.available_bytes) == (300 * MIB, 200 * MIB)
    assert f"{300 * MIB:,}" in str(caught.value)
    assert f"{200 * MIB:,}" in str(caught.value)
    assert not packer.was_stored
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("system", [machine(300 * MIB), MadeSystem()], ids=["just enough", "not known"])
def test_what_may_have_room_is_tried(system: MadeSystem) -> None:
    """What just fits is stored, and so is anything where nobody tells what is free."""
    packer: Any = Large(300 * MIB)
    outgoing(None, system).store(packer)
    assert packer.was_stored


def test_what_is_small_goes_with_the_message() -> None:
    """Less than is worth a file is neither stored nor kept, and memory isn't looked at for it."""
    system = machine(MIB)
    way_out = outgoing(None, system)
    packer = packed(floats(FILE_BYTES - 8))
    assert packer.n_bytes
    assert way_out.store(packer) is None
    assert way_out.keep(packer) is None
    assert system.has_read == []


def test_what_is_stored_is_in_a_file() -> None:
    """What is worth a file is written to one of the session's kind."""
    file = outgoing().store(packed(floats()))
    assert file is not None
    assert np.frombuffer(file.view(0, FILE_BYTES)).tolist() == floats().tolist()


def no_file(*_: Any, **__: Any) -> Any:
    raise OSError(24, "no descriptor left")


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no memory file to be had."""
    monkeypatch.setattr(os, "memfd_create", no_file)
    monkeypatch.setattr("tempfile.TemporaryFile", no_file)


def test_no_file_is_told_once(no_files: None) -> None:
    """Where no file can be had the message goes as it is, and one piece of advice says what to look at."""
    way_out = outgoing()
    with w.heard("parallel.guidance") as told:
        for _ in range(3):
            assert way_out.store(packed(floats())) is None
        assert way_out.keep(packed(floats())) is None
    (event,) = told
    assert event.topic == "transport"
    assert f"{FILE_BYTES:,}" in event.advice
    assert "ulimit -n" in event.advice


def test_what_is_kept_lives_while_referred_to() -> None:
    """A segment keeps the memory that leads to it, and its end is told, so that workers can drop it."""
    ended: list[int] = []
    way_out = Outgoing(Storage("memory"), MadeSystem(), None, lambda: ended.append(1))
    packer = packed(floats())
    segment = way_out.keep(packer)
    assert segment is not None
    number = segment.number
    (span,) = packer.spans
    start = span.start
    del packer, span
    gc.collect()
    assert address(segment.keeps[0]) == start
    assert segment.part is None
    assert (ended, number in alive) == ([], True)
    del segment
    assert (ended, number in alive) == ([1], False)


# --- sharing ---------------------------------------------------------------------------------------------------------


def test_sharing_at_once_is_done_in_a_thread() -> None:
    """The copy is made in a thread of its own; whoever asks for it meanwhile waits, and gets that one."""
    way_out = outgoing()
    array = floats(64 * FILE_BYTES)
    before = set(alive)
    way_out.share(array, at_once=True)
    way_out.shares.store_pending()
    assert len(alive - before) == 1
    way_out.close()
    assert alive - before == set()


def test_sharing_later_stores_nothing_yet() -> None:
    """Where nothing may ever leave this process nothing is copied."""
    way_out = outgoing()
    before = set(alive)
    array = floats()
    way_out.share(array, at_once=False)
    assert not any(thread.name == "offloop-share" for thread in threading.enumerate())
    assert alive == before
    way_out.close()
    way_out.shares.store_pending()
    assert alive == before


def test_closing_waits_for_what_is_being_stored() -> None:
    """After closing no thread and no file is left, though several copies were still being made."""
    way_out = outgoing()
    arrays = [floats(64 * FILE_BYTES) for _ in range(8)]
    before = set(alive)
    for array in arrays:
        way_out.share(array, at_once=True)
    way_out.close()
    assert not any(thread.name == "offloop-share" for thread in threading.enumerate())
    assert alive == before
