"""sharing.py: which memory of this process workers have already."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from offloop.errors import PayloadTooLarge
from offloop.sharing import Ledger, Shares, is_frozen
from offloop.wire.buffers import BUFFER_BYTES, Packer, Segment, Span, address, alive
from offloop.wire.memory import MemoryFile
from offloop.wire.storage import Storage

LARGE = 4 * BUFFER_BYTES


def floats(n_bytes: int = LARGE) -> Any:
    return np.arange(n_bytes // 8, dtype="f8")


def a_segment() -> Segment:
    return Segment(MemoryFile((), 1, 0))


class Owner:
    """Can be referred to weakly."""


# --- the ledger ------------------------------------------------------------------------------------------------------

SPANS = st.tuples(st.integers(0, 60), st.integers(1, 40), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans())


@given(entries=st.lists(SPANS, max_size=14), asked=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 30)), max_size=20))
def test_what_is_found_is_there(
    entries: list[tuple[int, int, int, bool, bool, bool]], asked: list[tuple[int, int]]
) -> None:
    """Memory is found just where a living entry holds all of it, however spans overlap, and at the right offset."""
    inner, outer = Ledger(), Ledger()
    inner = Ledger(outer)
    living, owners = [], []
    for start, size, gap, is_alive, is_owned, is_outer in entries:
        segment, owner = a_segment(), Owner()
        span = Span(start, size, 64 * gap, memoryview(b""))
        (outer if is_outer else inner).add(segment, [span], weakref.ref(owner) if is_owned else None)
        if is_alive:
            living.append((segment, span))
            owners.append(owner)
        elif is_owned:
            owners.append(segment)  # it lives on, and its owner doesn't
        del segment, owner
    for start, n_bytes in asked:
        expected = {
            (segment.number, span.offset + start - span.start)
            for segment, span in living
            if span.start <= start and start + n_bytes <= span.start + span.n_bytes
        }
        found = inner.find(start, n_bytes)
        if found is None:
            assert not expected
        else:
            assert (found[0].number, found[1]) in expected


def test_spans_within_spans_are_found() -> None:
    """Of memory that lies in several spans one is found, also where many others begin in between."""
    segment, ledger = a_segment(), Ledger()
    ledger.add(segment, [Span(0, 1000, 0, memoryview(b"")), *(Span(i, 5, 2048 + i, memoryview(b"")) for i in range(1, 15))])
    assert ledger.find(50, 900) == (segment, 50)
    assert ledger.find(3, 900) == (segment, 3)


def test_the_own_ledger_is_asked_first() -> None:
    """What a run has stored counts before what the session shares; behind its own, the other one is asked."""
    ours, shared = a_segment(), a_segment()
    outer = Ledger()
    outer.add(shared, [Span(0, 100, 0, memoryview(b"")), Span(500, 10, 0, memoryview(b""))])
    inner = Ledger(outer)
    inner.add(ours, [Span(0, 100, 0, memoryview(b""))])
    assert inner.find(10, 10) == (ours, 10)
    assert inner.find(505, 5) == (shared, 5)
    assert outer.find(10, 10) == (shared, 10)


def test_dead_entries_are_cleared_away() -> None:
    """What is dead takes no room among those that are looked at: behind many of them the living one is found."""
    ledger, segment = Ledger(), a_segment()
    ledger.add(segment, [Span(0, 1000, 0, memoryview(b""))])
    for _ in range(3):
        dead = a_segment()
        ledger.add(dead, [Span(10 + i, 5, 0, memoryview(b"")) for i in range(30)])
    del dead
    ledger.add(segment, [Span(5000, 1, 64, memoryview(b""))])
    assert ledger.find(50, 900) == (segment, 50)


def test_threads_may_ask_meanwhile() -> None:
    """Spans are added in several threads while others ask, and none is lost."""
    ledger, segments = Ledger(), [a_segment() for _ in range(4)]

    def add(number: int) -> None:
        for k in range(60):
            at = 10 * (4 * k + number)
            ledger.add(segments[number], [Span(at, 10, at, memoryview(b""))])
            assert ledger.find(at, 10) == (segments[number], at)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ledger.find(10 * i, 10) == (segments[i % 4], 10 * i) for i in range(240))


# --- what is shared --------------------------------------------------------------------------------------------------


class Keeper:
    """Stores like a session, and says what."""

    def __init__(self) -> None:
        self.storage = Storage("memory")
        self.stored: list[int] = []
        self.refuses = self.is_too_large = False
        self.meanwhile: Any = None

    def __call__(self, packer: Packer, keeps: list[Any]) -> Segment | None:
        """Store what is in a packer."""
        self.stored.append(packer.n_bytes)
        if self.meanwhile is not None:
            self.meanwhile()
        if self.is_too_large:
            raise PayloadTooLarge(packer.n_bytes, 1)
        file = None if self.refuses else packer.store(self.storage)
        return None if file is None else Segment(file, packer.parts[0], keeps)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def shares(keeper: Keeper) -> Iterator[Shares]:
    """Nothing shared yet."""
    made = Shares(keeper)
    yield made
    made.clear()


def shared(shares: Shares, value: Any) -> Any:
    shares.add(value)
    shares.store_pending()
    return value


def found(shares: Shares, array: Any) -> tuple[Segment, int] | None:
    start = address(memoryview(array).cast("B"))
    assert start is not None
    return shares.ledger.find(start, array.nbytes)


def test_it_is_stored_once(shares: Shares, keeper: Keeper) -> None:
    """An object is stored when that is asked for, once, however often it is shared."""
    array = floats()
    shares.add(array)
    assert keeper.stored == []
    for _ in range(3):
        shares.store_pending()
        shares.add(array)
    assert keeper.stored == [array.nbytes]


def test_it_is_stored_once_by_all_threads(shares: Shares, keeper: Keeper) -> None:
    """Whoever asks while another thread is storing waits for that, and finds it."""
    arrays = [floats() for _ in range(8)]
    for array in arrays:
        shares.add(array)
    misses: list[Any] = []

    def ask() -> None:
        shares.store_pending()
        misses.extend(array for array in arrays if found(shares, array) is None)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keeper.stored == [LARGE] * 8
    assert misses == []


def test_views_are_found(shares: Shares) -> None:
    """Any part of a shared array is found at its offset, memory beside it is not."""
    array, beside = shared(shares, floats()), floats()
    segment, offset = found(shares, array) or (None, -1)
    assert offset == 0
    assert found(shares, array[100:200]) == (segment, 800)
    assert found(shares, array.reshape(2, -1)[1]) == (segment, LARGE // 2)
    assert found(shares, beside) is None


@pytest.mark.parametrize(
    "make",
    [
        floats,
        lambda: floats().reshape(-1, 8)[:, 2:].copy("F"),
        lambda: pd.DataFrame(floats().reshape(-1, 4)),
        lambda: pd.DataFrame({"a": floats(), "b": np.arange(LARGE // 8)}),
        lambda: pd.Series(floats()),
        lambda: sp.csr_array(np.eye(300)[:, :200] + 1),
        lambda: {"a": floats(), "b": [floats()]},
        lambda: pa.table({"x": floats()}),
    ],
    ids=["array", "Fortran", "frame", "columns", "series", "sparse", "dict", "Arrow"],
)
def test_what_is_in_it_is_found(shares: Shares, keeper: Keeper, make: Any) -> None:
    """All large buffers of an object are found: sending it again stores nothing."""
    value = shared(shares, make())
    assert keeper.stored[0] >= LARGE // 2
    packer = Packer(shares.ledger.find, shares.values)
    packer.add([value, value])
    assert (packer.n_bytes, len(packer.segments)) == (0, 1)


def test_it_ends_with_the_object(shares: Shares) -> None:
    """Dropping the object frees its memory at once, and what then lies at that address isn't taken for it."""
    array = shared(shares, floats())
    segment, _ = found(shares, array) or (None, 0)
    assert segment is not None
    number, start = segment.number, address(memoryview(array).cast("B"))
    del segment, array
    assert number not in alive
    assert shares.ledger.find(start or 0, LARGE) is None


def test_it_ends_with_a_frame(shares: Shares) -> None:
    """So does dropping an object that holds arrays, though these were stored and not itself."""
    frame = pd.DataFrame({"a": floats(), "b": ["text"] * (LARGE // 8)})
    before = set(alive)
    shared(shares, frame)
    (number,) = alive - before
    del frame
    gc.collect()
    assert number not in alive


def test_an_object_may_be_dropped_before_it_is_stored(shares: Shares, keeper: Keeper) -> None:
    """What is dropped or released before its turn is not stored."""
    array, other = floats(), floats()
    shares.add(array)
    shares.add(other)
    shares.release(other)
    del array
    shares.store_pending()
    assert keeper.stored == []


def test_what_is_in_flight_is_kept(shares: Shares) -> None:
    """A message that refers to it keeps it, whoever drops or releases it meanwhile."""
    array = shared(shares, floats())
    packer = Packer(shares.ledger.find)
    packer.add(array)
    message = packer.message(None)
    del packer
    number = message.segments[0].number
    assert shares.release(array)
    assert number in alive
    del message
    assert number not in alive


def test_an_address_is_no_identity(shares: Shares) -> None:
    """While a message keeps a segment whose object is gone, other data at the same address is not taken for it."""
    array = shared(shares, floats())
    start = address(memoryview(array).cast("B")) or 0
    segment, _ = found(shares, array) or (None, 0)
    assert segment is not None
    del array
    gc.collect()
    assert segment.number in alive
    assert shares.ledger.find(start, LARGE) is None


PARTS: dict[str, Any] = {
    "column": lambda frame: frame["a"].to_numpy(),
    "whole": lambda frame: frame.to_numpy(),
    "view of a column": lambda frame: frame["b"].to_numpy()[100:],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_what_outlives_the_object(shares: Shares, part: Any) -> None:
    """A part of a shared object that is kept after the object is dropped travels as what it is then."""
    frame = shared(shares, pd.DataFrame({"a": floats(), "b": floats()}))
    kept = part(frame)
    del frame
    gc.collect()
    packer = Packer(shares.ledger.find)
    packer.add(kept)
    assert packer.n_bytes == kept.nbytes
    assert packer.segments == {}


def test_released_means_not_shared(shares: Shares, keeper: Keeper) -> None:
    """Releasing says whether it was shared; it may be shared again and is stored anew, as it is then."""
    array = shared(shares, floats())
    assert shares.release(array) is True
    assert shares.release(array) is False
    assert found(shares, array) is None
    shared(shares, array)
    assert found(shares, array) is not None
    assert keeper.stored == [LARGE] * 2


def test_clearing_frees_everything(shares: Shares) -> None:
    """Nothing is kept afterwards, of whatever kind."""
    before = set(alive)
    values = [floats(), {str(i): "x" * 20 for i in range(9000)}, [floats()], pd.DataFrame({"a": floats()})]
    for value in values:
        shared(shares, value)
    assert len(alive - before) == 4
    shares.clear()
    assert alive - before == set()
    assert shares.values == {}
    assert not any(shares.release(value) for value in values)


def test_lists_are_held(shares: Shares) -> None:
    """What can't be referred to weakly is kept until it is released: then it goes with everything that it holds."""
    inner = floats()
    gone = weakref.ref(inner)
    value = shared(shares, [inner])
    key = id(value)
    assert found(shares, inner) is not None
    del value, inner
    gc.collect()
    (held,) = [share.value for share in shares._shares.values() if id(share.value) == key]
    assert gone() is held[0]
    assert shares.release(held)
    del held
    gc.collect()
    assert gone() is None


def test_large_pickles_are_sent_as_a_whole(shares: Shares, keeper: Keeper) -> None:
    """An object that is large in other ways than by its buffers is referred to itself, wherever it stands."""
    table = shared(shares, {str(i): "x" * 20 for i in range(9000)})
    assert [*shares.values] == [id(table)]
    packer = Packer(shares.ledger.find, shares.values)
    packer.add(("inside", [table], {"of": table}))
    assert (packer.n_bytes, len(packer.segments)) == (0, 1)
    assert not packer.parts[0].is_large
    shares.release(table)
    assert shares.values == {}


def test_another_object_with_its_id_is_not_taken_for_it(shares: Shares) -> None:
    """Once an object that was sent as a whole is dropped, nothing else is sent in its name."""

    class Table(dict[str, str]):
        """A dict that can be referred to weakly."""

    globals()["Table"] = Table
    Table.__qualname__ = "Table"
    try:
        table = shared(shares, Table({str(i): "x" * 20 for i in range(9000)}))
        assert [*shares.values] == [id(table)]
        del table
        assert shares.values == {}
    finally:
        del globals()["Table"]


@pytest.mark.parametrize("value", [3, "text", (), [1, 2], np.zeros(3), None, len], ids=repr)
def test_small_things_are_not_worth_it(shares: Shares, keeper: Keeper, value: Any) -> None:
    """Sharing what is small is harmless: it travels as ever."""
    keeper.refuses = True
    before = set(alive)
    shared(shares, value)
    assert alive == before
    packer = Packer(shares.ledger.find, shares.values)
    packer.add([value])
    assert not packer.segments


def test_what_cannot_be_pickled_is_left_alone(shares: Shares, keeper: Keeper) -> None:
    """Sharing what can't be pickled raises nothing: whoever sends it will hear why; others are shared all the same."""
    lock = [threading.Lock(), floats()]
    shares.add(lock)
    array = shared(shares, floats())
    assert keeper.stored == [LARGE]
    assert found(shares, array) is not None
    assert shares.release(lock)


class Exits:
    """Ends the thread that pickles it."""

    def __reduce__(self) -> Any:
        """Exit."""
        raise SystemExit(3)


def test_what_exits_while_it_is_pickled_is_left_alone(shares: Shares) -> None:
    """Not even what raises SystemExit keeps others from being shared, or fails whoever sends something else."""
    shares.add([Exits(), floats()])
    array = shared(shares, floats())
    assert found(shares, array) is not None


def test_a_defect_is_told_once(shares: Shares, keeper: Keeper) -> None:
    """What else goes wrong while something is stored is raised to the first who asks, and doesn't stay in the way."""

    def fail() -> None:
        raise OSError("broken")

    keeper.meanwhile = fail
    array = floats()
    shares.add(array)
    with pytest.raises(OSError, match="broken"):
        shares.store_pending()
    keeper.meanwhile = None
    shares.store_pending()
    other = shared(shares, floats())
    assert found(shares, array) is None
    assert found(shares, other) is not None


@pytest.mark.parametrize("again", [False, True])
def test_released_while_it_is_being_stored(shares: Shares, keeper: Keeper, again: bool) -> None:
    """What is released while it is stored is not shared afterwards, unless it was shared again: then it is stored anew."""
    before = set(alive)
    table, array = {str(i): "x" * 20 for i in range(9000)}, floats()

    def release() -> None:
        keeper.meanwhile = None
        for value in (table, array):
            assert shares.release(value)
            if again:
                shares.add(value)

    keeper.meanwhile = release
    shares.add(table)
    shares.add(array)
    shares.store_pending()
    assert (len(alive - before), len(shares.values)) == ((2, 1) if again else (0, 0))
    assert (found(shares, array) is not None) is again


def test_what_has_no_room_is_left_alone(shares: Shares, keeper: Keeper) -> None:
    """So does sharing what memory has no room for: it travels as ever, or fails then."""
    keeper.is_too_large = True
    array = shared(shares, floats())
    assert found(shares, array) is None
    keeper.is_too_large = False
    other = shared(shares, floats())
    assert found(shares, other) is not None


def test_what_is_shared_is_as_it_was_stored(shares: Shares) -> None:
    """What is written into an object after it was stored isn't in the copy."""
    array = shared(shares, floats())
    segment, offset = found(shares, array) or (None, 0)
    assert segment is not None
    array[:] = -1
    assert np.frombuffer(segment.file.read(offset, LARGE)).tolist() == floats().tolist()


# --- what nobody can write to ----------------------------------------------------------------------------------------


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def frozen_view_of_writable() -> Any:
    view = floats()[10:]
    view.flags.writeable = False
    return view


def arrow_over_writable() -> Any:
    return pa.py_buffer(bytearray(LARGE))


FROZEN: dict[str, tuple[Any, bool]] = {
    "array": (floats, False),
    "read-only": (lambda: read_only(floats()), True),
    "a view of it": (lambda: read_only(floats())[10:], True),
    "reshaped twice": (lambda: read_only(floats()).reshape(2, -1)[1].view("i8"), True),
    "read-only view": (frozen_view_of_writable, False),
    "bytes": (lambda: bytes(LARGE), True),
    "over bytes": (lambda: np.frombuffer(bytes(LARGE)), True),
    "a view over bytes": (lambda: np.frombuffer(bytes(LARGE))[7:].reshape(-1, 1), True),
    "bytearray": (lambda: bytearray(LARGE), False),
    "over a bytearray": (lambda: np.frombuffer(bytearray(LARGE)), False),
    "read-only, over a bytearray": (lambda: read_only(np.frombuffer(bytearray(LARGE))), False),
    "read-only memoryview": (lambda: memoryview(bytearray(LARGE)).toreadonly(), False),
    "Arrow": (lambda: pa.array(floats()).buffers()[1], False),
    "Arrow, of its own": (lambda: pa.array(range(LARGE)).buffers()[1], False),
    "Arrow over bytes": (lambda: pa.py_buffer(bytes(LARGE)), True),
    "Arrow over a bytearray": (arrow_over_writable, False),
}


@pytest.mark.parametrize(("make", "expected"), FROZEN.values(), ids=FROZEN)
def test_what_nobody_can_write_to(make: Any, expected: bool) -> None:
    """A buffer is frozen only if it and all that it is a view of are read-only."""
    raw = memoryview(make())
    assert is_frozen(raw) is expected
